"""What choosing the best of many does to a Sharpe ratio, and how often the choice is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations, islice
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.learn.judge.blocks import Floats
from ktrdr_mcp.learn.judge.sharpe import sharpe_ratio, variance_factor

DEFAULT_PARTS: Final = 16
SAME_DIGITS: Final = 12  # returns that agree so far differ by rounding only
_CELLS_AT_ONCE: Final = 2**21  # bounds the memory of a pass


def expected_best_sharpe(variance: float, trials: int) -> float:
    """The Sharpe ratio per bar that the best of N trials without skill is expected to reach.

    sqrt(V) ((1 - g) Z(1 - 1/N) + g Z(1 - 1/(N e))), g the Euler-Mascheroni constant, Z the
    quantile of the standard normal; 0 for one trial.

    Args:
        variance: V, of the Sharpe ratios per bar of the trials.
        trials: N.
    Source:
        D. Bailey, M. Lopez de Prado, The Deflated Sharpe Ratio, 2014.
    """
    if trials < 2:
        return 0.0
    quantile = NormalDist().inv_cdf
    high, higher = quantile(1 - 1 / trials), quantile(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - np.euler_gamma) * high + np.euler_gamma * higher)


def deflated_sharpe(returns: Floats, sharpes: Floats, trials: int) -> float | None:
    """The probability that the true Sharpe ratio is above what the best of N reaches by luck.

    Phi((SR - SR0) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)).

    Args:
        returns: float64[n], per bar, of the trial chosen.
        sharpes: float64[k], Sharpe ratios per bar of the trials that have one, this one included.
        trials: N >= k, how many there were.
    Returns:
        None if the returns do not vary.
    Source:
        D. Bailey, M. Lopez de Prado, The Deflated Sharpe Ratio, 2014.
    """
    ratio = sharpe_ratio(returns)
    if ratio is None:
        return None
    variance = float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0
    excess = ratio - expected_best_sharpe(variance, trials)
    spread = math.sqrt(max(variance_factor(returns, ratio), np.finfo(np.float64).tiny))
    return NormalDist().cdf(excess * math.sqrt(len(returns) - 1) / spread)


def overfitting_probability(returns: Floats, parts: int = DEFAULT_PARTS) -> float | None:
    """How often the best configuration on one half of the time is below the median on the other.

    Combinatorially symmetric cross-validation: time is cut into parts of equal length (by at most
    one row); each half of the parts chooses, by Sharpe ratio, what the other half judges. Equal
    configurations count once: to choose among them is no choice.

    Args:
        returns: float64[n, k], n rows in time of k configurations. Mind the order of the axes.
        parts: even, at least 2; at most n are used.
    Returns:
        a share; None for fewer than two different configurations or four rows.
    Raises:
        ValueError: an odd number of parts.
    Source:
        D. Bailey, J. Borwein, M. Lopez de Prado, Q. Zhu, The Probability of Backtest Overfitting,
        2017: the share of logits ln(w / (1 - w)) <= 0, w = rank / (k + 1), ties ranked alike.
    """
    if parts % 2 or parts < 2:
        raise ValueError(f"{parts} parts cannot be halved")
    returns = different_columns(returns)
    rows, configurations = returns.shape
    parts = min(parts, rows // 2 * 2)
    if configurations < 2 or rows < 4:
        return None
    sums = PartSums(returns, parts)
    chosen = combinations(range(parts), parts // 2)
    at_once = max(_CELLS_AT_ONCE // configurations, 1)
    below = total = 0
    for half in batches(chosen, at_once, parts):
        relative = relative_ranks(sums.sharpe(half), sums.sharpe(~half))
        below += int(np.count_nonzero(relative <= 0.5))
        total += len(half)
    return below / total


def different_columns(returns: Floats) -> Floats:
    """float64[n, m], the columns of float64[n, k] without repetitions, in their order."""
    _, first = np.unique(returns.round(SAME_DIGITS), axis=1, return_index=True)
    return returns[:, np.sort(first)]


def batches(
    chosen: Iterable[tuple[int, ...]], at_once: int, parts: int
) -> Iterator[NDArray[np.bool_]]:
    """Selections of parts as bool[m, parts], some at a time."""
    iterator = iter(chosen)
    while some := list(islice(iterator, at_once)):
        half = np.zeros((len(some), parts), dtype=np.bool_)
        np.put_along_axis(half, np.array(some), True, axis=1)
        yield half


def relative_ranks(inside: Floats, outside: Floats) -> Floats:
    """float64[m], rank / (k + 1) outside of the configuration that is best inside.

    Args:
        inside: float64[m, k], where it is chosen; of equal ones the first.
        outside: float64[m, k], where it is judged.
    """
    best = inside.argmax(axis=1)[:, None]
    judged = np.take_along_axis(outside, best, axis=1)
    rank = (outside < judged).sum(axis=1) + ((outside == judged).sum(axis=1) + 1) / 2
    relative: Floats = rank / (outside.shape[1] + 1)
    return relative


class PartSums:
    """Counts, sums and sums of squares of each part, from which any choice has its Sharpe ratio.

    Args:
        returns: float64[n, k].
        parts: how many, at most n.
    """

    def __init__(self, returns: Floats, parts: int) -> None:
        first = np.linspace(0, len(returns), parts + 1).astype(np.int64)
        centred = returns - returns.mean(axis=0)  # keeps the sums of squares exact
        self._mean = returns.mean(axis=0)
        self._count = np.diff(first).astype(np.float64)
        self._sum = np.add.reduceat(centred, first[:-1], axis=0)
        self._square = np.add.reduceat(np.square(centred), first[:-1], axis=0)

    def sharpe(self, chosen: NDArray[np.bool_]) -> Floats:
        """float64[m, k] Sharpe ratios of the chosen parts, bool[m, parts]; 0 without variance."""
        weight = chosen.astype(np.float64)
        count = (weight @ self._count)[:, None]
        offset = weight @ self._sum / count
        variance = (weight @ self._square - count * np.square(offset)) / np.maximum(count - 1, 1)
        spread = np.sqrt(np.maximum(variance, 0))
        ratio = np.zeros_like(spread)
        enough = spread > 1e-12 * np.abs(self._mean + offset)
        np.divide(self._mean + offset, spread, out=ratio, where=enough)
        return ratio
