"""The job queue: submit, claim, run, cancel, wait, recover, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias

from ktrdr_mcp import limits
from ktrdr_mcp.context import Cancelled
from ktrdr_mcp.errors import Draining, StorageError
from ktrdr_mcp.jobs.live import UNFINISHED_PERCENT_MAX, Live, Watches
from ktrdr_mcp.jobs.model import TERMINAL, Status, sources_of
from ktrdr_mcp.jobs.outcome import outcome_of, stage_of, standing
from ktrdr_mcp.jobs.threads import (
    Ended,
    FairLease,
    JobContext,
    ThreadExecutor,
    Work,
    configure_process,
)
from ktrdr_mcp.store.db import uninterrupted
from ktrdr_mcp.store.task_row import NewTask, TaskRow
from ktrdr_mcp.store.tasks import TaskStore

log = logging.getLogger(__name__)


@asynccontextmanager
async def resetting_crashes(
    tasks: TaskStore, row: TaskRow, context: JobContext
) -> AsyncIterator[None]:
    """Forgets them while the block runs, as soon as that is justified; see `forget_crashes`."""
    forgetting = asyncio.create_task(reset_crashes(tasks, row, context))
    try:
        yield
    finally:
        forgetting.cancel()
        await asyncio.wait([forgetting])


async def reset_crashes(tasks: TaskStore, row: TaskRow, context: JobContext) -> None:
    """Waits until it is known where a run begins; the row then keeps the epoch for the next one.

    Args:
        tasks: the stored tasks.
        row: the task as it was claimed.
        context: of its run.
    """
    if row.crashes == 0:
        return
    await context.began.wait()
    epoch = context.live.resumed_epoch
    if epoch <= row.current_epoch:  # the attempt that died had saved nothing new
        return
    percent = min(UNFINISHED_PERCENT_MAX, epoch * 100 // max(1, row.total_epochs))
    # A run that dies once it has published is not followed by another, which would say it anew.
    began = {"resumed_from": context.live.resumed_from, "current_epoch": epoch}
    changes = {**began, "crashes": 0, "progress": percent}
    running = Status.TRAINING
    try:
        await uninterrupted(tasks.move(row.task_id, {running}, running, row.fence, changes))
    except StorageError:
        log.warning("the crashes of task %s still count", row.task_id, exc_info=True)


PAUSES: Final = (5, 30, 120, 600, 1_200, 1_800)  # before each further run, in units of retry_s


async def until_published(
    run: Callable[[], Awaitable[Ended]], context: JobContext, task_id: str, retry_s: float
) -> Ended:
    """Runs a job until its result is stored, it fails otherwise, or there is no more hope.

    Args:
        run: does the work once, from its newest checkpoint on.
        context: of every run.
        task_id: whose runs they are, for the log.
        retry_s: the unit of the pauses.
    Returns:
        how the last run ended; Cancelled if it was asked to stop in a pause.
    """
    for pause in PAUSES:
        ended = await run()
        if (error := refusal(ended, context)) is None:
            return ended
        log.warning("the result of task %s is not stored yet: %s", task_id, error.message)
        context.warn(f"result not stored, tried again: {error.message}")
        if await context.stopped_within(pause * retry_s):
            return Ended(error=Cancelled())
        context.begin_again()
    return await run()


def refusal(ended: Ended, context: JobContext) -> StorageError | None:
    """What the workspace said if it alone kept a run from its result."""
    error = ended.error
    if isinstance(error, StorageError) and stage_of(error, context.live) == "publishing":
        return error
    return None


class OutcomeWriter:
    """The ends of all runs.

    Args:
        tasks: the stored tasks.
        clean_up: called in a thread with the id of each task that will not run again.
        retry_s: the pause after the database refused.
    """

    def __init__(self, tasks: TaskStore, clean_up: Callable[[str], None], retry_s: float) -> None:
        self._tasks = tasks
        self._clean_up = clean_up
        self._retry_s = retry_s

    async def write(self, row: TaskRow, ended: Ended, context: JobContext) -> None:
        """Writes the outcome, again and again while the database refuses."""
        while True:
            try:
                return await uninterrupted(self._write(row, ended, context))
            except StorageError:
                log.exception("the outcome of task %s could not be stored yet", row.task_id)
            except Exception as defect:  # the outcome itself cannot be stored
                ended = Ended(error=defect)
            await asyncio.sleep(self._retry_s)

    async def _write(self, row: TaskRow, ended: Ended, context: JobContext) -> None:
        """Writes the outcome, unless this run had lost its task."""
        outcome = outcome_of(row.task_id, ended, context.live, context.stop_requested)
        status: str | None
        if outcome is None:
            status = await self._tasks.release(row.task_id, row.fence, standing(context.live))
        else:
            allowed = sources_of(outcome.status)
            stored = await self._tasks.move(
                row.task_id, allowed, outcome.status, row.fence, outcome.columns
            )
            status = outcome.status if stored else None
        if status is None:
            log.error("attempt %d of task %s had lost its task", row.attempt, row.task_id)
        elif status in TERMINAL:
            await self.tidy(row.task_id)

    async def tidy(self, task_id: str) -> None:
        """Removes what only a further run would need; at the worst, the next start does it."""
        try:
            await asyncio.to_thread(self._clean_up, task_id)
        except Exception:
            log.exception("task %s left something behind", task_id)

    async def abandon(self, row: TaskRow) -> None:
        """Takes its task from a run that did not end in time for a drain."""
        try:
            await self._tasks.abandon(row.task_id, row.fence)
        except StorageError:
            log.exception("task %s will be counted as crashed", row.task_id)


OnProgress: TypeAlias = Callable[[Live], Awaitable[None]]

RETRY_S: Final = 1.0  # after the database refused


@dataclass(frozen=True)
class Running:
    """A claimed task, its line to the thread and the coroutine that sees to its end."""

    row: TaskRow
    context: JobContext
    carrier: asyncio.Task[None]


class JobManager:
    """Runs stored tasks, at most `concurrency` at a time, oldest first.

    Args:
        tasks: the stored tasks.
        work: what is done for each; the run, in a thread, returns {"metrics": ..., "columns": ...}.
        concurrency: the most tasks that run at once.
        max_pending: the most tasks that may wait.
        drain_s: how long leaving may wait for running steps to end.
        retry_s: the pause after the database refused.
    """

    def __init__(
        self,
        tasks: TaskStore,
        work: Work,
        *,
        concurrency: int = limits.CONCURRENT_TRAININGS,
        max_pending: int = limits.MAX_PENDING_TASKS,
        drain_s: float = limits.DRAIN_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self.generation = secrets.token_hex(16)  # the owner of what this process runs
        self.stuck = False  # after leaving: a thread is still inside a step
        self._tasks = tasks
        self._directory_of = work.directory_of
        self._concurrency = concurrency
        self._max_pending = max_pending
        self._drain_s = drain_s
        self._retry_s = retry_s
        self._endings = OutcomeWriter(tasks, work.clean_up, retry_s)
        self._executor = ThreadExecutor(work.run)
        self._lease = FairLease()
        self._watches = Watches()
        self._running: dict[str, Running] = {}
        self._cancelling: set[str] = set()  # asked for between claim and start
        self._work = asyncio.Event()  # something may be claimed
        self._draining = False
        self._dispatcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Takes back what a dead process left running, then begins to claim."""
        configure_process()
        recovered = await self._tasks.requeue_running(self.generation)
        for row in recovered:
            log.warning("task %s was interrupted; now it is %s", row.task_id, row.status)
            if row.status in TERMINAL:
                await self._endings.tidy(row.task_id)
        self._work.set()
        self._dispatcher = asyncio.create_task(self._dispatch(), name="dispatcher")
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drains, also if the caller is cancelled."""
        self._draining = True
        await uninterrupted(self._drain())

    async def submit(self, new: NewTask) -> tuple[TaskRow, bool]:
        """Stores a task and queues it; see TaskStore.insert.

        Raises:
            Draining: the laboratory is shutting down.
            TaskConflict: its id, in whatever case, or its idempotency key belongs to another
                request.
            QueueFull: as many tasks as allowed are waiting.
        """
        if self._draining:
            raise Draining(
                "The laboratory is shutting down and takes no new work.",
                hint="Start the laboratory again, then repeat the request.",
            )
        try:
            return await self._tasks.insert(new, self._max_pending)
        finally:
            self._work.set()  # also if the caller was cancelled after the commit

    async def cancel(self, task_id: str) -> TaskRow:
        """Cancels a task: at once if it waits, at its next turn if it runs, not if it is finished.

        Args:
            task_id: which task.
        Returns:
            the row after the request; a running one is still training.
        Raises:
            TaskNotFound: there is none with this id.
        """
        return await uninterrupted(self._cancel(task_id))

    async def _cancel(self, task_id: str) -> TaskRow:
        """The row and the running thread must hear of it both."""
        row = await self._tasks.request_cancel(task_id)
        if running := self._running.get(task_id):
            running.context.request_stop()
        elif row.status == Status.TRAINING:
            self._cancelling.add(task_id)
        elif row.status == Status.CANCELLED:
            await self._endings.tidy(task_id)
        self._watches.tell(task_id, row_changed=True)
        return row

    def live(self, task_id: str) -> Live | None:
        """A running task as it is now; None if it does not run."""
        running = self._running.get(task_id)
        return running.context.live if running else None

    @property
    def running(self) -> int:
        """How many tasks run now."""
        return len(self._running)

    async def wait(
        self, task_id: str, timeout_s: float, on_progress: OnProgress | None = None
    ) -> TaskRow:
        """Waits for a task's end; giving up does not touch the task.

        Args:
            task_id: which task.
            timeout_s: how long at most.
            on_progress: called with every new progress, at most ten times a second.
        Returns:
            the row: finished, or as it is when time is over or the laboratory shuts down.
        Raises:
            TaskNotFound: there is none with this id.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        told: Live | None = None
        with self._watches.watch(task_id) as watch:
            while True:
                if watch.row_changed:
                    watch.row_changed = False
                    row = await self._tasks.get(task_id)
                    if row.status in TERMINAL or self._draining:
                        return row
                live = self.live(task_id)
                if on_progress and live and live.progress and live is not told:
                    told = live
                    await on_progress(live)
                in_time = await watch.next(max(0.0, deadline - loop.time()))
                if not in_time and not watch.row_changed:
                    return row

    async def _dispatch(self) -> None:
        """Claims whenever there may be work; the database's failures only delay it."""
        while not self._draining:
            await self._work.wait()
            self._work.clear()
            try:
                await self._fill()
            except Exception:
                log.exception("no task could be claimed")
                asyncio.get_running_loop().call_later(self._retry_s, self._work.set)

    async def _fill(self) -> None:
        """Claims and starts tasks until all places are taken."""
        while not self._draining and len(self._running) < self._concurrency:
            row = await self._tasks.claim(self.generation)
            if row is not None:
                self._start(row)
            self._cancelling.clear()  # only a claim under way could have missed a request
            if row is None:
                return

    def _start(self, row: TaskRow) -> None:
        """Gives a claimed task its thread."""

        def publish() -> None:
            self._watches.tell(row.task_id, row_changed=False)

        context = JobContext(self._lease, asyncio.get_running_loop(), publish)
        if self._draining or row.task_id in self._cancelling:
            context.request_stop(draining=row.task_id not in self._cancelling)
        carrier = asyncio.create_task(self._carry(row, context), name=f"carrier-{row.task_id}")
        self._running[row.task_id] = Running(row, context, carrier)
        self._watches.tell(row.task_id, row_changed=True)

    async def _carry(self, row: TaskRow, context: JobContext) -> None:
        """Sees one claimed task to its end."""

        async def run() -> Ended:
            return await self._execute(row, context)

        try:
            async with resetting_crashes(self._tasks, row, context):
                ended = await until_published(run, context, row.task_id, self._retry_s)
            await self._endings.write(row, ended, context)
        finally:
            context.request_stop()  # for a thread that outlives its carrier
            del self._running[row.task_id]
            self._watches.tell(row.task_id, row_changed=True)
            self._work.set()

    async def _execute(self, row: TaskRow, context: JobContext) -> Ended:
        """Runs one claimed task; whatever goes wrong becomes a value."""
        try:
            directory = self._directory_of(row.task_id)
            return await self._executor.execute(row.task_id, row.spec, directory, context)
        except Exception as error:
            return Ended(error=error)

    async def _drain(self) -> None:
        """Stops claiming, asks all runs to stop, waits for them within bounds."""
        self._work.set()
        self._watches.tell_all()
        for running in self._running.values():
            running.context.request_stop(draining=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._all_ended()
        for running in list(self._running.values()):  # some may end meanwhile
            await self._endings.abandon(running.row)
        left = [running.carrier for running in self._running.values()]
        if self._dispatcher is not None:
            left.append(self._dispatcher)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.stuck = not self._executor.join()

    async def _all_ended(self) -> None:
        """Waits for the dispatcher, which may still start one, and then for all that run."""
        if self._dispatcher is not None:
            await asyncio.wait([self._dispatcher])
        while self._running:
            await asyncio.wait([running.carrier for running in self._running.values()])
