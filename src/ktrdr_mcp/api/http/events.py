"""Server-sent events: a task's progress as it happens, until its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from ktrdr_mcp.api.operations import CHANGE_TIMEOUT_S, LIST_TRAINING_TASKS, TERMINAL, next_states
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas.requests import GetTrainingStatus, ListTasks
from ktrdr_mcp.schemas.responses import ResourceStates, TrainingStatus
from ktrdr_mcp.schemas.service import OnProgress, ServiceProtocol

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


async def watch(service: ServiceProtocol, task_id: str, put: OnProgress) -> None:
    """Follows a task to its end, or to the service's.

    Args:
        service: where the task runs.
        task_id: which task.
        put: gets every status.
    """
    clock = asyncio.get_running_loop().time
    request = GetTrainingStatus(task_id=task_id, wait_s=KEEP_ALIVE_S)
    while True:
        began = clock()
        status = await service.get_training_status(request, put)
        await put(status)
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
    watching = asyncio.create_task(watch(service, first.task_id, newest.put))
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


MOST_FOLLOWED: Final = 64
CHANGED: Final = b"event: tasks\ndata: {}\n\n"  # tasks, models or strategies are others than before


class Followed:
    """The newest status of each task that runs; a slow reader skips, and nothing piles up.

    Args:
        service: where the tasks run.
    """

    def __init__(self, service: ServiceProtocol) -> None:
        self._service = service
        self._newest: dict[str, TrainingStatus] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self.has_changed = False
        self.news = asyncio.Event()

    async def look(self) -> None:
        """Follows what runs and notices other changes until the service ends. Raises KtrdrError."""
        clock = asyncio.get_running_loop().time
        seen: ResourceStates | None = None
        while True:
            began = clock()
            now = await next_states(self._service, [], seen)
            if seen is None or now.mark != seen.mark:
                self.has_changed = True
                self.news.set()
                await self._follow_running()
            elif (
                clock() - began < CHANGE_TIMEOUT_S / 2
            ):  # only a service that shuts down answers early
                return
            seen = now

    async def _follow_running(self) -> None:
        """Follows each task that runs, however many newer ones wait. Raises KtrdrError."""
        asked = ListTasks(limit=MOST_FOLLOWED, status="training")
        page = await LIST_TRAINING_TASKS(self._service, asked)
        watching = self._watching.items()
        self._watching = {name: task for name, task in watching if not task.done()}
        for task in page.tasks:
            if task.task_id not in self._watching:
                following = asyncio.create_task(self._follow(task.task_id))
                self._watching[task.task_id] = following

    async def _follow(self, name: str) -> None:
        """Takes every status of a task to its end."""
        with contextlib.suppress(KtrdrError):
            await watch(self._service, name, self.put)

    async def put(self, status: TrainingStatus) -> None:
        """Replaces what has not been taken of this task."""
        self._newest[status.task_id] = status
        self.news.set()

    def take(self) -> list[TrainingStatus]:
        """The newest statuses since the last call."""
        found, self._newest = list(self._newest.values()), {}
        return found

    async def close(self) -> None:
        """Follows nothing any more."""
        watching = list(self._watching.values())
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def all_events(service: ServiceProtocol) -> AsyncIterator[bytes]:
    """The events of every task that runs, and `tasks` where the list of them has changed."""
    followed = Followed(service)
    looking = asyncio.create_task(followed.look())
    looking.add_done_callback(lambda _: followed.news.set())
    try:
        yield RECONNECT
        while not looking.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await followed.news.wait()
            followed.news.clear()
            events = [event(status) for status in followed.take()]
            if followed.has_changed:
                followed.has_changed = False
                events.append(CHANGED)
            yield b"".join(events) or KEEP_ALIVE
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError, KtrdrError):
            await looking
        await followed.close()
