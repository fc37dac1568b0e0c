"""Validation: every way in which bars can contradict themselves, named with its places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import COLUMNS, PRICES, Bars, Integers
from ktrdr_mcp.data.tables import NO_TIME, BarTable
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import DataInvalid

PLACES_SHOWN: Final = 3
CORRECT: Final = "Correct these bars in the file; nothing is repaired silently."
REAL: Final = (
    "A price below zero can be real (oil on 2020-04-20) and still has no logarithm: leave these"
    " bars out of the file, with all before them, or use a range that keeps clear of them."
)
# Adjusting prices for dividends leaves them apart by their last binary digit.
ROUNDING: Final = 1e-9  # share of the price
NOT_POSITIVE: Final = "prices of zero or below"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Args:
        kind: what is wrong, as words that follow a count.
        count: how many bars have it.
        places: the first few, as "line 4 (2024-08-06T13:30:00Z)".
    """

    kind: str
    count: int
    places: tuple[str, ...]

    def __str__(self) -> str:
        """For example "2 duplicate times at line 4 (...), line 7 (...)"."""
        more = " and others" if self.count > len(self.places) else ""
        return f"{self.count} {self.kind} at {', '.join(self.places)}{more}"


def validate(table: BarTable) -> None:
    """Refuses bars that contradict themselves; a volume of 0 is no contradiction.

    Raises:
        DataInvalid: names every kind of problem, how often it occurs and its first places.
    """
    masks = time_masks(table) | value_masks(table)
    if any(mask.any() for mask in masks.values()):
        raise refusal(table, masks)


def refusal(table: BarTable, masks: Mapping[str, Mask], clear: str = "") -> DataInvalid:
    """The error for bars that cannot be used.

    Args:
        table: the bars.
        masks: for each kind of problem, the bars that have it.
        clear: a sentence that names a range without them, if there is one.
    """
    found = {kind for kind, mask in masks.items() if mask.any()}
    real = found == {NOT_POSITIVE} and any(
        (table.columns[name][masks[NOT_POSITIVE]] < 0).any() for name in PRICES
    )
    remedy = [REAL] if real else [CORRECT]
    return DataInvalid(
        f"{table.name} has {name_problems(table, masks)}.",
        hint=" ".join([*times_wanted(table), *remedy, *([clear] if clear else [])]),
        field="symbol",
    )


def name_problems(table: BarTable, masks: Mapping[str, Mask]) -> str:
    """Every kind of problem with its count and its first places."""
    found = [describe_problem(table, kind, mask) for kind, mask in masks.items() if mask.any()]
    return "; ".join(map(str, found))


def times_wanted(table: BarTable) -> list[str]:
    """A sentence on how times are written, if the table has one that cannot be read."""
    if not table.first_unreadable:
        return []
    where = "in the first column, or in the index of a Parquet file"
    written = "as 2024-12-31 or 2024-12-31T15:30:00Z (years 1678 to 2261)"
    first = f"the first unreadable one is {table.first_unreadable}"
    return [f"Times belong {where}, {written}; {first}."]


def time_masks(table: BarTable) -> dict[str, Mask]:
    """For each kind of problem of the times, the bars that have it: bool[n]."""
    readable = table.time != NO_TIME
    with_offset = readable & table.names_offset
    without_offset = readable & ~table.names_offset
    mixed = with_offset.any() and without_offset.any()
    rarer = min(with_offset, without_offset, key=np.count_nonzero)
    return {
        "unreadable times": ~readable,
        "times with an offset mixed with times without one": rarer & mixed,
        "duplicate times": find_repeated(table.time, readable),
        "times before the bar above": earlier_than_previous(table.time, readable),
    }


def value_masks(table: BarTable) -> dict[str, Mask]:
    """For each kind of problem of prices and volume, the bars that have it: bool[n]."""
    with np.errstate(invalid="ignore"):
        return unguarded_value_masks(table)


def unguarded_value_masks(table: BarTable) -> dict[str, Mask]:
    """The same, where numpy may warn of what is no number."""
    everything = np.column_stack([table.columns[name] for name in COLUMNS])
    prices = everything[:, : len(PRICES)]
    opened, high, low, close = prices.T
    ceiling, floor = high * (1 + ROUNDING), low * (1 - ROUNDING)
    crossed = ceiling < low
    outside = (opened > ceiling) | (opened < floor) | (close > ceiling) | (close < floor)
    return {
        "missing or unreadable values (NaN)": np.isnan(everything).any(axis=1),
        "infinite values": np.isinf(everything).any(axis=1),
        NOT_POSITIVE: (prices <= 0).any(axis=1),
        "bars with high below low": crossed,
        "bars with open or close outside low to high": outside & ~crossed,
        "negative volumes": everything[:, -1] < 0,
    }


def find_repeated(time: Integers, readable: Mask) -> Mask:
    """bool[n]: the bars whose time an earlier line has already."""
    result = np.zeros(len(time), dtype=np.bool_)
    rows = np.flatnonzero(readable)
    order = rows[np.argsort(time[rows], kind="stable")]
    result[order[1:]] = time[order[1:]] == time[order[:-1]]
    return result


def earlier_than_previous(time: Integers, readable: Mask) -> Mask:
    """bool[n]: the bars whose time lies before that of the last readable line above."""
    result = np.zeros(len(time), dtype=np.bool_)
    rows = np.flatnonzero(readable)
    result[rows[1:]] = time[rows[1:]] < time[rows[:-1]]
    return result


def describe_problem(table: BarTable, kind: str, mask: Mask) -> Problem:
    """The problem that the marked bars have."""
    rows = np.flatnonzero(mask)
    return Problem(kind, len(rows), tuple(place(table, int(row)) for row in rows[:PLACES_SHOWN]))


def place(table: BarTable, row: int) -> str:
    """Where a bar stands in the file, and its time if that is readable."""
    timestamp = int(table.time[row])
    when = "" if timestamp == NO_TIME else f" ({format_timestamp(timestamp)})"
    return f"{table.place_word} {table.first_place + row}{when}"


def check_bars(table: BarTable, symbol: str, timeframe: str) -> Bars:
    """The table's bars, once they are known to be sound. Raises DataInvalid."""
    validate(table)
    return bars_of(table, symbol, timeframe)


def bars_of(table: BarTable, symbol: str, timeframe: str) -> Bars:
    """The table's bars as they are."""
    columns = (table.columns[name] for name in COLUMNS)
    offset = table.offset if table.offset.any() else None
    return Bars(symbol, timeframe, table.time, *columns, offset=offset)
