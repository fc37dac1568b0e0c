"""The readers of bars: two processes beside this one that read files, of bounded time and memory.

Whatever a file does to its decoder, this process answers on meanwhile. A reader starts with the
first file, is kept for those that follow, and is ended when it is idle or holds too much memory.
Large files are read one at a time, so that small ones never wait for them.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from queue import LifoQueue
from threading import Lock, Timer
from typing import IO, Any, Final, TypedDict, final

import numpy as np

from ktrdr_mcp.data.bars import COLUMNS
from ktrdr_mcp.data.series import FileState, StoredSeries
from ktrdr_mcp.data.tables import BarTable, unusable
from ktrdr_mcp.errors import ErrorJson, KtrdrError, error_of

CHILD: Final = "ktrdr_mcp.data.reader_child"
IDLE_S: Final = 60.0
TIMEOUT_S: Final = 600.0  # for a reader that waits; one that computes ends itself much sooner
LARGE_BYTES: Final = 4 * 1024**2  # some 60,000 bars of CSV, read in a fraction of a second
MAX_RESIDENT_BYTES: Final = 1024**3  # a reader that ever held more is not kept
HINT: Final = "Write it again, or as CSV."


class FileRequest(TypedDict):
    """Which file a reader reads: its path, time of change (ns) and size (bytes), and names."""

    path: str
    state: tuple[int, int]
    name: str
    symbol: str
    timeframe: str


@final
class SeriesHeader(TypedDict):
    """The line before a series' arrays."""

    rows: int
    place_word: str
    first_place: int
    notes: list[str]
    resident_bytes: int


@final
class Refusal(TypedDict):
    """The line instead of a series."""

    error: ErrorJson
    resident_bytes: int


class Reader:
    """A process that reads one file after the other. Any thread may use it.

    Args:
        idle_s: after how long without a file it is ended.
        timeout_s: after how long with one file it is ended.
    """

    def __init__(self, idle_s: float = IDLE_S, timeout_s: float = TIMEOUT_S) -> None:
        self._idle_s = idle_s
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: Timer | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process, if there is one now."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def read(self, state: FileState, name: str, symbol: str, timeframe: str) -> StoredSeries:
        """Reads one file of bars. Blocks.

        Args:
            state: of the file, symbolic links already followed.
            name: the file, as messages call it.
            symbol: what was traded.
            timeframe: the nominal width of a bar.
        Raises:
            DataInvalid: it is no table of bars, its times are not in order, or it cannot be read
                within the limits.
            LimitExceeded: it is larger than what is read.
            StorageError: the file system failed.
        """
        request: FileRequest = {
            "path": str(state.path),
            "state": (state.mtime_ns, state.size),
            "name": name,
            "symbol": symbol,
            "timeframe": timeframe,
        }
        with self._lock:
            self._stop_waiting()
            try:
                return self._answer(request, name)
            except BaseException as error:
                if not isinstance(error, KtrdrError):
                    self._end()
                raise
            finally:
                self._wait_idle()

    def close(self) -> None:
        """Ends the process, if there is one."""
        with self._lock:
            self._stop_waiting()
            self._end()

    def _answer(self, request: FileRequest, name: str) -> StoredSeries:
        """Sends a request and takes the answer; a process that breaks off is not kept."""
        process = self._running()
        with self._limit_time(process) as (requests, answers):
            try:
                requests.write(f"{json.dumps(request)}\n".encode())
                requests.flush()
                header: SeriesHeader | Refusal = json.loads(answers.readline())
                if "error" in header:
                    found: StoredSeries | KtrdrError = error_of(header["error"])
                else:
                    found = receive(answers, header, name)
            except (OSError, EOFError, ValueError):
                self._end()
                kind = "Parquet" if name.endswith(".parquet") else "CSV"
                raise unusable(name, f"cannot be decoded as {kind}", HINT) from None
        if header["resident_bytes"] > MAX_RESIDENT_BYTES:
            self._end()
        if isinstance(found, KtrdrError):
            raise found
        return found

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, started if there is none."""
        if self._process is None or self._process.poll() is not None:
            self._end()
            # -P keeps the current folder from being searched for modules.
            self._process = subprocess.Popen(  # noqa: S603 - nothing in it comes from a caller
                [sys.executable, "-P", "-m", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    @contextmanager
    def _limit_time(
        self, process: subprocess.Popen[bytes]
    ) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The two ends of a process that is killed when it takes too long."""
        if process.stdin is None or process.stdout is None:
            raise ValueError("the reader has no pipes")
        limit = Timer(self._timeout_s, process.kill)
        limit.daemon = True
        limit.start()
        try:
            yield process.stdin, process.stdout
        finally:
            limit.cancel()

    def _end(self) -> None:
        """Ends the process at once; it has nothing to lose."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what it had not read is lost with it
                        pipe.close()

    def _wait_idle(self) -> None:
        """Ends the process once it has had nothing to do for long enough."""
        if self._process is not None:
            self._idle = Timer(self._idle_s, self.close)
            self._idle.daemon = True
            self._idle.start()

    def _stop_waiting(self) -> None:
        """Lets the process live on."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


def receive(answers: IO[bytes], header: SeriesHeader, name: str) -> StoredSeries:
    """The series that the reader sends behind its header. Raises EOFError if it breaks off."""
    rows = header["rows"]

    def numbers(kind: type[np.generic]) -> Any:
        array = np.empty(rows, kind)
        view, done = memoryview(array.view(np.uint8).data), 0
        while done < len(view):
            count = answers.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            done += count
        return array

    time, offset = numbers(np.int64), numbers(np.int64)
    names_offset, unsound = numbers(np.bool_), numbers(np.bool_)
    columns = {column: numbers(np.float64) for column in COLUMNS}
    table = BarTable(
        name,
        time,
        names_offset,
        offset,
        columns,
        header["place_word"],
        header["first_place"],
    )
    return StoredSeries(table, unsound, tuple(header["notes"]))


class Readers:
    """A few readers, of which large files take at most one. Any thread may use them.

    Args:
        readers: two or more.
        large_bytes: the size from which on a file is large.
    """

    def __init__(self, readers: Sequence[Reader], large_bytes: int = LARGE_BYTES) -> None:
        self._readers = readers
        self._large_bytes = large_bytes
        self._free: LifoQueue[Reader] = LifoQueue()  # the one that was last used is warm
        for reader in readers:
            self._free.put(reader)
        self._large = Lock()

    def read(self, state: FileState, name: str, symbol: str, timeframe: str) -> StoredSeries:
        """See Reader.read."""
        with self._large if state.size >= self._large_bytes else nullcontext():
            reader = self._free.get()
            try:
                return reader.read(state, name, symbol, timeframe)
            finally:
                self._free.put(reader)

    def close(self) -> None:
        """Ends their processes."""
        for reader in self._readers:
            reader.close()


READERS: Final = Readers([Reader() for _ in range(2)])
atexit.register(READERS.close)
