"""A file's series: what is stored of it, what of that is sound, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

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
