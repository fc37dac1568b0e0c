"""Tasks on a Ray cluster. Ray itself is in a child process, the driver; see jobs.cluster.driver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import memory
from ktrdr_mcp.errors import LabUnavailable, error_of
from ktrdr_mcp.jobs.executors.base import Ended, Envelope, HeardRun, decode
from ktrdr_mcp.jobs.executors.gate import Gate
from ktrdr_mcp.jobs.executors.processes import (
    IDLE_S,
    Child,
    Launcher,
    WorkerState,
    not_started,
    pass_on_log,
    remaining_bytes,
    set_unless_done,
)
from ktrdr_mcp.jobs.worker import failure_of

JOIN_S: Final = 180.0  # a busy machine takes long to start a cluster
LOCAL: Final = "local"  # the address of a cluster that the driver starts and ends itself
LOCAL_TRIES: Final = 3  # to start a cluster: Ray gives its node 30 s, however busy the machine is
END_S: Final = 10.0  # a driver may take to end its cluster
RETRY_S: Final = 5.0  # between tries to join a cluster that was lost

log = logging.getLogger(__name__)


class ClusterRun(HeardRun):
    """The base.Handle of a run on a cluster.

    Args:
        number: by which the driver knows it.
        envelope: what to run.
        workdir: where it leaves its files.
    """

    def __init__(self, number: int, envelope: Envelope, workdir: Path) -> None:
        super().__init__(envelope, workdir)
        self.number = number
        self.driver: Driver | None = None  # that has it

    def stop(self, draining: bool) -> None:
        """See base.Handle; the driver ends the worker of one that does not heed it soon."""
        self.note_stop()
        if self.driver is not None:
            self.driver.send({"do": "stop", "run": self.number, "draining": draining})


class Driver(Child):
    """The server's side of one driver process.

    Args:
        process: the process.
        on_change: called when the nodes of its cluster change.
    """

    def __init__(self, process: subprocess.Popen[bytes], on_change: Callable[[], None]) -> None:
        super().__init__(process)
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.joined.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.ended = asyncio.Event()
        self.slots = 0
        self.speeds: dict[str, dict[str, float]] = {}  # by node
        self.workers: list[WorkerState] = []
        self.runs: dict[int, ClusterRun] = {}
        self._on_change = on_change

    def begin(self, run: ClusterRun) -> None:
        """Gives it a run."""
        self.runs[run.number], run.driver = run, self
        envelope = asdict(run.envelope)
        self.send(
            {"do": "run", "run": run.number, "envelope": envelope, "workdir": str(run.workdir)}
        )

    def _hear(self, line: bytes) -> None:
        """Takes one line of the driver."""
        kind = (raw := json.loads(line))["event"]
        if kind == "run":
            self._hear_of_run(raw)
        elif kind == "log":
            pass_on_log(raw)
        elif kind == "nodes":
            self.slots, self.speeds = raw["slots"], raw["speeds"]
            set_unless_done(self.joined, None, None)  # now it is known what there is room for
            self._on_change()
        elif kind == "workers":
            self.workers = [WorkerState(**each) for each in raw["workers"]]
        elif kind == "refused":
            set_unless_done(self.joined, None, error_of(raw["failure"]))

    def _hear_of_run(self, raw: dict[str, Any]) -> None:
        """Passes an event of a run on."""
        run = self.runs.get(raw["run"])
        if run is not None:
            event = decode(json.dumps(raw["of"]))
            if isinstance(event, Ended):
                del self.runs[run.number]
            run.deliver(event)

    async def _end(self) -> None:
        """Waits for the end of the process; what it had is dead then."""
        reason = await self._reap()
        self.slots, self.workers = 0, []
        set_unless_done(self.joined, None, lost(reason))
        runs, self.runs = self.runs, {}
        if runs:
            log.warning("the driver of the Ray cluster died (%s)", reason)
        for run in runs.values():
            stopped = run.stop_requested
            run.deliver(Ended(stopped=True) if stopped else Ended(died=f"driver: {reason}"))
        self.ended.set()
        self._on_change()


def lost(reason: str) -> LabUnavailable:
    """The error of a driver that died before it had joined."""
    return LabUnavailable(
        f"The program that joins the Ray cluster ended before it had ({reason}).",
        hint="See .ktrdr/ray.log in the workspace.",
    )


class RayExecutor:
    """A base.Executor on the nodes of a Ray cluster.

    Where the cluster is lost, what it ran has died; what is submitted then waits until the cluster
    can be joined again.

    Args:
        settings: of the driver; see jobs.cluster.driver.Settings.
    """

    kills = True

    def __init__(self, settings: dict[str, Any]) -> None:
        self.here = settings["address"] == LOCAL
        self._settings = {"idle_s": IDLE_S, **settings}
        self._launcher = Launcher()
        self._driver: Driver | None = None
        self._numbers = count(1)
        self._carriers: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._on_room: Callable[[], None] = lambda: None
        # The workers of a local cluster share this machine; elsewhere each takes its memory of Ray.
        self._gate = Gate[ClusterRun](self._promised_bytes, self._wanted_bytes)
        self._last_slots = 1

    @property
    def capacity(self) -> int:
        """See base.Executor; while there is no cluster, what the last one had."""
        if self._driver is not None and not self._driver.gone:
            self._last_slots = self._driver.slots
        return self._last_slots

    @property
    def workers(self) -> list[WorkerState]:
        """Every worker that runs."""
        return [] if self._driver is None else self._driver.workers

    @property
    def speeds(self) -> list[dict[str, float]]:
        """How fast each node is, as far as it is known; the fields of training.duration.Speed."""
        return [] if self._driver is None else list(self._driver.speeds.values())

    async def open(self, on_room: Callable[[], None]) -> None:
        """See base.Executor; starts the driver, which joins the cluster."""
        self._on_room = on_room
        try:
            for left in reversed(range(LOCAL_TRIES if self.here else 1)):
                try:
                    await self._ready()
                    return
                except LabUnavailable as error:
                    if not left:
                        raise
                    log.warning("%s It is tried again.", error.message)
                if self._driver is not None:
                    await self._driver.ended.wait()
        except BaseException:
            await self.close()
            raise

    async def _ready(self) -> Driver:
        """The driver, connected to its cluster; started if there is none.

        Raises:
            LabUnavailable: the cluster cannot be joined.
        """
        async with self._starting:
            if self._driver is None or self._driver.gone:
                try:
                    self._driver = await self._start()
                except OSError as error:
                    raise not_started(error) from error
            try:
                async with asyncio.timeout(JOIN_S):
                    await asyncio.shield(self._driver.joined)
            except TimeoutError:
                self._driver.process.kill()
                raise lost(f"it took more than {JOIN_S:.0f} s") from None
            return self._driver

    async def _start(self) -> Driver:
        """A new driver."""
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: the folder that the server runs in must not provide modules
            program = [sys.executable, "-P", "-m", "ktrdr_mcp.jobs.cluster.driver"]
            about = [str(theirs.fileno()), str(os.getpid()), json.dumps(self._settings)]
            try:
                process = await self._launcher.launch([*program, *about], theirs.fileno())
            except BaseException:
                ours.close()
                raise
        driver = Driver(process, self._on_room)
        ours.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: driver, ours)
        return driver

    def submit(self, envelope: Envelope, workdir: Path) -> ClusterRun:
        """See base.Executor."""
        run = ClusterRun(next(self._numbers), envelope, workdir)
        carrier = asyncio.create_task(self._begin(run), name=f"submit-{envelope.task_id}")
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)
        return run

    async def _begin(self, run: ClusterRun) -> None:
        """Gives a run to the driver, once there is a cluster, and memory on this machine's own."""
        if self.here and not await self._gate.enter(run):
            run.deliver(Ended(stopped=True))
            return
        told = False
        while not run.stop_requested:
            try:
                driver = await self._ready()
            except LabUnavailable as error:
                if not told:
                    log.error("%s %s Tasks wait for it.", error.message, error.hint)
                told = True
                await run.wait_for_stop(RETRY_S)
                continue
            except Exception as error:
                run.deliver(Ended(failure=failure_of(error)))
                return
            if not driver.gone and not run.stop_requested:
                driver.begin(run)
                return
        run.deliver(Ended(stopped=True))

    def _promised_bytes(self, runs: Sequence[ClusterRun]) -> int:
        """The memory that runs on this machine may still come to take."""
        pids = {worker.task: worker.pid for worker in self.workers}
        return sum(remaining_bytes(run, measure_worker(pids.get(task_of(run)))) for run in runs)

    def _wanted_bytes(self, run: ClusterRun) -> int:
        """The memory that a run on this machine would take at most, in whichever worker it gets."""
        tasks = {worker.task for worker in self.workers}
        idle = sorted(measure_worker(worker.pid) for worker in self.workers if worker.task is None)
        taken = sum(task_of(each) not in tasks for each in self._gate.inside)  # not shown yet
        return remaining_bytes(run, idle[0] if len(idle) > taken else 0)

    def forget(self, task_id: str) -> None:
        """See base.Executor."""
        if self._driver is not None:
            self._driver.send({"do": "forget", "task": task_id})

    async def close(self) -> bool:
        """See base.Executor; the driver ends what it started."""
        for carrier in list(self._carriers):
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        if self._driver is not None:
            self._driver.send({"do": "end"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._driver.ended.wait()
            with contextlib.suppress(OSError):
                self._driver.process.kill()
            await self._driver.ended.wait()
        return True


def task_of(run: ClusterRun) -> str:
    """The id by which a run's worker is shown."""
    return run.envelope.task_id


def measure_worker(pid: int | None) -> int:
    """The memory that a worker of this machine holds, if there is one."""
    return 0 if pid is None else memory.resident_bytes(pid)
