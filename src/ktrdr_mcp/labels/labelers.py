"""The labelers; a decorated function is one, and lists keep their order.

Forward return: what holding for a fixed number of bars would have earned. Triple barrier: which of
two barriers is touched first, if any within the horizon. Zigzag: which way the next large move
goes, and the legs between large moves.
"""

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

RETURN_THRESHOLD: Final = Parameter(
    "threshold", 0.005, 0, 1, "of log return", exclude_minimum=True, exclude_maximum=True
)
VOLATILITY_SPAN_BARS: Final = 50
WIDTH: Final = Parameter("width", 0.85, 0, 100, "volatilities", exclude_minimum=True)
ZIGZAG_THRESHOLD: Final = Parameter(
    "threshold", 0.03, 0, 1, "of the price", exclude_minimum=True, exclude_maximum=True
)
LOOK_AHEAD: Final = Parameter("horizon", 20, 1, 10_000, "bars")


@labeler("forward_return", HORIZON, RETURN_THRESHOLD)
def forward_return(bars: Bars, horizon: int, threshold: float) -> Labels:
    """Buy if the log return from open(t+1) to close(t+horizon) is above the threshold.

    Sell if it is below minus the threshold, otherwise hold. The last `horizon` bars are undefined.

    Args:
        bars: n bars.
        horizon: bars ahead.
        threshold: a log return.
    Returns:
        n labels; `end` is t+horizon.
    """
    labels = undefined_labels(len(bars))
    count = len(bars) - horizon
    if count < 1:
        return labels
    earned = np.log(bars.close[horizon:]) - np.log(bars.open[1 : count + 1])
    sell_or_hold = np.where(earned < -threshold, SELL, HOLD)
    labels.label[:count] = np.where(earned > threshold, BUY, sell_or_hold)
    labels.end[:count] = np.arange(count) + horizon
    return labels


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


@labeler("zigzag", ZIGZAG_THRESHOLD, LOOK_AHEAD)
def zigzag(bars: Bars, threshold: float, horizon: int) -> Labels:
    """KTRDR's look-ahead label: which way the close first moves by the threshold.

    Buy if a close of bars t+1 to t+horizon lies at or above close(t) * (1 + threshold) before one
    lies at or below close(t) * (1 - threshold), sell the other way round, hold if neither. KTRDR
    compares the largest rise with the largest fall of the same window instead, and wants the
    larger at least three bars ahead. The last `horizon` bars are undefined.

    Args:
        bars: n bars.
        threshold: share of the price.
        horizon: bars ahead; KTRDR's `label_lookahead`.
    Returns:
        n labels; `end` is the bar of the move, or t+horizon.
    """
    labels = undefined_labels(len(bars))
    count = len(bars) - horizon
    if count < 1:
        return labels
    close = bars.close[:count]
    up = first_at_or_above(bars.close, close * (1 + threshold), horizon)
    down = first_at_or_below(bars.close, close * (1 - threshold), horizon)
    labels.label[:count], ahead = first_of(up, down, horizon)
    labels.end[:count] = np.arange(count) + ahead
    return labels


@labeler("zigzag_segments", ZIGZAG_THRESHOLD, tells_past=True)
def zigzag_segments(bars: Bars, threshold: float) -> Labels:
    """KTRDR's segment label: the legs between the extremes of the closes.

    Extremes are hold; the bars strictly between two are buy if the later is the higher one, else
    sell. The first bar counts as an extreme. Bars after the last confirmed extreme are undefined
    (KTRDR labels them). How far ahead a label looks has no bound, and a bar late in a leg says
    more about the past than about the future.

    Args:
        bars: n bars.
        threshold: share of the price by which closes must turn back to confirm an extreme.
    Returns:
        n labels; `end` is the bar at which the extreme itself, or the one that closes the leg,
        was confirmed.
    """
    labels = undefined_labels(len(bars))
    extreme, confirmed = extremes(bars.close, threshold)
    if not len(extreme):
        return labels
    rising = np.diff(bars.close[extreme]) > 0
    lengths = np.diff(extreme)
    defined = slice(1, int(extreme[-1]) + 1)
    labels.label[defined] = np.repeat(np.where(rising, BUY, SELL), lengths)
    labels.end[defined] = np.repeat(confirmed[1:], lengths)
    labels.label[extreme] = HOLD
    labels.end[extreme] = confirmed
    return labels


def extremes(close: Floats, threshold: float) -> tuple[Integers, Integers]:
    """The confirmed extremes of the closes.

    Args:
        close: float64[n], positive.
        threshold: share of the extreme by which a later close must lie back from it.
    Returns:
        int64[k] indices of the extremes, the first bar being the first, and int64[k] indices of
        the bars that confirmed them.
    """
    prices = close.tolist()  # Python floats: four times as fast to loop over as numpy's
    if not prices:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    found, confirmed = [0], [0]
    candidate, rising = first_move(prices, threshold)
    if candidate == len(prices):
        return np.array(found, dtype=np.int64), np.array(confirmed, dtype=np.int64)
    extreme = prices[candidate]
    turn = extreme * (1 - threshold) if rising else extreme * (1 + threshold)
    for index in range(candidate + 1, len(prices)):
        price = prices[index]
        further = price > extreme if rising else price < extreme
        if not further:
            if (price > turn) if rising else (price < turn):
                continue
            found.append(candidate)
            confirmed.append(index)
            rising = not rising
        candidate, extreme = index, price
        turn = price * (1 - threshold) if rising else price * (1 + threshold)
    return np.array(found, dtype=np.int64), np.array(confirmed, dtype=np.int64)


def first_move(prices: list[float], threshold: float) -> tuple[int, bool]:
    """The first bar that lies away from the first price by the threshold, and whether above."""
    upper, lower = prices[0] * (1 + threshold), prices[0] * (1 - threshold)
    for index in range(1, len(prices)):
        if not lower < prices[index] < upper:
            return index, prices[index] >= upper
    return len(prices), True
