"""The cache of read files: as long as a file is the same, it is read once."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from ktrdr_mcp.data.series import StoredSeries
from ktrdr_mcp.errors import DataInvalid

CACHE_BYTES: Final = 256 * 1024**2
CACHE_FILES: Final = 256


@dataclass(frozen=True)
class FileState:
    """What tells one state of a file from another: path, time of change (ns), size (bytes)."""

    path: Path
    mtime_ns: int
    size: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> FileState:
        """The state that a stat call saw."""
        return cls(path, status.st_mtime_ns, status.st_size)

    def __str__(self) -> str:
        """As one text."""
        return f"{self.path}, {self.mtime_ns} ns, {self.size} bytes"


class BarCache:
    """Series, or the reason why there is none, by state of their file. Any thread may use it."""

    def __init__(self, max_bytes: int = CACHE_BYTES, max_files: int = CACHE_FILES) -> None:
        """An empty cache.

        Args:
            max_bytes: the most that the kept arrays hold together; the newest series always stays.
            max_files: the most files that are kept.
        """
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._lock = Lock()
        self._kept: OrderedDict[FileState, StoredSeries | DataInvalid] = OrderedDict()
        self._bytes = 0
        self._reading: dict[FileState, Lock] = {}

    def get(self, state: FileState, read: Callable[[], StoredSeries]) -> StoredSeries:
        """The series of a file in one state.

        Args:
            state: the file's state, taken from its open descriptor.
            read: reads the series, if it is not kept.
        Raises:
            DataInvalid: what `read` said, now or when it was first asked.
        """
        found = self._found(state)
        if found is None:
            with self._lock:
                reading = self._reading.setdefault(state, Lock())
            with reading:  # whoever asks meanwhile waits for the same reading
                found = self._found(state) or self._read(state, read)
        if isinstance(found, DataInvalid):
            # A new one each time: an exception that is raised again collects tracebacks.
            raise DataInvalid(found.message, hint=found.hint, field=found.field)
        return found

    def _found(self, state: FileState) -> StoredSeries | DataInvalid | None:
        """What is kept of a file's state."""
        with self._lock:
            found = self._kept.get(state)
            if found is not None:
                self._kept.move_to_end(state)
        return found

    def _read(
        self, state: FileState, read: Callable[[], StoredSeries]
    ) -> StoredSeries | DataInvalid:
        """Reads a file and remembers the outcome."""
        try:
            found = outcome(read)
            self._keep(state, found)
        finally:
            with self._lock:
                self._reading.pop(state, None)
        return found

    def _keep(self, state: FileState, found: StoredSeries | DataInvalid) -> None:
        """Remembers an outcome and forgets those that were used longest ago."""
        with self._lock:
            self._bytes += size_bytes(found) - size_bytes(self._kept.pop(state, None))
            self._kept[state] = found
            while len(self._kept) > 1 and self._is_full():
                self._bytes -= size_bytes(self._kept.popitem(last=False)[1])

    def _is_full(self) -> bool:
        """Whether more is kept than allowed."""
        return self._bytes > self._max_bytes or len(self._kept) > self._max_files


def outcome(read: Callable[[], StoredSeries]) -> StoredSeries | DataInvalid:
    """What reading gives, a refusal included."""
    try:
        return read()
    except DataInvalid as refusal:
        return DataInvalid(refusal.message, hint=refusal.hint, field=refusal.field)


def size_bytes(found: StoredSeries | DataInvalid | None) -> int:
    """The bytes that an outcome's arrays hold."""
    if not isinstance(found, StoredSeries):
        return 0
    table = found.table
    return table.time.nbytes * 2 + sum(column.nbytes for column in table.columns.values())
