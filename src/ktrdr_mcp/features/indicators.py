"""This program's own indicators; a decorated function is one, and lists keep their order.

Those of the clock are known before the bar itself, and may be `crisp`, `cyclic` (sine and cosine,
so that the last value lies beside the first) or have fuzzy sets. Those that KTRDR has are its
formulas in its units. Of candles and moves, none has a price's unit.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from ktrdr_mcp.data.bars import MONDAY_OFFSET_DAYS, Bars
from ktrdr_mcp.data.timestamps import DAY_NS, MINUTE_NS
from ktrdr_mcp.features.indicator import (
    PRICE,
    Floats,
    Output,
    Parameters,
    indicator,
    period_bars,
)

SHAPE: Final = "candle"
MOVES: Final = "moves"
CALENDAR: Final = "calendar"
HOUR_NS: Final = 60 * MINUTE_NS
DAY_MINUTES: Final = 1_440


# ---- clock and calendar


@indicator("hour", group=CALENDAR, units="0 to 24", inputs=("time",), cycle=24)
def hour(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The hour at which the bar opens, by the file's clock; 13.5 is half past one."""
    value = bars.local_time() % DAY_NS / HOUR_NS
    return Output(value, value)


@indicator("weekday", group=CALENDAR, units="0 (Monday) to 6", inputs=("time",), cycle=7)
def weekday(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The day of the week on which the bar opens, by the file's clock."""
    value = ((bars.local_time() // DAY_NS + MONDAY_OFFSET_DAYS) % 7).astype(np.float64)
    return Output(value, value)


@indicator("month", group=CALENDAR, units="1 to 12", inputs=("time",), cycle=12)
def month(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The month in which the bar opens, by the file's clock."""
    months = bars.local_time().astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
    value = (months % 12 + 1).astype(np.float64)
    return Output(value, value)


@indicator(
    "minutes_since_open", group=CALENDAR, units="minutes", inputs=("time",), cycle=DAY_MINUTES
)
def minutes_since_open(bars: Bars, source: Floats, params: Parameters) -> Output:
    """Minutes from the opening of the day's first bar, by the file's days."""
    days = bars.session_days()
    first = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    opened = np.repeat(bars.time[first], np.diff(np.append(first, len(days))))
    value = (bars.time - opened) / MINUTE_NS
    return Output(value, value)


# ---- KTRDR's


def ratio_to(average: Floats, bars: Bars) -> Output:
    """A moving average, fuzzified as close divided by it."""
    return Output(average, bars.close / average)


def wilder(changes: Floats, period: int) -> Floats:
    """Wilder's smoothing of non-negative changes.

    Args:
        changes: float64[n - 1], one per bar from the second on.
        period: bars; the seed is the mean of the first `period` changes.
    Returns:
        float64[n - period], from bar `period` on.
    """
    seeded = np.concatenate(([changes[:period].mean()], changes[period:]))
    return pd.Series(seeded).ewm(alpha=1 / period, adjust=False).mean().to_numpy()


@indicator(
    "rsi",
    group="momentum",
    units="0 to 100",
    warm_up=lambda params: int(params["period"]),
    period=period_bars(14),
)
def rsi(bars: Bars, source: Floats, params: Parameters) -> Output:
    """Relative strength index, 0 to 100; 50 where nothing has moved.

    Source: J. W. Wilder, New Concepts in Technical Trading Systems (1978).
    """
    period = params["period"]
    change = np.diff(source)
    gain = wilder(np.maximum(change, 0), period)
    loss = wilder(np.maximum(-change, 0), period)
    moved = gain + loss
    value = np.full(len(source), np.nan)
    value[period:] = 50
    np.divide(100 * gain, moved, out=value[period:], where=moved > 0)
    return Output(value, value)


@indicator(
    "sma",
    group="trend",
    units=PRICE,
    warm_up=lambda params: int(params["period"]) - 1,
    rescaled=True,
    period=period_bars(20),
)
def sma(bars: Bars, source: Floats, params: Parameters) -> Output:
    """Simple moving average, in price units; fuzzified as close / average."""
    average = pd.Series(source).rolling(params["period"]).mean().to_numpy()
    return ratio_to(average, bars)


@indicator(
    "ema",
    group="trend",
    units=PRICE,
    warm_up=lambda params: int(params["period"]) - 1,
    rescaled=True,
    period=period_bars(20),
)
def ema(bars: Bars, source: Floats, params: Parameters) -> Output:
    """Exponential moving average, in price units; fuzzified as close / average.

    Weights (1 - a)^k with a = 2 / (period + 1), divided by their sum over the bars there are.
    """
    period = params["period"]
    smoothed = pd.Series(source).ewm(span=period, adjust=True, min_periods=period)
    return ratio_to(smoothed.mean().to_numpy(), bars)


def macd_problem(params: Parameters) -> str | None:
    """What is wrong with MACD's periods."""
    if params["fast_period"] < params["slow_period"]:
        return None
    return "fast_period must be below slow_period"


@indicator(
    "macd",
    group="trend",
    units=PRICE,
    warm_up=lambda params: int(params["slow_period"]) - 1,
    problem=macd_problem,
    fast_period=period_bars(12, low=1),
    slow_period=period_bars(26),
    signal_period=period_bars(9, low=1),  # KTRDR's files say it; the line does not depend on it
)
def macd(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The MACD line, fast minus slow exponential average, in price units as in KTRDR."""
    prices = pd.Series(source)
    fast = prices.ewm(span=params["fast_period"], adjust=False).mean()
    slow = prices.ewm(span=params["slow_period"], adjust=False).mean()
    line = (fast - slow).to_numpy(copy=True)
    line[: params["slow_period"] - 1] = np.nan
    return Output(line, line)


# ---- candles and moves


@indicator(
    "candle",
    group=SHAPE,
    units="shares of the bar's range; gap: log return",
    warm_up=lambda _: 1,
    outputs=("body", "upper_wick", "lower_wick", "gap"),
    inputs=("open", "high", "low", "close"),
)
def candle(bars: Bars, source: Floats, params: Parameters) -> tuple[Output, ...]:
    """Body (above 0 where it rose) and wicks by the bar's range; the gap from the last close.

    A bar without a range has no body and no wicks.
    """
    width = bars.high - bars.low
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    found = []
    for part in (bars.close - bars.open, bars.high - top, bottom - bars.low):
        share = np.divide(part, width, out=np.zeros(len(bars)), where=width > 0)
        share[:1] = np.nan
        found.append(Output(share, share))
    gap = np.full(len(bars), np.nan)
    gap[1:] = np.log(bars.open[1:] / bars.close[:-1])
    return (*found, Output(gap, gap))


@indicator(
    "returns",
    group=MOVES,
    units="log return",
    warm_up=lambda params: int(params["period"]),
    period=period_bars(1, low=1),
)
def returns(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The log return over the last bars."""
    period = params["period"]
    value = np.full(len(source), np.nan)
    value[period:] = np.log(source[period:] / source[:-period])
    return Output(value, value)


@indicator(
    "realised_volatility",
    group=MOVES,
    units="log return per bar",
    warm_up=lambda params: int(params["period"]),
    period=period_bars(20),
)
def realised_volatility(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The root of the mean squared log return of the last bars."""
    squares = np.square(np.diff(np.log(source), prepend=np.nan))
    mean = pd.Series(squares).rolling(params["period"]).mean().to_numpy()
    value = np.sqrt(np.maximum(mean, 0))  # taking old squares out may leave less than nothing
    return Output(value, value)


@indicator(
    "distance_to_high",
    group=MOVES,
    units="fraction, at most 0",
    warm_up=lambda params: int(params["period"]) - 1,
    inputs=("high", "close"),
    period=period_bars(20),
)
def distance_to_high(bars: Bars, source: Floats, params: Parameters) -> Output:
    """How far the close lies below the highest high of the last bars, this one included."""
    value = bars.close / pd.Series(bars.high).rolling(params["period"]).max().to_numpy() - 1
    return Output(value, value)


@indicator(
    "distance_to_low",
    group=MOVES,
    units="fraction, at least 0",
    warm_up=lambda params: int(params["period"]) - 1,
    inputs=("low", "close"),
    period=period_bars(20),
)
def distance_to_low(bars: Bars, source: Floats, params: Parameters) -> Output:
    """How far the close lies above the lowest low of the last bars, this one included."""
    value = bars.close / pd.Series(bars.low).rolling(params["period"]).min().to_numpy() - 1
    return Output(value, value)


@indicator(
    "relative_volume",
    group="volume",
    units="1 is usual; at most the period",
    warm_up=lambda params: int(params["period"]) - 1,
    inputs=("volume",),
    period=period_bars(20),
)
def relative_volume(bars: Bars, source: Floats, params: Parameters) -> Output:
    """Volume by the mean of the last bars, this one included; 1 where none of them traded."""
    period = params["period"]
    mean = pd.Series(bars.volume).rolling(period).mean().to_numpy()
    ratio = np.divide(bars.volume, mean, out=np.ones(len(bars)), where=mean > 0)
    value = np.where(np.isnan(mean), np.nan, np.clip(ratio, 0, period))
    return Output(value, value)
