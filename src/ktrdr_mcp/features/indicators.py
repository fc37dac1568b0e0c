"""The indicators that KTRDR has, in its formulas and units. To add one, decorate a function."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.features.indicator import (
    PRICE,
    Floats,
    Output,
    Parameters,
    indicator,
    period_bars,
)


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
