"""The job queue: submit, claim, run, cancel, wait, recover, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from ktrdr_mcp import files, limits
from ktrdr_mcp.errors import Draining, NotReady, StorageError
from ktrdr_mcp.jobs.epochs import EpochCurve
from ktrdr_mcp.jobs.executors.base import Ended, Executor
from ktrdr_mcp.jobs.live import Live, Watches
from ktrdr_mcp.jobs.model import TERMINAL, Status, outcome_of, sources_of, standing
from ktrdr_mcp.jobs.parts import Group, RunningPart, read_results
from ktrdr_mcp.jobs.running import Running, reset_crashes, resetting_crashes, run_until_published
from ktrdr_mcp.jobs.turns import Turns
from ktrdr_mcp.jobs.worker import failure_of
from ktrdr_mcp.store.db import finish
from ktrdr_mcp.store.task_row import NewTask, TaskRow
from ktrdr_mcp.store.tasks import TaskStore

NOBODY: Final = ""  # the client of tasks that nobody is known to have submitted
RETRY_S: Final = 1.0  # after the database refused

OnProgress: TypeAlias = Callable[[Live], Awaitable[None]]
KeepEpochs: TypeAlias = Callable[[str, EpochCurve], None]

log = logging.getLogger(__name__)


class OutcomeWriter:
    """Writes the ends of all runs.

    Args:
        tasks: the stored tasks.
        clean_up: called in a thread with the id of each task that will not run again.
        keep_epochs: called in a thread with those of each run that ends without a result.
        retry_s: the pause after the database refused.
    """

    def __init__(
        self,
        tasks: TaskStore,
        clean_up: Callable[[str], None],
        keep_epochs: KeepEpochs,
        retry_s: float,
    ) -> None:
        self._tasks = tasks
        self._clean_up = clean_up
        self._keep_epochs = keep_epochs
        self._retry_s = retry_s

    async def write(self, running: Running, ended: Ended) -> str | None:
        """Writes the outcome, again and again while the database refuses.

        Returns:
            the status that the task has got; None if this run had lost it.
        """
        while True:
            try:
                return await finish(self._write(running, ended))
            except StorageError:
                log.exception("the outcome of task %s is not stored yet", running.row.task_id)
            except Exception as error:  # the outcome itself cannot be stored
                ended = Ended(failure=failure_of(error))
            await asyncio.sleep(self._retry_s)

    async def _write(self, running: Running, ended: Ended) -> str | None:
        """Writes the outcome, unless this run had lost its task."""
        row = running.row
        if ended.died is not None:
            await reset_crashes(self._tasks, running)  # it may have died before that was stored
            await self._keep(running)
            status = await self._tasks.count_crash(row.task_id, row.fence)
        else:
            status = await self._store_end(row, ended, running)
        if status is None:
            log.error("attempt %d of task %s had lost its task", row.attempt, row.task_id)
        else:
            log.info("task %s is %s", row.task_id, status)
        if status in TERMINAL:
            await self.tidy(row.task_id)
        return status

    async def _store_end(self, row: TaskRow, ended: Ended, running: Running) -> str | None:
        """The status that the task has got; None if the run had lost it."""
        outcome = outcome_of(ended, running.live, running.stop_requested)
        if outcome is None:
            await self._keep(running)  # it may be cancelled before it goes on
            return await self._tasks.release(row.task_id, row.fence, standing(running.live))
        if outcome.status != Status.COMPLETED:
            await self._keep(running)  # before anybody hears of the end
        stored = await self._tasks.move(
            row.task_id, sources_of(outcome.status), outcome.status, row.fence, outcome.columns
        )
        return outcome.status if stored else None

    async def _keep(self, running: Running) -> None:
        """Keeps the epochs of a run without a result; the outcome does not depend on it."""
        if not running.live.epochs.points:
            return
        try:
            await asyncio.to_thread(self._keep_epochs, running.row.task_id, running.live.epochs)
        except Exception:
            log.exception("the epochs of task %s are not kept", running.row.task_id)

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


def keep_everything(task_id: str) -> None:
    """The clean-up of runs that leave nothing for a next one."""


def keep_no_epochs(task_id: str, epochs: EpochCurve) -> None:
    """Where nobody asks for the epochs of runs without a result."""


class JobManager:
    """Runs stored tasks on an executor, and parts of tasks where no task waits.

    Clients take turns; each one's tasks run in the order of submission.

    A part that runs makes way for a task that waits: it is stopped as in a drain, and goes on from
    its checkpoint later.

    Args:
        tasks: the stored tasks.
        executor: where they run; a run's result is a `RunResult` as JSON.
        directory_of: where the task with an id leaves its files.
        clean_up: called in a thread with the id of each task that will not run again.
        prepare: called with each task before it runs.
        keep_epochs: called in a thread with those of each run that ends without a result.
        max_pending: the most tasks that may wait.
        drain_s: how long leaving may wait for running steps to end.
        retry_s: the pause after the database refused.
    """

    def __init__(  # noqa: PLR0913
        self,
        tasks: TaskStore,
        executor: Executor,
        directory_of: Callable[[str], Path],
        clean_up: Callable[[str], None] = keep_everything,
        prepare: Callable[[TaskRow], Awaitable[None]] | None = None,
        keep_epochs: KeepEpochs = keep_no_epochs,
        *,
        max_pending: int = limits.MAX_PENDING_TASKS,
        drain_s: float = limits.DRAIN_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self.generation = secrets.token_hex(16)  # the owner of what this process runs
        self.stuck = False  # after leaving: a run could not be ended
        self._tasks = tasks
        self._executor = executor
        self._directory_of = directory_of
        self._prepare = prepare
        self._max_pending = max_pending
        self._drain_s = drain_s
        self._retry_s = retry_s
        self._endings = OutcomeWriter(tasks, clean_up, keep_epochs, retry_s)
        self._watches = Watches()
        self._turns = Turns()
        self._running: dict[str, Running] = {}
        self._places: set[Running] = set()  # tasks and parts that an executor runs
        self._cancelling: set[str] = set()  # asked for between claim and start
        self._work = asyncio.Event()  # something may be claimed
        self._draining = False
        self._drains = asyncio.Event()
        self._dispatcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Takes back what a dead process left running, then begins to claim."""
        await self._executor.open(self._work.set)
        recovered = await self._tasks.requeue_running(self.generation)
        for row in recovered:
            log.warning("task %s was interrupted; now it is %s", row.task_id, row.status)
            if row.status in TERMINAL:
                await self._endings.tidy(row.task_id)
        await self._add_waiting()
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
        self._drains.set()
        await finish(self._drain())

    async def submit(
        self, new: NewTask, client: str = NOBODY, keep: Callable[[], None] | None = None
    ) -> tuple[TaskRow, bool]:
        """Stores a task and queues it; see TaskStore.insert.

        Args:
            new: the task.
            client: who asks; clients take turns.
            keep: called in a thread once it is stored, to leave something to its run.
        Raises:
            Draining: the server is shutting down.
            TaskConflict: its id, in whatever case, or its idempotency key belongs to another
                request.
            QueueFull: as many tasks as allowed are waiting.
        """
        self._refuse_drain()
        try:
            row, created = await self._tasks.insert(new, self._max_pending)
            if created:
                log.info("task %s waits: %s %s", row.task_id, row.symbol, row.timeframe)
                self._turns.add(row.task_id, client, divides=row.divides)
                if keep is not None:
                    await asyncio.to_thread(keep)
            return row, created
        finally:
            self._work.set()  # also if the caller was cancelled after the commit

    def _refuse_drain(self) -> None:
        """Refuses new work once the server shuts down. Raises Draining."""
        if self._draining:
            raise Draining(
                "The server is shutting down and takes no new work.",
                hint="Start the server again, then repeat the request.",
            )

    async def require_ready(self) -> int:
        """How many tasks wait, if one more would be taken.

        Raises:
            Draining: the server is shutting down.
            NotReady: the database cannot be read, nothing is claimed, or too many tasks wait.
        """
        self._refuse_drain()
        if self._dispatcher is None or self._dispatcher.done():
            raise NotReady("No task is begun any more.", hint="Restart the server; see its log.")
        try:
            waiting = await self._tasks.pending()
        except StorageError as error:
            raise NotReady(error.message, hint=error.hint) from error
        if waiting >= self._max_pending:
            raise NotReady(
                f"{waiting:,} tasks wait, and no more are taken.",
                hint="Wait until some have ended, or cancel some.",
            )
        return waiting

    async def cancel(self, task_id: str) -> TaskRow:
        """Cancels a task: at once if it waits, at its next turn if it runs, not if it is finished.

        Args:
            task_id: which task.
        Returns:
            the row after the request; a running one is still training.
        Raises:
            TaskNotFound: there is none with this id.
        """
        return await finish(self._cancel(task_id))

    async def _cancel(self, task_id: str) -> TaskRow:
        """Both the row and the running task must hear of it."""
        row = await self._tasks.request_cancel(task_id)
        if running := self._running.get(task_id):
            running.request_stop()
        elif row.status == Status.TRAINING:
            self._cancelling.add(task_id)
        elif row.status == Status.CANCELLED:
            self._turns.end(task_id)
            await self._endings.tidy(task_id)
        self._watches.wake(task_id, row_changed=True)
        return row

    def live(self, task_id: str) -> Live | None:
        """A running task as it is now; None if it does not run."""
        running = self._running.get(task_id)
        return running.live if running else None

    async def position(self, task_id: str) -> int | None:
        """How many tasks will probably begin before this one; None if it does not wait."""
        if (position := self._turns.position(task_id)) is not None:
            return position
        return await self._tasks.queue_position(task_id)

    @property
    def kills(self) -> bool:
        """Whether a cancelled task that does not stop by itself is ended."""
        return self._executor.kills

    @property
    def running(self) -> int:
        """How many tasks run now."""
        return len(self._running)

    async def promised_bytes(self) -> int:
        """What others that run or wait may hold of this machine while one more runs, estimated."""
        if not self._executor.here:
            return 0
        estimates = sorted(await self._tasks.memory_estimates(), reverse=True)
        return sum(estimates[: self._executor.capacity - 1])

    async def drains_within(self, seconds: float) -> bool:
        """Waits, and says whether the server shuts down; at once when it does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._drains.wait()
        return self._draining

    async def wait(
        self, task_id: str, timeout_s: float, on_progress: OnProgress | None = None
    ) -> TaskRow:
        """Waits for a task's end; giving up does not touch the task.

        Args:
            task_id: which task.
            timeout_s: how long at most.
            on_progress: called with every new progress, at most ten times a second.
        Returns:
            the row: finished, or as it is when time is over or the server shuts down.
        Raises:
            TaskNotFound: there is none with this id.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        shown: Live | None = None
        with self._watches.watch(task_id) as watch:
            while True:
                if watch.row_changed:
                    watch.row_changed = False
                    row = await self._tasks.get(task_id)
                    if row.status in TERMINAL or self._draining:
                        return row
                live = self.live(task_id)
                if on_progress and live and live.progress and live is not shown:
                    shown = live
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
        """Claims and starts tasks, and parts where none waits, until all places are taken."""
        while not self._draining and len(self._places) < self._executor.capacity:
            row = await self._claim()
            if row is not None:
                self._start(row)
            self._cancelling.clear()  # only a claim under way could have missed a request
            if row is None and not await self._start_part():
                break
        else:
            if not self._draining:
                self._make_room(self._turns.count_urgent(self._searching()))
        await self._mark_idle()

    async def _claim(self) -> TaskRow | None:
        """The task whose turn it is, claimed; None if none may begin.

        While parts wait, no client begins a second search: its parts would only wait, too.
        """
        added = False
        while True:
            busy = self._searching() if self._groups_waiting() else ()
            if (task_id := self._turns.next(busy)) is not None:
                if (row := await self._tasks.claim(self.generation, task_id)) is not None:
                    return row
                self._turns.end(task_id)  # it was cancelled
            elif added or await self._tasks.pending() <= self._turns.waiting:
                return None
            else:
                await self._add_waiting()  # one whose submission was interrupted
                added = True

    async def _add_waiting(self) -> None:
        """Gives turns to stored tasks of which nobody else knows that they wait."""
        for task_id, divides in (await self._tasks.waiting()).items():
            self._turns.add(task_id, NOBODY, divides=divides)

    def _searching(self) -> set[str]:
        """The clients that have a task running which is divided, or may be."""
        return {
            self._turns.client_of(task_id)
            for task_id, running in self._running.items()
            if running.row.divides or running.group is not None
        }

    def _groups_waiting(self) -> list[Group]:
        """The groups with parts that may begin."""
        groups = [each.group for each in self._running.values() if not each.stop_requested]
        return [group for group in groups if group is not None and group.waiting]

    def _parts(self) -> list[RunningPart]:
        """The parts that run, those that began last first."""
        groups = [each.group for each in self._running.values() if each.group is not None]
        parts = [part for group in groups for part in group.running.values()]
        return sorted(parts, key=lambda part: part.began_s, reverse=True)

    def _make_room(self, waiting: int) -> None:
        """Lets as many parts give way as tasks wait."""
        parts = self._parts()
        wanted = waiting - sum(part.gives_way for part in parts)
        for part in [part for part in parts if not part.gives_way][: max(0, wanted)]:
            part.give_way()

    async def _start_part(self) -> bool:
        """Starts the next part of the client with the fewest places; False if none waits.

        Of a client's groups it takes the one with the fewest running.
        """
        if not (waiting := self._groups_waiting()):
            return False
        client_of = self._turns.client_of
        places = Counter(client_of(each.row.task_id) for each in self._places)
        group = min(
            waiting,
            key=lambda each: (places[client_of(each.parent.row.task_id)], len(each.running)),
        )
        if group.parent.idle:  # a death from here on is this task's, too
            await self._tasks.mark_idle(
                group.parent.row.task_id, group.parent.row.fence, idle=False
            )
            group.parent.idle = False
        if not group.waiting:  # it was stopped meanwhile
            return True
        part = group.begin_next()
        self._places.add(part)
        name = f"carrier-{part.envelope().task_id}"
        part.carrier = asyncio.create_task(self._carry_part(group, part), name=name)
        return True

    async def _mark_idle(self) -> None:
        """Says of tasks of which nothing runs that the death of this process is not theirs."""
        for group in self._groups_waiting():
            row = group.parent.row
            if group.running or group.parent.idle:
                continue
            try:
                await self._tasks.mark_idle(row.task_id, row.fence, idle=True)
            except StorageError:
                log.warning("a crash would count for task %s", row.task_id, exc_info=True)
            else:
                group.parent.idle = True

    async def _carry_part(self, group: Group, part: RunningPart) -> None:
        """Sees one run of a part to its end; its place goes to its task if it was the last."""

        async def run() -> Ended:
            return await part.run(self._executor, part.directory)

        try:
            await asyncio.to_thread(part.clear)
            ended = await run_until_published(run, part, self._retry_s)
            while not await asyncio.to_thread(part.keep, ended):
                part.warn("the result of a part cannot be stored; it is tried again")
                if await part.wait_for_stop(self._retry_s):
                    ended = Ended(stopped=True)
            group.finish(part, ended)
        except Exception as error:
            group.finish(part, Ended(failure=failure_of(error)))
        finally:
            self._places.discard(part)
            self._executor.forget(part.envelope().task_id)
            parent = group.parent
            if group.is_idle and self._running.get(parent.row.task_id) is parent:
                self._places.add(parent)
            self._work.set()

    async def _run(self, running: Running) -> Ended:
        """Runs a task once, and its parts whenever it asks for some."""
        directory = self._directory_of(running.row.task_id)
        with contextlib.suppress(OSError):  # what a worker that was killed has left harms no run
            await asyncio.to_thread(files.sweep, directory.parent)
        while (ended := await running.run(self._executor, directory)).parts is not None:
            if running.stop_requested:
                return Ended(stopped=True)
            if running.group is None:
                running.group = Group(running, directory)
            group = running.group
            group.ask(ended.parts, await asyncio.to_thread(read_results, group, ended.parts))
            if running.stop_requested:
                return Ended(stopped=True)
            await reset_crashes(self._tasks, running)
            running.begin_again()  # the clock of its parts is another one
            if not group.is_idle:
                self._places.discard(running)
                self._work.set()
            await group.until_idle()
            running.begin_again()
            if running.stop_requested:
                return Ended(stopped=True)
            if group.failure is not None:
                return Ended(failure=group.failure)
        return ended

    def _start(self, row: TaskRow) -> None:
        """Gives a claimed task to the executor."""

        def publish() -> None:
            self._watches.wake(row.task_id, row_changed=False)

        self._turns.begin(row.task_id)
        log.info("task %s begins, attempt %d", row.task_id, row.attempt)
        running = Running(row, publish)
        if self._draining or row.task_id in self._cancelling:
            running.request_stop(draining=row.task_id not in self._cancelling)
        self._running[row.task_id] = running
        self._places.add(running)
        running.carrier = asyncio.create_task(self._carry(running), name=f"carrier-{row.task_id}")
        self._watches.wake(row.task_id, row_changed=True)

    async def _carry(self, running: Running) -> None:
        """Sees one claimed task to its end."""
        task_id, status = running.row.task_id, None

        async def run() -> Ended:
            try:
                return await self._run(running)
            except Exception as error:  # of what it asked for
                return Ended(failure=failure_of(error))

        try:
            async with resetting_crashes(self._tasks, running):
                if self._prepare is not None:
                    await self._prepare(running.row)
                ended = await run_until_published(run, running, self._retry_s)
            status = await self._endings.write(running, ended)
        finally:
            running.request_stop()  # for a run that outlives its carrier
            del self._running[task_id]
            self._places.discard(running)
            self._executor.forget(task_id)
            if status == Status.PENDING:
                self._turns.put_back(task_id)
            else:
                self._turns.end(task_id)
            self._watches.wake(task_id, row_changed=True)
            self._work.set()

    async def _drain(self) -> None:
        """Stops claiming, asks all runs to stop, waits for them within bounds."""
        self._work.set()
        self._watches.wake_all()
        for running in self._running.values():
            running.request_stop(draining=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._all_ended()
        for running in list(self._running.values()):  # some may end meanwhile
            await self._endings.abandon(running.row)
        left = [
            each.carrier
            for each in (*self._running.values(), *self._parts())
            if each.carrier is not None
        ]
        if self._dispatcher is not None:
            left.append(self._dispatcher)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.stuck = not await self._executor.close()

    async def _all_ended(self) -> None:
        """Waits for the dispatcher, which may still start one, and then for all that run."""
        if self._dispatcher is not None:
            await asyncio.wait([self._dispatcher])
        while carriers := [each.carrier for each in self._running.values() if each.carrier]:
            await asyncio.wait(carriers)
