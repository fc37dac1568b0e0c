"""How this process ends: signals, drain, forced exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import anyio

from ktrdr_mcp.errors import KtrdrError, quote, unwrap

log = logging.getLogger(__name__)


def end_process(code: int) -> NoReturn:
    """Ends this process without waiting for threads; everything is stored and closed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it has gone
            stream.flush()
    os._exit(code)


async def termination() -> None:
    """Returns on SIGTERM or SIGINT; a second one ends the process at once."""
    if os.name == "nt":  # no signal receivers there; closing standard input ends the server
        await asyncio.Event().wait()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


def end_at_once(stopped: asyncio.Future[None]) -> Callable[[], None]:
    """Ends this process when it is told to, rather than after a start that takes seconds.

    Args:
        stopped: done when the process is told to end.
    Returns:
        what to call before work can begin; until then, every step of a start may be repeated.
    """

    def end(future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            log.info("Told to end before any work began; everything is as it was")
            end_process(0)

    stopped.add_done_callback(end)

    def disarm() -> None:
        stopped.remove_done_callback(end)

    return disarm


@contextlib.contextmanager
def end_at_internal_errors() -> Iterator[None]:
    """Ends this process, which has a service, at an error that nobody foresaw.

    A training may be left inside a step of torch then, and would abort the interpreter's own exit:
    the process would seem to have crashed, and its code would say nothing of the error.

    Raises:
        KtrdrError: as the block raised it, also in a group.
        OSError: likewise; the command line can say what it means.
    """
    try:
        yield
    except Exception as group:
        error = unwrap(group)
        if isinstance(error, (KtrdrError, OSError)):
            raise
        description = f"{type(error).__name__}: {quote(str(error), 200)}"
        log.exception("An internal error of ktrdr-mcp ends this process: %s", description)
        end_process(1)
