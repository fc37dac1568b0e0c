"""The triple-barrier labeler: which barrier is touched first, if any within the horizon."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars, Floats, Integers
from ktrdr_mcp.labels.registry import (
    BUY,
    HOLD,
    HORIZON,
    SELL,
    Labels,
    Parameter,
    labeler,
    undefined_labels,
)


def first_at_or_above(series: Floats, level: Floats, horizon: int) -> Integers:
    """For each of the first bars, when the series first reaches that bar's level.

    Maxima over stretches of 1, 2, 4, ... bars are prepared; each bar then skips, from the longest
    stretch to the shortest, those in which its level is not reached. That is n log(horizon) steps
    however late the level is reached.

    Args:
        series: float64[n], for example highs.
        level: float64[m], m <= n - horizon; the level of bar t is sought in bars t+1 to t+horizon.
        horizon: the most bars ahead, at least 1.
    Returns:
        int64[m], bars ahead of t, 1 to horizon; horizon + 1 where it is never reached.
    """
    position = np.arange(1, len(level) + 1, dtype=np.int64)
    start = position.copy()
    for width, highest in reversed(stretches(series, horizon)):
        # Near the end a stretch is cut short; what it would look at lies beyond the horizon.
        reached = highest[np.minimum(position, len(highest) - 1)] >= level
        position += np.where(reached, 0, width)
    ahead: Integers = np.minimum(position - start, horizon) + 1
    return ahead


def first_at_or_below(series: Floats, level: Floats, horizon: int) -> Integers:
    """As `first_at_or_above`, for a series that falls to the level."""
    return first_at_or_above(-series, -level, horizon)


def stretches(series: Floats, longest: int) -> list[tuple[int, NDArray[np.float64]]]:
    """For each width 1, 2, 4, ... up to the longest, the maxima over that many bars from each.

    Args:
        series: float64[n].
        longest: the largest width, in bars.
    Returns:
        width and float64[n]; towards the end the maximum of the bars that are left.
    """
    levels = [(1, series)]
    while 2 * levels[-1][0] <= longest:
        width, highest = levels[-1]
        wider = highest.copy()
        np.maximum(highest[:-width], highest[width:], out=wider[:-width])
        levels.append((2 * width, wider))
    return levels


VOLATILITY_SPAN_BARS: Final = 50
WIDTH: Final = Parameter("width", 0.85, 0, 100, "volatilities", exclude_minimum=True)


@labeler("triple_barrier", HORIZON, WIDTH)
def triple_barrier(bars: Bars, horizon: int, width: float) -> Labels:
    """Buy if the upper barrier is touched first, sell if the lower one, hold if neither or both.

    Entry is at the next bar's opening; the barriers are entry * exp(+-width * sigma *
    sqrt(horizon)), where sigma is the volatility known at t. Bars t+1 to t+horizon are looked at
    by their highs and lows. One bar that touches both says nothing about the order: hold. The
    first bar has no volatility yet and the last `horizon` bars no complete horizon: undefined,
    even where a barrier is touched in time, because keeping only those would favour early touches.

    Args:
        bars: n bars.
        horizon: bars ahead.
        width: of the barriers, in volatilities of the whole horizon.
    Returns:
        n labels; `end` is the bar of the touch, or t+horizon.
    Source:
        M. Lopez de Prado, Advances in Financial Machine Learning, 2018, section 3.3.
    """
    labels = undefined_labels(len(bars))
    count = len(bars) - horizon
    if count < 2:
        return labels
    entry = bars.open[1 : count + 1]
    with np.errstate(over="ignore", under="ignore"):
        distance = np.exp(width * volatility(bars.close)[:count] * np.sqrt(horizon))
        up = first_at_or_above(bars.high, entry * distance, horizon)
        down = first_at_or_below(bars.low, entry / distance, horizon)
    label, ahead = first_of(up, down, horizon)
    labels.label[1:count] = label[1:]
    labels.end[1:count] = np.arange(1, count) + ahead[1:]
    return labels


def first_of(up: Integers, down: Integers, horizon: int) -> tuple[Integers, Integers]:
    """The class and the bars looked ahead, from the bars until each touch.

    Args:
        up: int64[m], bars until the upper price is reached; horizon + 1 if it is not.
        down: int64[m], likewise for the lower price.
        horizon: bars ahead.
    """
    label = np.where(up < down, BUY, np.where(down < up, SELL, HOLD))
    return label, np.minimum(np.minimum(up, down), horizon)


def volatility(close: Floats) -> Floats:
    """The root of the causal exponential mean of squared log returns.

    Args:
        close: float64[n], positive.
    Returns:
        float64[n], per bar; element t uses closes up to t. The first has no return: 0.
    """
    squared = np.square(np.diff(np.log(close)))
    mean = pd.Series(squared).ewm(span=VOLATILITY_SPAN_BARS, adjust=True).mean()
    sigma: Floats = np.sqrt(np.r_[0.0, mean.to_numpy(dtype=np.float64)])
    return sigma
