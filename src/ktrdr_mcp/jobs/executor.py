"""Runs a job in a thread of its own: JSON in, a directory and a value out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from ktrdr_mcp.context import Context
from ktrdr_mcp.jobs.job_context import JobContext

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
