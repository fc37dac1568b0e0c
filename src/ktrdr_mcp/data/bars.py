"""Bars: one series of prices and volumes, and what can be counted from it alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.timestamps import DAY_NS, MINUTE_NS, YEAR_NS, format_timestamp
from ktrdr_mcp.errors import InvalidRequest, NotEnoughData
from ktrdr_mcp.paths import TIMEFRAME_MINUTES

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
PRICES: Final = ("open", "high", "low", "close")
COLUMNS: Final = (*PRICES, "volume")
DAY_MINUTES: Final = 1_440
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
    """

    symbol: str
    timeframe: str
    time: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __post_init__(self) -> None:
        """Locks the arrays."""
        for array in (self.time, *self.columns()):
            array.setflags(write=False)

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
        )

    def moment(self, index: int) -> str:
        """The opening of one bar as ISO 8601 text."""
        return format_timestamp(int(self.time[index]))

    def times(self) -> list[str]:
        """The opening of each bar as ISO 8601 text."""
        return [format_timestamp(moment) for moment in self.time.tolist()]


@dataclass(frozen=True, eq=False)
class LoadedBars:
    """Bars and where they came from.

    Args:
        bars: the checked series.
        source: for example "workspace file AAPL_1h.csv".
        notes: sentences that whoever uses the bars should know.
    """

    bars: Bars
    source: str
    notes: list[str]


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
    return (len(bars) - 1) * YEAR_NS / int(bars.time[-1] - bars.time[0])


def width_ns(timeframe: str) -> int:
    """The nominal width of a bar in nanoseconds."""
    return TIMEFRAME_MINUTES[timeframe] * MINUTE_NS


def is_whole_multiple(timeframe: str, of: str) -> bool:
    """Whether bars of one timeframe can be made from bars of another, narrower one."""
    wide, narrow = TIMEFRAME_MINUTES[timeframe], TIMEFRAME_MINUTES[of]
    return wide > narrow and wide % narrow == 0


def aggregate(bars: Bars, timeframe: str) -> Bars:
    """Wider bars from narrower ones.

    Within a day the wide bars follow one another from each UTC day's first stored bar; a day is
    a UTC day and a week begins on Monday, UTC. A wide bar is stamped at its nominal opening. The
    last one is left out unless the stored bars reach its nominal end.

    Args:
        bars: the stored bars.
        timeframe: the wanted timeframe, a whole multiple of theirs.
    Raises:
        InvalidRequest: it is not a whole multiple.
    """
    if not is_whole_multiple(timeframe, bars.timeframe):
        raise InvalidRequest(
            f"{timeframe} bars cannot be made from {bars.timeframe} bars.",
            hint="Ask for a whole multiple of the stored timeframe.",
            field="timeframe",
        )
    opening, end = periods(bars.time, timeframe)
    first = np.flatnonzero(np.r_[True, opening[1:] != opening[:-1]][: len(bars)])
    wide = Bars(
        bars.symbol,
        timeframe,
        opening[first],
        *combined(bars, first),
    )
    if len(wide) and int(bars.time[-1]) + width_ns(bars.timeframe) < int(end[-1]):
        wide = wide.slice(0, len(wide) - 1)
    return wide


def combined(bars: Bars, first: NDArray[np.intp]) -> tuple[Floats, ...]:
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


def periods(time: Integers, timeframe: str) -> tuple[Integers, Integers]:
    """The nominal opening and end of the wide bar that each stored bar falls into.

    Args:
        time: int64[n], openings of the stored bars, UTC nanoseconds.
        timeframe: of the wide bars.
    Returns:
        int64[n] openings and int64[n] ends, UTC nanoseconds; a wide bar ends with its day.
    """
    width = width_ns(timeframe)
    day = time // DAY_NS
    if TIMEFRAME_MINUTES[timeframe] >= DAY_MINUTES:
        shift = MONDAY_OFFSET_DAYS * DAY_NS if timeframe == "1w" else 0
        opening = (time + shift) // width * width - shift
        return opening, opening + width
    _, first_of_day, position = np.unique(day, return_index=True, return_inverse=True)
    anchor = time[first_of_day][position]
    opening = anchor + (time - anchor) // width * width
    return opening, np.minimum(opening + width, (day + 1) * DAY_NS)
