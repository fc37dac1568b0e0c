"""A file's series: what is stored of it, what of that is sound, and what is to be said of it.

As long as a file is the same, it is read once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.notes import find_unfinished, series_notes
from ktrdr_mcp.data.tables import BarTable, read_csv
from ktrdr_mcp.data.validation import (
    bars_of,
    name_problems,
    refusal,
    time_masks,
    validate,
    value_masks,
)
from ktrdr_mcp.errors import DataInvalid

CACHE_BYTES: Final = 256 * 1024**2
CACHE_FILES: Final = 256


@dataclass(frozen=True)
class Reach:
    """Which bars a request rests on; only those must be sound.

    Args:
        start: the first day or moment; None for the first stored bar.
        end: the last day or moment; None for the last stored bar.
        before: how many bars indicators need before the first.
        newest: only the last bar of the range is asked for.
    """

    start: str | None = None
    end: str | None = None
    before: int = 0
    newest: bool = False

    def rows(self, bars: Bars) -> tuple[int, int]:
        """The first bar within reach and the one after the last. Raises InvalidRequest."""
        first, stop = 0, len(bars)
        if self.start is not None:
            bound = bars.bound(self.start, "start_date", end_of_day=False)
            first = int(np.searchsorted(bars.time, bound, side="left"))
        if self.end is not None:
            bound = bars.bound(self.end, "end_date", end_of_day=True)
            stop = int(np.searchsorted(bars.time, bound, side="right"))
        first = stop - 1 if self.newest else first
        return max(0, first - self.before), max(stop, 0)


@dataclass(frozen=True, eq=False)
class StoredSeries:
    """A file's bars, whose times are in order.

    Args:
        table: all of them.
        unsound: bool[n], the bars that contradict themselves.
        notes: what whoever uses the bars should know.
    """

    table: BarTable
    unsound: NDArray[np.bool_]
    notes: tuple[str, ...]

    def bars(self, symbol: str, timeframe: str, reach: Reach | None) -> tuple[Bars, list[str]]:
        """The sound bars around those within reach.

        Args:
            symbol: what was traded.
            timeframe: the nominal width of a bar.
            reach: what the request rests on; every bar if it is None.
        Returns:
            the bars and the notes on them, with one if some are left out.
        Raises:
            DataInvalid: a bar within reach contradicts itself.
        """
        every = bars_of(self.table, symbol, timeframe)
        if not self.unsound.any():
            return every, list(self.notes)
        masks = value_masks(self.table)
        first, stop = (0, len(every)) if reach is None else reach.rows(every)
        rows = np.flatnonzero(self.unsound)
        if first >= stop or self.unsound[first:stop].any():
            raise refusal(self.table, masks, self._clear(every, reach, int(rows[-1])))
        begin = int(rows[rows < first][-1]) + 1 if (rows < first).any() else 0
        end = int(rows[rows >= stop][0]) if (rows >= stop).any() else len(every)
        note = (
            f"{self.table.name} has {name_problems(self.table, masks)}; only the bars from"
            f" {every.timestamp(begin)} to {every.timestamp(end - 1)}, without them, are used."
        )
        return every.slice(begin, end), [*self.notes, note]

    def _clear(self, bars: Bars, reach: Reach | None, last_unsound: int) -> str:
        """A sentence that names the first range behind all bars that are not sound."""
        after = last_unsound + 1 + (0 if reach is None else reach.before)
        if reach is None or reach.newest or after >= len(bars):
            return ""
        return f"With start_date {bars.day(after)} or later they are out of reach."


def read_series(
    file: BinaryIO, name: str, symbol: str, timeframe: str, known_at: Sequence[int] = ()
) -> StoredSeries:
    """Reads a file of bars, checks it, and looks for what is wrong without a contradiction.

    Args:
        file: the file, at its beginning.
        name: the file, as messages call it.
        symbol: what was traded.
        timeframe: the nominal width of a bar.
        known_at: when the file was written and when it is read, UTC nanoseconds.
    Raises:
        DataInvalid: it is no table of bars, or its times are not in order.
        LimitExceeded: it is larger than what is read.
    """
    table = read_table(file, name)
    if any(mask.any() for mask in time_masks(table).values()):
        validate(table)
    unsound = np.logical_or.reduce(list(value_masks(table).values()))
    if unsound.all():
        validate(table)
    bars = bars_of(table.part(~unsound), symbol, timeframe)
    notes = list(table.notes)
    if (why := find_unfinished(bars, known_at)) and not unsound[-1]:
        table, unsound = table.part(slice(0, -1)), unsound[:-1]
        bars, notes = bars.slice(0, len(bars) - 1), [*notes, why]
    notes += series_notes(bars)
    return StoredSeries(table, unsound, tuple(notes))


def read_table(file: BinaryIO, name: str) -> BarTable:
    """The file's table, by the ending of its name."""
    if not name.endswith(".parquet"):
        return read_csv(file, name)
    from ktrdr_mcp.data import stored

    if stored.is_stored(file):
        return stored.read_bars(file, name)
    from ktrdr_mcp.data.parquet import decode  # takes a second to import

    return decode(file, name)


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
        found = self._find_kept(state)
        if found is None:
            with self._lock:
                reading = self._reading.setdefault(state, Lock())
            with reading:  # whoever asks meanwhile waits for the same reading
                found = self._find_kept(state) or self._read(state, read)
        if isinstance(found, DataInvalid):
            # A new one each time: an exception that is raised again collects tracebacks.
            raise DataInvalid(found.message, hint=found.hint, field=found.field)
        return found

    def _find_kept(self, state: FileState) -> StoredSeries | DataInvalid | None:
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
