"""The zigzag labelers: which way the next large move goes, and the legs between large moves."""

from __future__ import annotations

from typing import Final

import numpy as np

from ktrdr_mcp.data.bars import Bars, Floats, Integers
from ktrdr_mcp.labels.registry import BUY, HOLD, SELL, Labels, Parameter, labeler, undefined_labels
from ktrdr_mcp.labels.triple_barrier import first_at_or_above, first_at_or_below, first_of

THRESHOLD: Final = Parameter(
    "threshold", 0.03, 0, 1, "of the price", exclude_minimum=True, exclude_maximum=True
)
HORIZON: Final = Parameter("horizon", 20, 1, 10_000, "bars")


@labeler("zigzag", THRESHOLD, HORIZON)
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


@labeler("zigzag_segments", THRESHOLD, tells_past=True)
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
