"""The size of an edge, and how uncertain it is: accuracy, gains per trade, the Sharpe ratio."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from ktrdr_mcp.evaluation.blocks import Floats, Integers, block_sums

CONFIDENCE: Final = 0.95
LEAST_BREAK_EVEN: Final = 0.52  # an accuracy below it is no edge, whatever trading costs


class Interval(NamedTuple):
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def ratio_interval(
    numerator: Floats, denominator: Floats, at: Integers, time: Integers, width_bars: int
) -> Interval | None:
    """The ratio of two sums, and its interval from blocks.

    The error is that of a ratio estimator: sqrt(B / (B - 1) sum r_b^2) / sum of denominators, with
    r_b the block's numerator minus the ratio times its denominator.

    Args:
        numerator: float64[n], one per row.
        denominator: float64[n].
        at: int64[n], the places of the rows' timestamps, never falling.
        time: int64[t], every timestamp, UTC nanoseconds.
        width_bars: of a block.
    Returns:
        None for fewer than two blocks or a denominator of zero.
    Source:
        W. Cochran, Sampling Techniques, 3rd ed. 1977, chapter 6.
    """
    over = block_sums(denominator, at, time, width_bars).sums
    total = float(over.sum())
    if len(over) < 2 or total == 0:
        return None
    sums = block_sums(numerator, at, time, width_bars).sums
    value = float(sums.sum()) / total
    left = sums - value * over
    error = math.sqrt(len(over) / (len(over) - 1) * float(left @ left)) / abs(total)
    reach = student_quantile(0.5 + CONFIDENCE / 2, len(over) - 1) * error
    return Interval(value, value - reach, value + reach)


def student_quantile(probability: float, freedom: int) -> float:
    """A quantile of Student's t, within 1 % from five degrees of freedom on.

    Source:
        M. Abramowitz, I. Stegun, Handbook of Mathematical Functions, 1964, 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def directional_edge(
    deviation: Floats,
    direction: Floats,
    at: Integers,
    time: Integers,
    width_bars: int,
) -> tuple[Interval, float] | None:
    """The accuracy with its interval, and the base rate.

    Args:
        deviation: float64[n], scores above their levels; one of zero counts as half right.
        direction: float64[n], +1, 0, -1: what came; rows of zero do not count.
        at: int64[n], the places of the rows' timestamps, never falling.
        time: int64[t], every timestamp, UTC nanoseconds.
        width_bars: of a block.
    Returns:
        None where too little came.
    """
    came = np.abs(direction)
    right = came * (1 + np.sign(deviation) * direction) / 2
    accuracy = ratio_interval(right, came, at, time, width_bars)
    if accuracy is None:
        return None
    up = float((direction > 0).sum() / came.sum())
    long = float((came * (1 + np.sign(deviation)) / 2).sum() / came.sum())
    bounded = Interval(accuracy.value, max(accuracy.low, 0.0), min(accuracy.high, 1.0))
    return bounded, long * up + (1 - long) * (1 - up)


def break_even_accuracy(moves: Floats, cost_bps: float) -> float:
    """The accuracy at which (2 a - 1) E|move| pays for entry and exit; never below 52 %.

    Args:
        moves: float64[n], moves of the price while labels look ahead, as fractions.
        cost_bps: per unit of position change.
    """
    usual = float(np.abs(moves).mean()) if len(moves) else 0.0
    needed = 0.5 + cost_bps * 1e-4 / usual if usual > 0 else 1.0
    return min(max(needed, LEAST_BREAK_EVEN), 1.0)


def sharpe_ratio(returns: Floats) -> float | None:
    """Mean over standard deviation (n - 1) per bar, riskless rate 0; None if it is undefined.

    Args:
        returns: float64[n], per bar.
    """
    if len(returns) < 2 or np.ptp(returns) == 0:
        return None
    return float(returns.mean() / returns.std(ddof=1))


def sharpe_error(returns: Floats) -> float | None:
    """The standard error of the Sharpe ratio per bar; None where the ratio is undefined.

    sqrt((1 - g3 SR + (g4 - 1) / 4 SR^2) / (n - 1)), with skewness g3 and kurtosis g4 (3 if normal).

    Args:
        returns: float64[n], per bar.
    Source:
        A. Lo, The Statistics of Sharpe Ratios, 2002, for normal returns; E. Mertens, 2002, for any;
        n - 1 as in D. Bailey, M. Lopez de Prado, The Sharpe Ratio Efficient Frontier, 2012.
    """
    ratio = sharpe_ratio(returns)
    if ratio is None:
        return None
    return math.sqrt(variance_factor(returns, ratio) / (len(returns) - 1))


def variance_factor(returns: Floats, ratio: float) -> float:
    """1 - g3 SR + (g4 - 1) / 4 SR^2: n - 1 times the variance of the Sharpe ratio.

    Args:
        returns: float64[n], not all the same.
        ratio: their Sharpe ratio per bar.
    """
    deviation = (returns - returns.mean()) / returns.std()
    skewness = float(np.power(deviation, 3).mean())
    kurtosis = float(np.power(deviation, 4).mean())
    return max(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2, 0.0)
