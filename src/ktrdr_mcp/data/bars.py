"""Bars: one series of prices and volumes, and what can be counted from it alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.timestamps import (
    DAY_NS,
    MINUTE_NS,
    YEAR_NS,
    format_day,
    format_timestamp,
    is_day,
    parse_timestamp,
)
from ktrdr_mcp.errors import InvalidRequest, NotEnoughData
from ktrdr_mcp.paths import TIMEFRAME_MINUTES

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
PRICES: Final = ("open", "high", "low", "close")
COLUMNS: Final = (*PRICES, "volume")
DAY_MINUTES: Final = 1_440
# In which offset a day begins: in that of the file's own times, or in UTC whatever those say.
DayRule: TypeAlias = Literal["file", "utc"]
MONDAY_OFFSET_DAYS: Final = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, eq=False)
class Bars:
    """A checked series, oldest bar first. Its arrays are shared, so they cannot be written to.

    Args:
        symbol: what was traded.
        timeframe: the nominal width of a bar.
        time: int64[n], the opening of each bar, UTC nanoseconds since 1970, strictly increasing.
        open: float64[n], in the symbol's currency, as are high, low and close.
        high: float64[n]
        low: float64[n]
        close: float64[n]
        volume: float64[n], units traded; may be 0.
        offset: int64[n], the offset from UTC that the file names each bar in, in nanoseconds;
            None where it names none, or only UTC.
    """

    symbol: str
    timeframe: str
    time: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    offset: Integers | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Locks the arrays."""
        for array in (self.time, *self.columns()):
            array.setflags(write=False)
        if self.offset is not None:
            self.offset.setflags(write=False)

    def __len__(self) -> int:
        """How many bars there are."""
        return len(self.time)

    def columns(self) -> tuple[Floats, ...]:
        """open, high, low, close and volume."""
        return (self.open, self.high, self.low, self.close, self.volume)

    def slice(self, start: int, stop: int) -> Bars:
        """The bars from index start up to, not including, index stop; no copy is made."""
        return Bars(
            self.symbol,
            self.timeframe,
            self.time[start:stop],
            *(column[start:stop] for column in self.columns()),
            offset=None if self.offset is None else self.offset[start:stop],
        )

    def timestamp(self, index: int) -> str:
        """The opening of one bar as ISO 8601 text."""
        return format_timestamp(int(self.time[index]))

    def local_time(self, rule: DayRule = "file") -> Integers:
        """int64[n], the openings as the file's own clock shows them, nanoseconds."""
        return self.time if self.offset is None or rule == "utc" else self.time + self.offset

    def session_days(self, rule: DayRule = "file") -> Integers:
        """int64[n], the day of each bar, counted from 1970-01-01; never decreasing."""
        # Where clocks are set back over midnight, the hour that comes twice is the later day's.
        return np.maximum.accumulate(self.local_time(rule) // DAY_NS)

    def day(self, index: int) -> str:
        """The day of one bar in the file's own offset, as YYYY-MM-DD."""
        return format_day(int(self.local_time()[index]))

    def bound(self, text: str, field: str, end_of_day: bool, rule: DayRule = "file") -> int:
        """A caller's date or moment. A bare date is a day in the file's own offset.

        Args:
            text: "YYYY-MM-DD", or an ISO 8601 date and time; without an offset it is UTC.
            field: the request field it came from.
            end_of_day: a bare date means its last nanosecond instead of its first.
            rule: in which offset a day begins.
        Returns:
            UTC nanoseconds since 1970.
        Raises:
            InvalidRequest: it is no such moment.
        """
        timestamp = parse_timestamp(text, field, end_of_day)
        if self.offset is None or rule == "utc" or not len(self) or not is_day(text):
            return timestamp
        days, asked = self.session_days(), timestamp // DAY_NS
        if end_of_day:
            nearest = int(np.searchsorted(days, asked, side="right")) - 1
        else:
            nearest = int(np.searchsorted(days, asked, side="left"))
        return timestamp - int(self.offset[min(max(nearest, 0), len(self) - 1)])

    def times(self) -> list[str]:
        """The opening of each bar as ISO 8601 text."""
        return [format_timestamp(timestamp) for timestamp in self.time.tolist()]


@dataclass(frozen=True, eq=False)
class LoadedBars:
    """Bars and where they came from.

    Args:
        bars: the checked series.
        source: for example "workspace file AAPL_1h.csv".
        notes: sentences that whoever uses the bars should know.
        standing: what never changes of the series; only summaries of the data say it.
        dataset: the stored timeframe and version that they are of, as "1h v3", if they are of one.
        stored: the bars that they were aggregated from; None if they are as stored.
    """

    bars: Bars
    source: str
    notes: list[str]
    standing: tuple[str, ...] = ()
    dataset: str | None = None
    stored: Bars | None = None


def fingerprint(bars: Bars) -> str:
    """SHA-256, in hexadecimal, of times and columns; symbol and timeframe do not enter."""
    digest = hashlib.sha256(f"bars:{len(bars)}".encode())
    digest.update(bars.time.astype("<i8").tobytes())
    for column in bars.columns():
        digest.update(column.astype("<f8").tobytes())
    return digest.hexdigest()


def bars_per_year(bars: Bars) -> float:
    """How many bars a year has, counted from the first opening to the last.

    Raises:
        NotEnoughData: there are fewer than two bars.
    """
    if len(bars) < 2:
        raise NotEnoughData(
            f"{bars.symbol} {bars.timeframe} has {len(bars)} bars; counting bars per year needs 2.",
            hint="Choose a longer range.",
        )
    return timestamps_per_year(bars.time)


def timestamps_per_year(time: Integers) -> float:
    """How many of int64[n] ascending timestamps, n >= 2, a year has, from the first to the last."""
    return (len(time) - 1) * YEAR_NS / int(time[-1] - time[0])


def width_ns(timeframe: str) -> int:
    """The nominal width of a bar in nanoseconds."""
    return TIMEFRAME_MINUTES[timeframe] * MINUTE_NS


def is_whole_multiple(timeframe: str, of: str) -> bool:
    """Whether bars of one timeframe can be made from bars of another, narrower one."""
    wide, narrow = TIMEFRAME_MINUTES[timeframe], TIMEFRAME_MINUTES[of]
    return wide > narrow and wide % narrow == 0


def aggregate(bars: Bars, timeframe: str, rule: DayRule = "file") -> Bars:
    """Wider bars from narrower ones.

    Within a day the wide bars follow one another from each day's first stored bar; a week begins
    on Monday. Days are those of the file's own offset. A wide bar is stamped at its nominal
    opening. The last one is left out unless the stored bars reach its nominal end.

    Args:
        bars: the stored bars.
        timeframe: the wanted timeframe, a whole multiple of theirs.
        rule: in which offset a day begins.
    Raises:
        InvalidRequest: it is not a whole multiple.
    """
    if not is_whole_multiple(timeframe, bars.timeframe):
        raise InvalidRequest(
            f"{timeframe} bars cannot be made from {bars.timeframe} bars.",
            hint="Ask for a whole multiple of the stored timeframe.",
            field="timeframe",
        )
    opening, end = periods(bars, timeframe, rule)
    first = np.flatnonzero(np.r_[True, opening[1:] != opening[:-1]][: len(bars)])
    wide = Bars(
        bars.symbol,
        timeframe,
        opening[first],
        *combine(bars, first),
        offset=None if bars.offset is None else bars.offset[first],
    )
    if len(wide) and int(bars.time[-1]) + width_ns(bars.timeframe) < int(end[-1]):
        wide = wide.slice(0, len(wide) - 1)
    return wide


def combine(bars: Bars, first: NDArray[np.intp]) -> tuple[Floats, ...]:
    """open, high, low, close and volume of the groups that begin at the given indices."""
    if not len(first):
        return bars.columns()
    last = np.r_[first[1:], len(bars)] - 1
    return (
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        np.add.reduceat(bars.volume, first),
    )


def periods(bars: Bars, timeframe: str, rule: DayRule = "file") -> tuple[Integers, Integers]:
    """The nominal opening and end of the wide bar that each stored bar falls into.

    Args:
        bars: the stored bars.
        timeframe: of the wide bars.
        rule: in which offset a day begins.
    Returns:
        int64[n] openings and int64[n] ends, UTC nanoseconds; a wide bar ends with its day.
    """
    width, time = width_ns(timeframe), bars.time
    days = bars.session_days(rule)
    offset = bars.local_time(rule) - time
    if TIMEFRAME_MINUTES[timeframe] >= DAY_MINUTES:
        # Days on the calendar, of which one is an hour longer or shorter where clocks are set.
        length = width // DAY_NS
        shift = MONDAY_OFFSET_DAYS if timeframe == "1w" else 0
        first_day = (days + shift) // length * length - shift
        _, first, position = np.unique(first_day, return_index=True, return_inverse=True)
        return (
            first_day * DAY_NS - offset[first][position],
            (first_day + length) * DAY_NS - offset,
        )
    _, first_of_day, position = np.unique(days, return_index=True, return_inverse=True)
    anchor = time[first_of_day][position]
    opening = anchor + (time - anchor) // width * width
    return opening, np.minimum(opening + width, (days + 1) * DAY_NS - offset)
