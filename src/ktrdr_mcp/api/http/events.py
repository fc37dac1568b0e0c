"""Server-sent events: a task's progress as it happens, until its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from ktrdr_mcp.api.operations import TERMINAL
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas.requests import GetTrainingStatus
from ktrdr_mcp.schemas.responses import TrainingStatus
from ktrdr_mcp.schemas.service import ServiceProtocol

KEEP_ALIVE_S: Final = 10.0
RECONNECT: Final = b"retry: 2000\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"
END: Final = "end"  # name and id of the last event

log = logging.getLogger(__name__)


def event(status: TrainingStatus) -> bytes:
    """A status as one event: `progress` with the epoch as its id, or `end`."""
    ended = status.status in TERMINAL
    name, number = (END, END) if ended else ("progress", str(status.current_epoch))
    return f"event: {name}\nid: {number}\ndata: {status.model_dump_json()}\n\n".encode()


class Newest:
    """The newest status that nobody has taken yet: a slow reader skips, and nothing piles up."""

    def __init__(self) -> None:
        self.status: TrainingStatus | None = None
        self.changed = asyncio.Event()

    async def put(self, status: TrainingStatus) -> None:
        """Replaces what has not been taken."""
        self.status = status
        self.changed.set()

    async def take(self) -> TrainingStatus | None:
        """The newest status since the last call; None after some time without one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEEP_ALIVE_S):
                await self.changed.wait()
        self.changed.clear()
        status, self.status = self.status, None
        return status


async def watch(service: ServiceProtocol, task_id: str, newest: Newest) -> None:
    """Follows a task to its end, or to the service's.

    Args:
        service: where the task runs.
        task_id: which task.
        newest: gets every status.
    """
    clock = asyncio.get_running_loop().time
    request = GetTrainingStatus(task_id=task_id, wait_s=KEEP_ALIVE_S)
    while True:
        began = clock()
        status = await service.get_training_status(request, newest.put)
        await newest.put(status)
        # Only a service that shuts down answers early without an end.
        if status.status in TERMINAL or clock() - began < KEEP_ALIVE_S / 2:
            return


def as_it_is(status: TrainingStatus) -> TrainingStatus:
    """The status itself."""
    return status


async def event_stream(
    service: ServiceProtocol,
    first: TrainingStatus,
    form: Callable[[TrainingStatus], TrainingStatus] = as_it_is,
) -> AsyncIterator[bytes]:
    """The events of a task, beginning with where it stands.

    It ends with `end`; without that, the service has shut down or cannot read the task.

    Args:
        service: where the task runs.
        first: the task as it is now.
        form: as whom statuses are told.
    """
    yield RECONNECT + event(form(first))
    if first.status in TERMINAL:
        return
    newest, told = Newest(), first
    watching = asyncio.create_task(watch(service, first.task_id, newest))
    watching.add_done_callback(lambda _: newest.changed.set())
    try:
        while not watching.done() or newest.status is not None:
            status = await newest.take()
            if status is not None and status != told:
                told = status
                yield event(form(status))
            elif not watching.done():
                yield KEEP_ALIVE
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError, KtrdrError):
            await watching
