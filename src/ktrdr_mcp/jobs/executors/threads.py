"""Tasks in threads of this process, which take turns to compute."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import limits, memory
from ktrdr_mcp.context import Cancelled
from ktrdr_mcp.jobs.executors.base import Ended, Envelope, HeardRun, decode
from ktrdr_mcp.jobs.executors.gate import Gate
from ktrdr_mcp.jobs.worker import (
    NO_RESULTS,
    Outbox,
    Run,
    WorkerContext,
    failure_of,
    perform,
)

PUBLISH_INTERVAL_S: Final = 0.1
SWITCH_INTERVAL_S: Final = 0.0005  # the default, 5 ms, is what a status call would wait for
WORKER_NICENESS: Final = 10
ENDING_S: Final = 1.0  # between a run's last line and the end of its thread


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


class ThreadContext(WorkerContext):
    """The context of a run that takes turns with the others of its process.

    Args:
        lease: the right to compute, shared by all runs.
        outbox: where its events go.
        monotonic: the clock that measures turns and epochs, in seconds.
        results: what the parts of this training have returned, by their names.
    """

    def __init__(
        self,
        lease: FairLease,
        outbox: Outbox,
        monotonic: Callable[[], float] = time.monotonic,
        results: Mapping[str, dict[str, Any]] = NO_RESULTS,
    ) -> None:
        super().__init__(outbox, monotonic, results)
        self._lease = lease
        self._holds_lease = False
        self._turn_began_s = 0.0

    def yield_turn(self) -> None:
        """Takes the lease, or passes it on when the turn is over; see context.Context."""
        super().yield_turn()
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

    def request_stop(self, draining: bool = False) -> None:
        """See WorkerContext; one that waits for its turn hears of it at once."""
        super().request_stop(draining)
        self._lease.wake()

    def _begin_turn(self) -> None:
        """Waits for the lease. Raises Cancelled if the training must stop."""
        self._holds_lease = self._lease.acquire(self, lambda: self.should_stop)
        if self.should_stop:
            raise Cancelled
        self._turn_began_s = self._monotonic()


class ThreadRun(HeardRun):
    """The base.Handle of a run in a thread.

    Args:
        lease: the right to compute, shared by all runs.
        loop: the event loop in charge.
        envelope: what to run.
        workdir: where it leaves its files.
    """

    def __init__(
        self,
        lease: FairLease,
        loop: asyncio.AbstractEventLoop,
        envelope: Envelope,
        workdir: Path,
    ) -> None:
        super().__init__(envelope, workdir)
        self._loop = loop
        self._looks_again = False
        self.outbox = Outbox(self._wake)
        self.context = ThreadContext(lease, self.outbox, results=envelope.results)

    def stop(self, draining: bool) -> None:
        """See base.Handle; it takes effect after the running step."""
        self.context.request_stop(draining)
        self.note_stop()

    def _wake(self) -> None:
        """Lets the loop look into the outbox; in the run's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to listen
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """Delivers what has come, and looks again after the interval."""
        self._deliver(self.outbox.take())
        if not self._looks_again and not self.ended:
            self._looks_again = True
            self._loop.call_later(PUBLISH_INTERVAL_S, self._look_again)

    def _look_again(self) -> None:
        """Delivers what came within the interval."""
        self._looks_again = False
        if lines := self.outbox.rearm():
            self._deliver(lines)
            self._look()

    def _deliver(self, lines: list[str]) -> None:
        """Passes events on once somebody listens."""
        for line in lines:
            self.deliver(decode(line))


class ThreadExecutor:
    """A base.Executor with one thread for each running task.

    The threads are daemons: a run that does not stop must not keep the process from exiting, as
    the threads of concurrent.futures would.

    Args:
        run: the work; called with the specification, the task's directory and its context.
        capacity: the most tasks that run at once.
    """

    kills = False
    here = True

    def __init__(self, run: Run, capacity: int = limits.CONCURRENT_TRAININGS) -> None:
        self.lease = FairLease()
        self.capacity = capacity
        self._run = run
        self._threads: dict[threading.Thread, ThreadRun] = {}
        self._gate = Gate[ThreadRun](self._promised_bytes, lambda run: run.envelope.memory_bytes)
        self._held_before = 0  # by this process, before those that run now
        self._carriers: set[asyncio.Task[None]] = set()

    async def open(self, on_room: Callable[[], None]) -> None:
        """See base.Executor; there is always the same room."""
        configure_process()

    def submit(self, envelope: Envelope, workdir: Path) -> ThreadRun:
        """See base.Executor."""
        run = ThreadRun(self.lease, asyncio.get_running_loop(), envelope, workdir)
        carrier = asyncio.create_task(self._begin(run), name=f"submit-{envelope.task_id}")
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)
        return run

    async def _begin(self, run: ThreadRun) -> None:
        """Gives a run its thread once there is memory for it."""
        if not await self._gate.enter(run):
            run.deliver(Ended(stopped=True))
            return
        if len(self._gate.inside) == 1:
            self._held_before = memory.resident_bytes()

        def work() -> None:
            configure_thread()
            perform(self._run, run.envelope.spec, run.workdir, run.context, run.outbox)

        name = f"training-{run.envelope.task_id}"
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            run.deliver(Ended(failure=failure_of(error)))
            return
        self._threads = {each: its for each, its in self._threads.items() if each.is_alive()}
        self._threads[thread] = run

    def _promised_bytes(self, runs: Sequence[ThreadRun]) -> int:
        """The memory that runs may still come to take.

        They hold together what this process has come to hold since the first of them began.
        """
        held = max(0, memory.resident_bytes() - self._held_before)
        return max(0, sum(run.envelope.memory_bytes for run in runs) - held)

    def forget(self, task_id: str) -> None:
        """Does nothing: what a run keeps is kept for all of this process."""

    async def close(self) -> bool:
        """See base.Executor."""
        for carrier in list(self._carriers):
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        for thread, run in self._threads.items():
            if run.ended:
                thread.join(ENDING_S)
        return not any(thread.is_alive() for thread in self._threads)


def configure_process() -> None:
    """Sets what all worker threads share; before torch is imported."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def load_torch() -> None:
    """Imports torch, which takes seconds; before the first job is accepted, in a thread.

    Linear algebra gets one thread, too, for NumPy is often there before this process is configured:
    jobs side by side, each with a thread for every core, would take several times as long.
    """
    configure_process()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")


def configure_thread() -> None:
    """One torch thread and a lower priority for the calling thread."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    if sys.platform == "linux":  # elsewhere this would change the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WORKER_NICENESS)
