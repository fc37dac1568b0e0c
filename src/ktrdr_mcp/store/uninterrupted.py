"""Work that a cancelled caller must not leave half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")


async def uninterrupted(work: Coroutine[Any, Any, Value]) -> Value:
    """Waits for short work to end even if the caller is cancelled meanwhile.

    Args:
        work: a coroutine that ends soon by itself, such as a commit.
    Returns:
        what the work returned.
    Raises:
        CancelledError: the caller was cancelled; the work has ended nevertheless, or failed, which
            is the error's cause. A caller that tries again would else never hear that it must end.
        BaseException: the work's own failure.
    """
    task = asyncio.ensure_future(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            interruption = error
        except BaseException:
            break  # the work's own failure, raised again below
    if interruption is None or task.cancelled():
        return task.result()
    raise interruption from task.exception()
