"""What bars look like and how far and how much they have moved; all of it free of price units."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.features.indicator import Floats, Output, Parameters, indicator, period_bars

SHAPE: Final = "candle"
MOVES: Final = "moves"


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
