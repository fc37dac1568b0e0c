"""What runs on a Ray cluster: the board, where runs leave word for their server, and the workers.

These are plain classes; the driver makes actors of them. Only text, numbers and bytes cross.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from ktrdr_mcp import files, memory
from ktrdr_mcp.context import Context
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.jobs.cluster import parcels
from ktrdr_mcp.jobs.executors.base import Ended, encode
from ktrdr_mcp.jobs.fit import own_versions
from ktrdr_mcp.jobs.process import (
    PUBLISH_INTERVAL_S,
    SWITCH_INTERVAL_S,
    ProcessContext,
    find_entry,
)
from ktrdr_mcp.jobs.worker import Outbox, failure_of, perform
from ktrdr_mcp.training.sent import SentBars

SEND_INTERVAL_S: Final = 10.0  # between two checkpoints of one run on their way
SCRATCH_PREFIX: Final = "ktrdr-run-"

Entry: TypeAlias = tuple[str, list[str], bytes]  # whose, its events as lines, a parcel or nothing
Put: TypeAlias = Callable[[list[str], bytes], bool]  # False: nobody holds this run any more


class Board:
    """Where workers leave what their server has not fetched yet. Lives on the driver's node.

    Only runs that are held may leave anything: one that has lost its task is told so.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._entries: list[Entry] = []
        self._logged: list[list[Any]] = []

    def hold(self, key: str) -> None:
        """Lets a run leave word."""
        self._held.add(key)

    def release(self, key: str) -> None:
        """Lets it leave nothing any more."""
        self._held.discard(key)

    def put(self, key: str, lines: list[str], parcel: bytes) -> bool:
        """Leaves word; False, and nothing is kept, if the run is not held."""
        if key in self._held:
            self._entries.append((key, lines, parcel))
        return key in self._held

    def log(self, level: int, name: str, text: str) -> None:
        """Leaves a line for the server's log."""
        self._logged.append([level, name, text])

    def take(self) -> tuple[list[Entry], list[list[Any]]]:
        """Everything that was left, oldest first."""
        entries, self._entries = self._entries, []
        logged, self._logged = self._logged, []
        return entries, logged


class SentWork(Protocol):
    """What a worker on a cluster can do."""

    def run(
        self, spec: dict[str, Any], workdir: Path, context: Context, bars: SentBars
    ) -> dict[str, Any]:
        """Runs one task; see jobs.worker.Run."""

    def about(self) -> dict[str, Any]:
        """What the server may want to know of this machine, for example its speed."""


class Messenger:
    """Brings what a run says, and its checkpoints, to the board; in a thread of its own.

    Args:
        put: leaves word at the board and waits until it is there.
        changes: of the run's folder; None where the server sees the folder itself.
    """

    def __init__(self, put: Put, changes: parcels.Changes | None) -> None:
        self._put = put
        self._changes = changes
        self._woken = threading.Event()
        self._ends = threading.Event()
        self._delivering = threading.Lock()
        self._sent_s = time.monotonic()
        self.outbox = Outbox(self._woken.set)
        self.lost: Callable[[], None] = lambda: None  # called once nobody holds the run
        self._thread = threading.Thread(target=self._serve, name="messenger", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def deliver(self) -> None:
        """Leaves what has come; from any thread."""
        self._leave(self.outbox.take)

    def end(self) -> None:
        """Leaves the last word."""
        self._ends.set()
        self._woken.set()
        self._thread.join()
        self.deliver()

    def _serve(self) -> None:
        """Leaves word ten times a second while there is any, and checkpoints when it is time."""
        pause_s = None if self._changes is None else PUBLISH_INTERVAL_S
        while not self._ends.is_set():
            self._woken.wait(pause_s)
            self._woken.clear()
            self._leave(self.outbox.take, self._checkpoint)
            # Progress wakes nobody until a look has found none.
            while not self._ends.wait(PUBLISH_INTERVAL_S):
                if not self._leave(self.outbox.rearm, self._checkpoint):
                    break

    def _checkpoint(self) -> bytes:
        """What is new of the checkpoints, as a parcel; nothing while the last one is young."""
        if self._changes is None or time.monotonic() - self._sent_s < SEND_INTERVAL_S:
            return b""
        try:
            contents = self._changes.take(checkpoints_only=True)
        except OSError:
            logging.getLogger(__name__).warning("a checkpoint cannot be read", exc_info=True)
            return b""
        if not contents:
            return b""
        self._sent_s = time.monotonic()
        return parcels.pack(contents)

    def _leave(
        self, take: Callable[[], list[str]], checkpoint: Callable[[], bytes] = bytes
    ) -> bool:
        """Leaves word, if there is any, in the order in which it is taken; whether there was."""
        with self._delivering:
            lines, parcel = take(), checkpoint()
            if (lines or parcel) and not self._put(lines, parcel):
                self.lost()
        return bool(lines or parcel)


class ClusterWorker:
    """One worker; an actor whose methods run in threads.

    Args:
        board: the actor of Board.
        entry: the work, "module:function".
        niceness: of this process.
    """

    def __init__(self, board: Any, entry: str, niceness: int) -> None:
        configure(niceness)
        self._board = board
        self._entry = entry
        self._work: SentWork | None = None
        self._contexts: dict[str, ProcessContext] = {}
        self._stops: dict[str, bool] = {}  # asked for before the run was here
        self._lock = threading.Lock()
        logging.getLogger().addHandler(LogToBoard(board))
        sweep_scratch()

    def about(self) -> str:
        """Where this worker is and what it has, as JSON. Imports nothing heavy."""
        import ray

        context = ray.get_runtime_context()
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "node": context.get_node_id(),
            "versions": {**own_versions(), "ray": ray.__version__},
        }
        return json.dumps(about)

    def warm(self) -> None:
        """Imports what work needs, which takes seconds."""
        with self._lock:
            if self._work is None:
                self._work = find_entry(self._entry)()

    def speed(self) -> str:
        """How fast this machine is, as JSON; takes a moment."""
        self.warm()
        assert self._work is not None  # noqa: S101 (warm has set it)
        return json.dumps(self._work.about())

    def memory(self) -> int:
        """The bytes that this process holds."""
        return memory.resident_bytes()

    def stop(self, key: str, draining: bool) -> None:
        """Asks a run to stop, also one that has not come yet."""
        with self._lock:
            self._stops[key] = draining
            context = self._contexts.get(key)
        if context is not None:
            context.request_stop(draining)

    def run(
        self, key: str, envelope: str, store: str | None, sent: bytes, *bars: bytes
    ) -> tuple[str, bytes]:
        """Runs one task.

        Args:
            key: by which the board knows this attempt.
            envelope: an executors.base.Envelope as JSON.
            store: the folder to run in; None for one of this machine.
            sent: the task's files as a parcel; not looked at where there is a store.
            bars: of each series, as Parquet.
        Returns:
            how it ended, as a line, and all files that the server has not got yet.
        """
        import ray

        def put(lines: list[str], parcel: bytes) -> bool:
            return bool(ray.get(self._board.put.remote(key, lines, parcel)))

        try:
            self.warm()
            with in_folder(store) as root:
                return self._run(key, json.loads(envelope), (root, store is None), sent, bars, put)
        except ray.exceptions.RayError:  # of a board that is gone, and the cluster with it
            raise
        except Exception as error:  # of this machine, which tells more than the death of a worker
            return encode(Ended(failure=failure_of(error))), parcels.pack({})

    def _run(
        self,
        key: str,
        envelope: dict[str, Any],
        where: tuple[Path, bool],
        sent: bytes,
        bars: Sequence[bytes],
        put: Put,
    ) -> tuple[str, bytes]:
        """Runs one task in a folder, which the server does not see if it is told so."""
        root, travels = where
        result = envelope["bars"]["result"]
        if travels:
            parcels.lay_out(root, parcels.unpack(sent))
        changes = parcels.Changes(root, result) if travels else None
        messenger = Messenger(put, changes)
        context = ProcessContext(messenger.outbox, messenger.deliver, envelope["results"])
        messenger.lost = context.request_stop
        with self._lock:
            self._contexts[key] = context
            stops = self._stops.get(key)
        if stops is not None:
            context.request_stop(stops)
        messenger.start()
        ending = Outbox(lambda: None)

        def run(spec: dict[str, Any], workdir: Path, its: Context) -> dict[str, Any]:
            assert self._work is not None  # noqa: S101 (warm has set it)
            series = SentBars(envelope["bars"]["series"], bars)
            return self._work.run(spec, workdir, its, series)

        try:
            ended = perform(run, envelope["spec"], root / result, context, ending)
            messenger.end()
        finally:
            with self._lock:
                del self._contexts[key]
                self._stops.pop(key, None)
        return encode(ended), pack_remaining(ended, changes)


class LogToBoard(logging.Handler):
    """Brings what is logged to the server, without waiting for it."""

    def __init__(self, board: Any) -> None:
        super().__init__(logging.WARNING)
        self._board = board
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if record.name.partition(".")[0] == "ktrdr_mcp":
            text = f"{socket.gethostname()}: {self.format(record)}"
            self._board.log.remote(record.levelno, record.name, text)


@contextlib.contextmanager
def in_folder(store: str | None) -> Iterator[Path]:
    """The folder of a run: one of a shared store, or else one of this machine while it lasts.

    Raises:
        StorageError: this machine gives none.
    """
    if store is not None:
        yield Path(store)
        return
    with files.storage_errors(f"making a folder on {socket.gethostname()}"):
        root = Path(tempfile.mkdtemp(prefix=scratch_prefix()))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def pack_remaining(ended: Ended, changes: parcels.Changes | None) -> bytes:
    """All files of a run that the server has not got yet, as a parcel.

    Raises:
        StorageError: they cannot be read; a result that is lost with them is tried for again.
    """
    try:
        with files.storage_errors(f"reading what a run left on {socket.gethostname()}"):
            return parcels.pack(changes.take() if changes is not None else {})
    except StorageError as error:
        error.stage = "publishing" if ended.result is not None else None
        raise


def configure(niceness: int) -> None:
    """Sets what torch and the threads of this process need; before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


def scratch_prefix() -> str:
    """How the names of this process's folders begin."""
    return f"{SCRATCH_PREFIX}{os.getpid()}-"


def sweep_scratch() -> None:
    """Removes what workers of this machine that were killed have left."""
    for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        pid = path.name.removeprefix(SCRATCH_PREFIX).partition("-")[0]
        if pid.isdigit() and not is_alive(int(pid)) and is_own(path):
            shutil.rmtree(path, ignore_errors=True)


def is_own(path: Path) -> bool:
    """Whether a folder is this user's own, and no link."""
    with contextlib.suppress(OSError):
        return path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.geteuid()
    return False


def is_alive(pid: int) -> bool:
    """Whether there is a process with an id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
