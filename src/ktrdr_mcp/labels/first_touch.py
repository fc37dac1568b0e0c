"""First touch: how many bars pass until a series reaches a level of each bar's own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Floats, Integers


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
