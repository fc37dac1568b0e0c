"""Tasks in worker processes of this machine, one for each core.

A worker is started when there is something for it to do, keeps what it has imported, and ends when
it has been idle. One that dies takes only its own task with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import __version__, memory
from ktrdr_mcp.errors import LabUnavailable, error_of
from ktrdr_mcp.jobs.executors.base import Ended, Envelope, Event, HeardRun, decode
from ktrdr_mcp.jobs.executors.gate import Gate
from ktrdr_mcp.jobs.worker import failure_of
from ktrdr_mcp.store.db import utc_now_text

STOP_S: Final = 0.5  # what a cancelled run may take to heed it before its worker is killed
IDLE_S: Final = 120.0  # after which an idle worker ends
IDLE_LOOK_S: Final = 1.0
NICENESS: Final = 10
REAP_S: Final = 0.005
SCARCE: Final = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}  # it passes
SCARCE_PAUSE_S: Final = 1.0
OUTDATED_PAUSE_S: Final = 60.0  # between workers that are started to see what is installed now
WORKER_BYTES: Final = 350_000_000  # of a worker that does nothing yet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerState:
    """One worker as it is shown."""

    pid: int
    task: str | None  # its task's id; None while it is idle
    memory_bytes: int
    since: str  # when it was started, UTC
    node: str | None = None  # of a cluster: the machine that it is on


class Launcher:
    """The thread that starts all workers.

    The signal of a parent's death follows the thread that made the child, so this one lives as
    long as the process.
    """

    def __init__(self) -> None:
        self._wanted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def launch(self, command: list[str], inherited: int) -> subprocess.Popen[bytes]:
        """Starts a process. Raises OSError.

        Args:
            command: its program and arguments.
            inherited: the one descriptor that it gets.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="launcher", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        started: asyncio.Future[subprocess.Popen[bytes]] = loop.create_future()

        def start() -> None:
            try:
                process = subprocess.Popen(  # noqa: S603 (our own program)
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[inherited],
                    start_new_session=True,  # a Ctrl-C at the terminal is the server's to obey
                )
            except OSError as error:
                loop.call_soon_threadsafe(set_unless_done, started, None, error)
            else:
                loop.call_soon_threadsafe(set_unless_done, started, process, None)

        self._wanted.put(start)
        return await started

    def _serve(self) -> None:
        """Starts what is wanted, for ever."""
        while True:
            self._wanted.get()()


def set_unless_done(
    future: asyncio.Future[Any], result: object, error: BaseException | None
) -> None:
    """Ends a future, unless nobody waits for it any more."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class ProcessRun(HeardRun):
    """The base.Handle of a run in a worker process."""

    def __init__(self, envelope: Envelope, workdir: Path) -> None:
        super().__init__(envelope, workdir)
        self.worker: Worker | None = None
        self.killed = False  # by us, because it had to end
        self.begin_anew: Callable[[], None] = lambda: None  # in another worker; nothing has begun

    def stop(self, draining: bool) -> None:
        """See base.Handle; one that is cancelled and does not heed it soon is killed.

        So is a worker that still imports what it needs: nothing of the run has begun.
        """
        self.note_stop()
        if self.worker is not None and not self.worker.ready:
            self.kill()
        elif self.worker is not None:
            self.worker.send({"do": "stop", "draining": draining})
            if not draining:
                asyncio.get_running_loop().call_later(STOP_S, self.kill)

    def kill(self) -> None:
        """Kills the worker of a run that has not ended."""
        if not self.ended and self.worker is not None:
            self.killed = True
            self.worker.kill()


class Child(asyncio.Protocol):
    """The server's side of a process that speaks in lines of JSON.

    Args:
        process: the process.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.gone = False
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._ending: asyncio.Task[None] | None = None

    def send(self, message: dict[str, Any]) -> None:
        """Sends a line, unless the process is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a process's socket carries a stream")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._hear(line)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol; what has closed its end is about to be gone."""
        self.gone = True
        self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _reap(self) -> str:
        """Waits for the end of the process. Returns with what it ended."""
        self.process.kill()  # it does not live without its server
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(REAP_S)
        return describe_end(code)

    # What each kind of process does.

    def _hear(self, line: bytes) -> None:
        """Takes one line of the process."""
        raise NotImplementedError

    async def _end(self) -> None:
        """Says what its end means."""
        raise NotImplementedError


class Worker(Child):
    """The server's side of one worker process.

    Args:
        process: the process.
        on_end: called with this worker when its process has ended.
        on_about: called with what it says of the machine.
        on_outdated: called with the error if it is of another version than this server.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        on_end: Callable[[Worker], None],
        on_about: Callable[[dict[str, Any]], None],
        on_outdated: Callable[[Outdated], None],
    ) -> None:
        super().__init__(process)
        self.since = utc_now_text()
        self.idle_since_s = time.monotonic()
        self.memory_bytes = 0
        self.run: ProcessRun | None = None
        self.ready = False  # it has imported what it needs
        self.reserved = True  # for whoever wanted it
        self.keeps: str | None = None  # the task whose result it holds until there is room for it
        self._on_end = on_end
        self._on_about = on_about
        self._on_outdated = on_outdated
        self._calls: dict[int, asyncio.Future[Any]] = {}

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return not (self.gone or self.reserved or self.run or self.keeps or self._calls)

    @property
    def state(self) -> WorkerState:
        """This worker as it is shown."""
        task = self.run.envelope.task_id if self.run else None
        return WorkerState(self.process.pid, task, self.memory_bytes, self.since)

    def begin(self, run: ProcessRun) -> None:
        """Gives it a run; it must be idle."""
        self.run, run.worker, self.reserved, self.keeps = run, self, False, None
        self.send({"do": "run", "envelope": run.envelope.to_dict(), "workdir": str(run.workdir)})

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """The answer to a short call.

        Raises:
            KtrdrError: as the call raised it, or LabUnavailable if the worker died.
        """
        self.reserved = False
        identifier = max(self._calls, default=0) + 1
        answer = self._calls[identifier] = asyncio.get_running_loop().create_future()
        self.send({"do": "call", "id": identifier, "name": name, "arguments": arguments})
        try:
            return await answer
        finally:
            del self._calls[identifier]
            self.idle_since_s = time.monotonic()

    def end(self) -> None:
        """Lets an idle worker end: it sees its socket close."""
        self.gone = True
        if self._transport is not None:
            self._transport.close()

    def kill(self) -> None:
        """Ends the process at once."""
        self.gone = True
        with contextlib.suppress(OSError):
            self.process.kill()

    def _hear(self, line: bytes) -> None:
        """Takes one line of the worker."""
        kind = (raw := json.loads(line))["event"]
        if kind == "heartbeat":
            self.memory_bytes = raw["memory_bytes"]
        elif kind == "log":
            pass_on_log(raw)
        elif kind == "answer":
            self._finish_call(raw)
        elif kind == "about":
            self._on_about(raw["about"])
        elif kind == "ready":
            self.ready = True
            self._require_version(raw["version"])
        elif self.run is not None:
            self._heard_of_run(decode(line))

    def _heard_of_run(self, event: Event) -> None:
        """Passes an event on; after the end the worker is free."""
        run = self.run
        if run is not None:
            if isinstance(event, Ended):
                self.run, run.worker = None, None
                if event.failure is not None and event.failure.stage == "publishing":
                    self.keeps = run.envelope.task_id
                self.idle_since_s = time.monotonic()
            run.deliver(event)

    def _finish_call(self, raw: dict[str, Any]) -> None:
        """Ends a call."""
        future = self._calls.get(raw["id"])
        if future is not None:
            error = error_of(raw["failure"]) if "failure" in raw else None
            set_unless_done(future, raw.get("result"), error)

    def _require_version(self, version: str) -> None:
        """Refuses a worker of another version, installed since the server was started.

        Its run has not begun, and costs nothing: the next server may be the one that goes on.
        """
        if version == __version__:
            return
        error = outdated_error(version)
        self._on_outdated(error)
        self.kill()
        for future in self._calls.values():
            set_unless_done(future, None, error)
        if (run := self.run) is not None:
            self.run, run.worker = None, None
            run.begin_anew()

    async def _end(self) -> None:
        """Waits for the end of the process and says with what it ended."""
        reason = await self._reap()
        for future in self._calls.values():
            set_unless_done(future, None, death(reason))
        if (run := self.run) is not None:
            if not run.killed:
                log.warning("the worker of task %s died (%s)", run.envelope.task_id, reason)
            self.run, run.worker = None, None
            run.deliver(Ended(stopped=True) if run.killed else Ended(died=reason))
        self._on_end(self)


def pass_on_log(raw: dict[str, Any]) -> None:
    """Logs here what a process has logged."""
    # `name` is ours: only modules of this program and of its libraries log there
    logging.getLogger(raw["name"]).log(raw["level"], "%s", raw["text"])


def describe_end(code: int) -> str:
    """How a process ended, from what its parent is told."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def not_started(error: OSError) -> LabUnavailable:
    """The error of a task for which the system gives no worker."""
    return LabUnavailable(
        f"No worker process can be started: {error.strerror}.",
        hint="See whether this program is still installed as it was, then try again.",
    )


class Outdated(LabUnavailable):
    """Another version of this program has been installed since the server was started."""


def outdated_error(version: str) -> Outdated:
    """The error of a worker of another version."""
    return Outdated(
        f"ktrdr-mcp {version} has been installed; the server that runs is {__version__}.",
        hint="End it with 'ktrdr-mcp lab stop' and call again: the new one goes on with it.",
    )


class WorkerDied(LabUnavailable):
    """The worker that was to answer a call died."""


def death(reason: str) -> WorkerDied:
    """The error of a call whose worker died."""
    return WorkerDied(
        f"The process that computed this died ({reason}).",
        hint="Call again; if it happens again, memory is probably short: see the program's log.",
    )


class Pool:
    """Worker processes that are started on demand and end when they are idle.

    Args:
        entry: the work, as jobs.process finds it: "module:function".
        argument: what that function is called with.
        idle_s: after which an idle worker ends.
        niceness: of the workers.
    """

    def __init__(
        self, entry: str, argument: str, idle_s: float = IDLE_S, niceness: int = NICENESS
    ) -> None:
        self.workers: list[Worker] = []
        self.about: dict[str, Any] = {}  # what the newest worker that said so says of the machine
        self._entry = entry
        self.argument = argument
        self._idle_s = idle_s
        self._niceness = niceness
        self._launcher = Launcher()
        self._looking: asyncio.TimerHandle | None = None
        self._outdated: Outdated | None = None  # why no worker is started now
        self._outdated_at_s = 0.0

    @property
    def idle(self) -> list[Worker]:
        """The workers with nothing to do."""
        return [worker for worker in self.workers if worker.idle]

    def keeper(self, task_id: str | None) -> Worker | None:
        """The worker that holds the result of a task, if one does."""
        held = [each for each in self.workers if each.keeps is not None and not each.gone]
        return next((worker for worker in held if worker.keeps == task_id), None)

    async def take(self, task_id: str | None = None) -> Worker:
        """The worker that holds a task's result, or an idle one, or a new one; reserved.

        Args:
            task_id: for which task, if for one. Of idle workers it gets the one used last.
        Raises:
            OSError: the system gives no process.
            Outdated: the newest worker was of another version, a moment ago.
        """
        if (worker := self.next_for(task_id)) is not None:
            worker.reserved = True
            return worker
        if self._outdated is not None:
            if time.monotonic() - self._outdated_at_s < OUTDATED_PAUSE_S:
                raise self._outdated
            self._outdated = None
        return await self._start()

    def next_for(self, task_id: str | None) -> Worker | None:
        """The worker that holds a task's result, or the idle one used last; None if there is none.

        Args:
            task_id: for which task, if for one.
        """
        if (keeper := self.keeper(task_id)) is not None:
            return keeper
        return max(self.idle, key=lambda worker: worker.idle_since_s, default=None)

    async def _start(self) -> Worker:
        """A new worker."""
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: the folder that the server runs in must not provide modules
            program = [sys.executable, "-P", "-m", "ktrdr_mcp.jobs.process"]
            about = [str(theirs.fileno()), str(os.getpid()), str(self._niceness)]
            try:
                command = [*program, *about, self._entry, self.argument]
                process = await self._launcher.launch(command, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        worker = Worker(process, self._forget, self.about.update, self._note_outdated)
        self.workers.append(worker)
        ours.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: worker, ours)
        self._look_for_idle()
        return worker

    def _forget(self, worker: Worker) -> None:
        """Drops a worker whose process has ended."""
        self.workers.remove(worker)

    def _note_outdated(self, error: Outdated) -> None:
        """Starts no worker for a while, as it would be of another version, too."""
        if self._outdated is None:
            log.error("%s %s", error.message, error.hint)
        self._outdated, self._outdated_at_s = error, time.monotonic()

    def _look_for_idle(self) -> None:
        """Ends workers that have been idle for long, and looks again while there are any."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        for worker in self.workers:
            if worker.idle and time.monotonic() - worker.idle_since_s >= self._idle_s:
                worker.end()
        if self.workers:
            loop = asyncio.get_running_loop()
            self._looking = loop.call_later(IDLE_LOOK_S, self._look_for_idle)

    async def close(self) -> None:
        """Ends every worker, whatever it does, and waits for its end."""
        for worker in self.workers:
            worker.kill()
        while self.workers:  # noqa: ASYNC110 (each forgets itself when its process has ended)
            await asyncio.sleep(REAP_S)
        if self._looking is not None:
            self._looking.cancel()


class ProcessExecutor:
    """A base.Executor with a worker process for each running task.

    Args:
        pool: the workers.
        capacity: the most tasks that run at once.
    """

    kills = True
    here = True

    def __init__(self, pool: Pool, capacity: int) -> None:
        self.capacity = capacity
        self._pool = pool
        self._gate = Gate[ProcessRun](promised_bytes, self._wanted_bytes)
        self._carriers: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> list[WorkerState]:
        """Every worker that runs."""
        return [worker.state for worker in self._pool.workers]

    async def open(self, on_room: Callable[[], None]) -> None:
        """Does nothing: workers are started on demand, and there is always the same room."""

    def submit(self, envelope: Envelope, workdir: Path) -> ProcessRun:
        """See base.Executor."""
        run = ProcessRun(replace(envelope, bars={"workspace": self._pool.argument}), workdir)
        run.begin_anew = lambda: self._spawn(self._give(run))
        self._spawn(self._begin(run))
        return run

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Does something beside."""
        carrier = asyncio.create_task(work)
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    async def _begin(self, run: ProcessRun) -> None:
        """Gives a run to a worker once there is memory for it."""
        await self._gate.enter(run)
        await self._give(run)

    async def _give(self, run: ProcessRun) -> None:
        """Gives a run to a worker, once there is one."""
        worker = None
        while not run.stop_requested and worker is None:
            try:
                worker = await self._pool.take(run.envelope.task_id)
            except OSError as error:
                if error.errno not in SCARCE:
                    run.deliver(Ended(failure=failure_of(not_started(error))))
                    return
                log.warning("no worker can be started yet: %s", error.strerror)
                await run.wait_for_stop(SCARCE_PAUSE_S)
            except Outdated:  # another run may leave its worker, which is of this version
                await run.wait_for_stop(SCARCE_PAUSE_S)
        if worker is not None and run.stop_requested:
            worker.reserved = False
        if worker is None or run.stop_requested:
            run.deliver(Ended(stopped=True))
        else:
            worker.begin(run)

    def forget(self, task_id: str) -> None:
        """See base.Executor."""
        if (keeper := self._pool.keeper(task_id)) is not None:
            keeper.keeps = None
            keeper.idle_since_s = time.monotonic()

    def _wanted_bytes(self, run: ProcessRun) -> int:
        """The memory that a run would take at most, in the worker that it would get."""
        return remaining_bytes(run, resident_bytes(self._pool.next_for(run.envelope.task_id)))

    async def close(self) -> bool:
        """See base.Executor; whatever has not ended is killed."""
        for carrier in list(self._carriers):
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        for run in self._gate.inside:
            run.kill()
        await self._pool.close()
        return True


class CallWorker:
    """One worker that answers short calls, several at once, and never trains.

    Args:
        pool: of its own.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._worker: Worker | None = None
        self._starting = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None

    @property
    def workers(self) -> list[WorkerState]:
        """The worker, if it runs."""
        return [worker.state for worker in self._pool.workers]

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """The answer to a call; if the worker dies, of another worker.

        Args:
            name: which call; doing it twice must do no harm.
            arguments: JSON.
        Raises:
            KtrdrError: as the call raised it, or LabUnavailable if the second worker died too.
        """
        try:
            return await (await self._ready()).call(name, arguments)
        except WorkerDied:
            log.warning("the worker died in %s; another one is asked", name)
            return await (await self._ready()).call(name, arguments)

    def warm(self) -> None:
        """Starts the worker before anybody calls, as its imports take seconds."""
        self._warming = asyncio.create_task(self._warm(), name="warm")

    async def _warm(self) -> None:
        """Starts the worker; the first call says why that is not possible."""
        with contextlib.suppress(LabUnavailable):
            worker = await self._ready()
            worker.reserved = False
            worker.idle_since_s = time.monotonic()

    async def _ready(self) -> Worker:
        """The worker, started if there is none. Raises LabUnavailable."""
        async with self._starting:
            if self._worker is None or self._worker.gone:
                try:
                    self._worker = await self._pool.take()
                except OSError as error:
                    raise not_started(error) from error
            return self._worker

    async def close(self) -> None:
        """Ends the worker."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        await self._pool.close()


def promised_bytes(runs: Sequence[ProcessRun]) -> int:
    """The memory that runs may still come to take.

    What their workers hold is asked of the system at this moment, as what is free is: a heartbeat
    may still show what the worker's last run held, which counts as free already.
    """
    return sum(remaining_bytes(run, resident_bytes(run.worker)) for run in runs)


def remaining_bytes(run: HeardRun, held: int) -> int:
    """The memory that a run may still come to take in a worker that holds some, in bytes."""
    return max(0, run.envelope.memory_bytes + WORKER_BYTES - held)


def resident_bytes(worker: Worker | None) -> int:
    """The memory that a worker holds, if there is one."""
    return 0 if worker is None else memory.resident_bytes(worker.process.pid)


def available_cores() -> int:
    """The cores that this process may use, a container's share rounded up."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, -(-int(quota) // int(period))))
    return cores
