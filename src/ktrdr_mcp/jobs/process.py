"""The program of a worker process: listens to its server in one thread, works in another.

Started as `python -P -m ktrdr_mcp.jobs.process DESCRIPTOR PARENT NICENESS ENTRY ARGUMENT`. ENTRY is
"module:function"; called with ARGUMENT it gives the work. Lines of JSON go both ways over the
socket with that descriptor.

to the worker      {"do": "run", "envelope", "workdir"}  {"do": "stop", "draining"}
                   {"do": "call", "id", "name", "arguments"}
to the server      {"event": "ready", "pid", "version"}  {"event": "heartbeat", "memory_bytes"}
                   {"event": "begun" | "reported" | "ended", ...}: see executors.base
                   {"event": "answer", "id", "result" | "failure"}  {"event": "log", ...}
                   {"event": "about", "about"}: once, after the first run, when nothing else waits
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from ktrdr_mcp import __version__, memory
from ktrdr_mcp.context import Context, EpochFigures
from ktrdr_mcp.jobs.executors.base import Ended
from ktrdr_mcp.jobs.fit import check_fit
from ktrdr_mcp.jobs.worker import NO_RESULTS, Outbox, WorkerContext, failure_of, perform

PUBLISH_INTERVAL_S: Final = 0.1
HEARTBEAT_INTERVAL_S: Final = 1.0
SWITCH_INTERVAL_S: Final = 0.0005  # so that the listening thread hears of a stop at once
PR_SET_PDEATHSIG: Final = 1
READ_BYTES: Final = 65_536
CALLS_AT_ONCE: Final = 4  # so that a prediction does not wait for a backtest
UNUSED: Final = "polars"  # TA-Lib imports it where it is installed; 26 MB for nothing
ORPHANED: Final = 3  # the exit status of a worker whose server is gone


class Work(Protocol):
    """What a worker can do."""

    def run(self, spec: dict[str, Any], workdir: Path, context: Context) -> dict[str, Any]:
        """Runs one task; see jobs.worker.Run."""

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Answers one short call with JSON. Raises KtrdrError."""

    def about(self) -> dict[str, Any]:
        """What the server may want to know of this machine, for example its speed."""


class Connection:
    """The lines to and from the server. Only the listening thread receives; any thread sends."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._sending = threading.Lock()
        self._received = b""

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def send(self, *lines: str) -> None:
        """Sends whole lines; ends the process if nobody is there to receive them."""
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            os._exit(ORPHANED)

    def receive(self) -> list[dict[str, Any]]:
        """What has come; ends the process once the server is gone."""
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            os._exit(ORPHANED)
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]


class LogToServer(logging.Handler):
    """Sends what is logged to the server, whose log is bounded and in one place."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        line = {"event": "log", "level": record.levelno, "name": record.name}
        self._connection.send(json.dumps({**line, "text": self.format(record)}))


class ProcessContext(WorkerContext):
    """A WorkerContext whose server knows where the run begins before the run goes on.

    Without that, a run that dies right after would count as one that had got no further.

    Args:
        outbox: where its events go.
        deliver: sends what is in there.
        results: what the parts of this training have returned, by their names.
    """

    def __init__(
        self,
        outbox: Outbox,
        deliver: Callable[[], object],
        results: Mapping[str, dict[str, Any]] = NO_RESULTS,
    ) -> None:
        super().__init__(outbox, results=results)
        self._deliver = deliver

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        """See context.Context."""
        super().begin_at(epoch, reason, figures, total_epochs)
        self._deliver()


class WorkerProcess:
    """One worker.

    Args:
        connection: to its server.
        entry: gives the work; called in the working thread, because it may import for seconds.
        workspace: whose bars it reads, if it reads those of a workspace.
    """

    def __init__(
        self, connection: Connection, entry: Callable[[], Work], workspace: str | None = None
    ) -> None:
        self._connection = connection
        self._entry = entry
        self._workspace = workspace
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._context: WorkerContext | None = None  # of the run under way
        self._waking, self._wake = os.pipe()
        self._outbox = Outbox(lambda: _wake(self._wake))
        self._delivering = threading.Lock()  # events are sent in the order they are taken in

    def serve(self) -> None:
        """Listens until the process ends."""
        os.set_blocking(self._wake, False)
        threading.Thread(target=self._work, name="work", daemon=True).start()
        heartbeat_at = look_at = 0.0
        while True:
            now = time.monotonic()
            if now >= heartbeat_at:
                held = {"event": "heartbeat", "memory_bytes": memory.resident_bytes()}
                self._connection.send(json.dumps(held))
                heartbeat_at = now + HEARTBEAT_INTERVAL_S
            if look_at and now >= look_at:
                lines = self._deliver(self._outbox.rearm)
                look_at = now + PUBLISH_INTERVAL_S if lines else 0.0
            until = min(heartbeat_at, look_at or heartbeat_at)
            sources = [self._connection.fileno(), self._waking]
            ready, _, _ = select.select(sources, [], [], max(0.0, until - now))
            if self._waking in ready:
                os.read(self._waking, READ_BYTES)
                self._deliver(self._outbox.take)
                look_at = look_at or time.monotonic() + PUBLISH_INTERVAL_S
            if self._connection.fileno() in ready:
                for message in self._connection.receive():
                    self._obey(message)

    def _deliver(self, take: Callable[[], list[str]]) -> list[str]:
        """Sends the events that a method of the outbox gives; from any thread."""
        with self._delivering:
            lines = take()
            self._connection.send(*lines)
        return lines

    def _obey(self, message: dict[str, Any]) -> None:
        """Does what the server says."""
        if message["do"] == "stop":
            if self._context is not None:
                self._context.request_stop(message["draining"])
        else:
            if message["do"] == "run":
                self._context = ProcessContext(
                    self._outbox,
                    lambda: self._deliver(self._outbox.take),
                    message["envelope"]["results"],
                )
            self._jobs.put(message)

    def _work(self) -> None:
        """Works off what comes: runs one after the other, several calls at once."""
        try:
            work = self._entry()
        except BaseException:
            logging.getLogger(__name__).exception("this worker cannot begin to work")
            os._exit(1)
        hello = {"event": "ready", "pid": os.getpid(), "version": __version__}
        self._connection.send(json.dumps(hello))
        described = False
        calls = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="call")
        while True:
            job = self._jobs.get()
            if job["do"] == "call":
                calls.submit(self._answer, work, job)
                continue
            self._run(work, job)
            if not described and self._jobs.empty():
                described = True
                self._connection.send(json.dumps({"event": "about", "about": work.about()}))

    def _answer(self, work: Work, job: dict[str, Any]) -> None:
        """Answers one call."""
        self._connection.send(answer(work, job))

    def _run(self, work: Work, job: dict[str, Any]) -> None:
        """Runs one task. After a failed allocation the process ends, to give all memory back."""
        context = self._context
        if context is None:
            raise RuntimeError("a run without a context")
        envelope = job["envelope"]

        def run(spec: dict[str, Any], workdir: Path, context: Context) -> dict[str, Any]:
            check_fit(envelope, self._workspace)
            return work.run(spec, workdir, context)

        ended = perform(run, envelope["spec"], Path(job["workdir"]), context, self._outbox)
        if is_out_of_memory(ended):
            self._deliver(self._outbox.take)
            os._exit(0)


def is_out_of_memory(ended: Ended) -> bool:
    """Whether a run ended for want of memory."""
    return ended.failure is not None and ended.failure.code == "out_of_memory"


def answer(work: Work, job: dict[str, Any]) -> str:
    """The line that answers a call; whatever goes wrong is part of it."""
    line: dict[str, Any] = {"event": "answer", "id": job["id"]}
    try:
        return json.dumps({**line, "result": work.call(job["name"], job["arguments"])})
    except Exception as error:
        return json.dumps({**line, "failure": asdict(failure_of(error))})


def _wake(descriptor: int) -> None:
    """Wakes a select; if the pipe is full, it is awake already."""
    with contextlib.suppress(BlockingIOError):
        os.write(descriptor, b"\0")


def end_with(parent: int) -> None:
    """Lets this process die with its server, also where that is killed.

    Args:
        parent: the server's process id; if it has gone already, this process ends here.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ORPHANED)


def configure(niceness: int) -> None:
    """Sets what torch and the threads of this process need; before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.modules[UNUSED] = None  # type: ignore[assignment]
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    os.dup2(2, 1)  # nothing that prints may reach anything but the log


def find_entry(name: str) -> Any:
    """The function of an entry's name, "module:function"."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def main(arguments: list[str]) -> None:
    """Runs a worker until it ends with its server."""
    descriptor, parent, niceness, entry, argument = arguments
    end_with(int(parent))
    configure(int(niceness))
    connection = Connection(int(descriptor))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(LogToServer(connection))

    def open_work() -> Work:
        work: Work = find_entry(entry)(argument)
        return work

    WorkerProcess(connection, open_work, argument).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
