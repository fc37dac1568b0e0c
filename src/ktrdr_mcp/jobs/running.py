"""Claimed tasks and parts: how far each has come, and what its run's end and death mean for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.jobs.executors.base import Begun, Ended, Envelope, Event, Executor, Handle, Reported
from ktrdr_mcp.jobs.fit import own_versions
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import Status, is_unstored
from ktrdr_mcp.jobs.worker import NO_RESULTS, failure_of
from ktrdr_mcp.store.db import finish
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.tasks import TaskStore

if TYPE_CHECKING:
    from ktrdr_mcp.jobs.parts import Group

PAUSES: Final = (5, 30, 120, 600, 1_200, 1_800)  # before each further run, in units of retry_s
MAX_WARNING_CHARACTERS: Final = 77  # so that a status stays within its bytes

log = logging.getLogger(__name__)


class Running:
    """A claimed task: how far it has come, and the way to its worker. On the event loop only.

    Args:
        row: the task as it was claimed.
        publish: called when there is progress.
    """

    def __init__(self, row: TaskRow, publish: Callable[[], None]) -> None:
        self.row = row
        self.live = Live()
        self.went_on = asyncio.Event()  # it is known anew where the run begins
        self.stored = (row.current_epoch, row.progress)  # where the attempt before began
        self.stop_requested = False
        self.draining = False
        self.idle = False  # its row says that nothing of it runs
        self.carrier: asyncio.Task[None] | None = None  # sees to its end
        self.group: Group | None = None  # of its parts, once it has asked for some
        self._publish = publish
        self._handle: Handle | None = None
        self._ended: asyncio.Future[Ended] | None = None
        self._stopped = asyncio.Event()

    def envelope(self) -> Envelope:
        """What its worker is given."""
        row = self.row
        memory_bytes = row.spec.get("memory_bytes", 0)  # not of what older versions stored
        results: Mapping[str, dict[str, Any]] = self.group.kept if self.group else NO_RESULTS
        return Envelope(
            row.task_id,
            row.attempt,
            row.generation or "",
            row.spec,
            memory_bytes,
            results=dict(results),
            versions=dict(own_versions()),
        )

    async def run(self, executor: Executor, directory: Path) -> Ended:
        """Runs the task once; whatever goes wrong becomes a value.

        Args:
            executor: where it runs.
            directory: where it leaves its files.
        """
        if self.stop_requested:
            return Ended(stopped=True)
        self._ended = asyncio.get_running_loop().create_future()
        try:
            self._handle = executor.submit(self.envelope(), directory)
            self._handle.attach(self.receive)
            return await self._ended
        except Exception as error:
            return Ended(failure=failure_of(error))
        finally:
            self._handle = None

    def receive(self, event: Event) -> None:
        """Takes what the run says."""
        if isinstance(event, Reported):
            self.live = self.live.with_epoch(event.progress, event.elapsed_s, event.figures)
            self._publish()
        elif isinstance(event, Begun):
            if self.group is None:  # else it goes on with what its parts have done
                self.begin(event)
        elif self._ended is not None and not self._ended.done():
            self._ended.set_result(event)

    def begin(self, event: Begun, share: float | None = None) -> None:
        """Takes where the run begins.

        Args:
            event: in whole epochs.
            share: of all its work, what earlier runs had done, where that is no whole epoch.
        """
        if share is None:
            share = event.epoch / max(1, self.row.total_epochs)
        self.live = self.live.with_start(event.epoch, event.reason, event.figures, share)
        self.went_on.set()

    def request_stop(self, draining: bool = False) -> None:
        """Asks the run to stop.

        Args:
            draining: whether its state is worth keeping; not once it was asked without.
        """
        self.draining = draining and (self.draining or not self.stop_requested)
        self.stop_requested = True
        self._stopped.set()
        if self._handle is not None:
            self._handle.stop(self.draining)
        if self.group is not None:
            self.group.request_stop(self.draining)

    async def wait_for_stop(self, seconds: float) -> bool:
        """Waits, between two runs, and says whether the training must stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self.stop_requested

    def warn(self, alarm: str) -> None:
        """Shows a warning until the next report."""
        self.live = self.live.with_warning(alarm[:MAX_WARNING_CHARACTERS])
        self._publish()

    def begin_again(self) -> None:
        """Prepares for a further run of the same attempt."""
        self.live = self.live.with_restart()


@asynccontextmanager
async def resetting_crashes(tasks: TaskStore, running: Running) -> AsyncIterator[None]:
    """Forgets them while the block runs, as soon as that is justified; see `reset_crashes`."""

    async def look() -> None:
        while True:
            await running.went_on.wait()
            running.went_on.clear()
            await reset_crashes(tasks, running)

    resetting = asyncio.create_task(look())
    try:
        yield
    finally:
        resetting.cancel()
        await asyncio.wait([resetting])


async def reset_crashes(tasks: TaskStore, running: Running) -> None:
    """Forgets the crashes of a task that goes on further than the attempt before did.

    The row then keeps for the next one where that is, in epochs and percent: of a search with few
    epochs, parts are done long before a whole one is.

    Args:
        tasks: the stored tasks.
        running: the claimed task.
    """
    row = running.row
    epoch, percent = running.live.resumed_epoch, running.live.resumed_percent
    stored_epoch, stored_percent = running.stored
    if row.crashes == 0 or (epoch <= stored_epoch and percent <= stored_percent):
        return  # the attempt that died had saved nothing new
    # A run that dies once it has published is not followed by another, which would say it anew.
    began = {"resumed_from": running.live.resumed_from, "current_epoch": epoch}
    changes = {**began, "crashes": 0, "progress": percent}
    status = Status.TRAINING
    try:
        await finish(tasks.move(row.task_id, {status}, status, row.fence, changes))
    except StorageError:
        log.warning("the crashes of task %s still count", row.task_id, exc_info=True)
    else:
        running.stored = (epoch, percent)


async def run_until_published(
    run: Callable[[], Awaitable[Ended]], running: Running, retry_s: float
) -> Ended:
    """Runs a job until its result is stored, it fails otherwise, or there is no more hope.

    Args:
        run: does the work once, from its newest checkpoint on.
        running: the claimed task.
        retry_s: the unit of the pauses.
    Returns:
        how the last run ended; stopped if that was asked for in a pause.
    """
    for pause in PAUSES:
        ended = await run()
        if ended.failure is None or not is_unstored(ended.failure, running.live):
            return ended
        message = ended.failure.message
        log.warning("the result of task %s is not stored yet: %s", running.row.task_id, message)
        running.warn(f"result not stored, tried again: {message}")
        if await running.wait_for_stop(pause * retry_s):
            return Ended(stopped=True)
        running.begin_again()
    return await run()
