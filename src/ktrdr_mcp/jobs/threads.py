"""The thread executor: runs a job in a worker thread, with its context and its turn to compute."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from ktrdr_mcp import limits
from ktrdr_mcp.context import Cancelled, Context, Progress
from ktrdr_mcp.jobs.live import Live


class FairLease:
    """A lock that is given in the order of asking, and for which waiting can be given up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()  # the first one holds the lease

    def acquire(self, owner: object, gives_up: Callable[[], bool]) -> bool:
        """Waits for the lease.

        Args:
            owner: who asks; must not hold it or wait for it already.
            gives_up: whether to stop waiting; asked on every change and after `wake`.
        Returns:
            whether the owner holds the lease now.
        """
        with self._changed:
            self._queue.append(owner)
            self._changed.wait_for(lambda: self._queue[0] is owner or gives_up())
            if gives_up():
                self._leave(owner)
                return False
            return True

    def release(self, owner: object) -> None:
        """Gives the lease to the next in the queue."""
        with self._changed:
            if self._queue[0] is not owner:
                raise RuntimeError("the lease was released by one who does not hold it")
            self._leave(owner)

    def wake(self) -> None:
        """Lets everyone who waits ask again whether to give up."""
        with self._changed:
            self._changed.notify_all()

    def _leave(self, owner: object) -> None:
        """Takes the owner out of the queue."""
        self._queue.remove(owner)
        self._changed.notify_all()


PUBLISH_INTERVAL_S: Final = 0.1
MAX_WARNING_CHARACTERS: Final = 77  # so that a status stays within its bytes


class JobContext:
    """The context.Context of one run of one task.

    Args:
        lease: the right to compute, shared by all runs.
        loop: the event loop in charge.
        publish: called on the loop when there is progress, at most every PUBLISH_INTERVAL_S.
        monotonic: the clock that measures turns and epochs, in seconds.
    """

    def __init__(
        self,
        lease: FairLease,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease = lease
        self._loop = loop
        self._publish = publish
        self._monotonic = monotonic
        self._holds_lease = False
        self._turn_began_s = 0.0
        self._publishing = False  # the loop will look at `live` once more
        self._published: Live | None = None
        self._stopped = asyncio.Event()
        self.began = asyncio.Event()  # it is known where the run begins
        self.stop_requested = False
        self.draining = False
        self.live = Live(monotonic())

    # Called in the worker thread.

    def report(self, progress: Progress) -> None:
        """Keeps the progress and wakes the loop; see context.Context."""
        self.live = self.live.after(progress, self._monotonic())
        self._wake_loop()

    def resumed(self, epoch: int, reason: str | None) -> None:
        """Keeps where the run begins; see context.Context."""
        self.live = self.live.resumed(epoch, reason)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self.began.set)

    def _wake_loop(self) -> None:
        """Lets the loop look at `live`, now or when it has not just done so."""
        # The loop clears the flag before it compares, so that one of the two sees the last report.
        if not self._publishing:
            self._publishing = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._publish_now)

    def yield_turn(self) -> None:
        """Takes the lease, or passes it on when the turn is over; see context.Context."""
        self._check_stop()
        if not self._holds_lease:
            self._begin_turn()
        elif self._monotonic() - self._turn_began_s >= limits.TURN_S:
            self.end_turn()
            self._begin_turn()

    def end_turn(self) -> None:
        """Gives the lease back if this run holds it."""
        if self._holds_lease:
            self._holds_lease = False
            self._lease.release(self)

    def _begin_turn(self) -> None:
        """Waits for the lease. Raises Cancelled if the training must stop."""
        self._holds_lease = self._lease.acquire(self, lambda: self.stop_requested)
        self._check_stop()
        self._turn_began_s = self._monotonic()

    def _check_stop(self) -> None:
        """Raises Cancelled if the training must stop."""
        if self.stop_requested:
            raise Cancelled

    # Called on the event loop.

    def request_stop(self, draining: bool = False) -> None:
        """Asks the run to stop at its next `yield_turn`.

        Args:
            draining: whether its state is worth keeping; not once it was asked without.
        """
        self.draining = draining and (self.draining or not self.stop_requested)
        self.stop_requested = True
        self._stopped.set()
        self._lease.wake()

    async def stopped_within(self, seconds: float) -> bool:
        """Waits, between two runs, and says whether the training must stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self.stop_requested

    def warn(self, alarm: str) -> None:
        """Shows a warning until the next report."""
        self.live = self.live.warned(alarm[:MAX_WARNING_CHARACTERS])
        self._wake_loop()

    def begin_again(self) -> None:
        """Prepares for a further run of the same attempt."""
        self.live = self.live.again(self._monotonic())

    def _publish_now(self) -> None:
        """Tells of the newest progress, and looks again after the interval."""
        self._published = self.live
        self._publish()
        self._loop.call_later(PUBLISH_INTERVAL_S, self._publish_rest)

    def _publish_rest(self) -> None:
        """Tells of progress that came within the interval."""
        self._publishing = False
        if self.live is not self._published:
            self._publishing = True
            self._publish_now()


Run: TypeAlias = Callable[[dict[str, Any], Path, Context], dict[str, Any]]


SWITCH_INTERVAL_S: Final = 0.0005  # the default, 5 ms, is what a status call would wait for
WORKER_NICENESS: Final = 10
ENDING_S: Final = 1.0  # between a run's last line and the end of its thread


def _nothing_to_clean_up(task_id: str) -> None:
    """For runs that leave nothing for a next one."""


@dataclass(frozen=True)
class Work:
    """What is done for each task."""

    run: Run  # called with specification, directory and context; publishes into the directory
    directory_of: Callable[[str], Path]  # of a task id
    clean_up: Callable[[str], None] = _nothing_to_clean_up  # of a task that will not run again


@dataclass(frozen=True)
class Ended:
    """How a run ended: with a result or with what it raised."""

    result: dict[str, Any] | None = None
    error: BaseException | None = None


def configure_process() -> None:
    """Sets what all worker threads share; before torch is imported."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def load_torch() -> None:
    """Imports torch, which takes seconds; before the first job is accepted, in a thread."""
    configure_process()
    import torch

    torch.set_num_threads(1)


def _configure_thread() -> None:
    """One torch thread and a lower priority for the calling thread."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    if sys.platform == "linux":  # elsewhere this would change the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WORKER_NICENESS)


class ThreadExecutor:
    """Worker threads, one for each running job.

    They are daemons: a run that does not stop must not keep the process from exiting, as the
    threads of concurrent.futures would.

    Args:
        run: the work; called with the specification, the task's directory and its context.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._threads: dict[threading.Thread, asyncio.Future[Ended]] = {}

    async def execute(
        self, task_id: str, spec: dict[str, Any], directory: Path, context: JobContext
    ) -> Ended:
        """Runs one job and waits for its end.

        Args:
            task_id: whose thread it is.
            spec: everything the job needs.
            directory: where it leaves its files.
            context: its line to the world.
        Raises:
            RuntimeError: the system gives no more threads.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Ended] = loop.create_future()

        def work() -> None:
            outcome = self._work(spec, directory, context)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_deliver, ended, outcome)

        thread = threading.Thread(target=work, name=f"training-{task_id}", daemon=True)
        thread.start()
        self._threads = {each: end for each, end in self._threads.items() if each.is_alive()}
        self._threads[thread] = ended
        return await ended

    def _work(self, spec: dict[str, Any], directory: Path, context: JobContext) -> Ended:
        """The run in its thread; whatever it raises becomes a value."""
        try:
            _configure_thread()
            return Ended(result=self._run(spec, directory, context))
        except BaseException as error:
            return Ended(error=error)
        finally:
            context.end_turn()

    def join(self) -> bool:
        """Ends what has delivered its outcome.

        Returns:
            whether every thread has ended; False if one is still inside a run.
        """
        for thread, ended in self._threads.items():
            if ended.done() and not ended.cancelled():
                thread.join(ENDING_S)
        return not any(thread.is_alive() for thread in self._threads)


def _deliver(future: asyncio.Future[Ended], ended: Ended) -> None:
    """Sets the result unless nobody waits for it."""
    if not future.done():
        future.set_result(ended)
