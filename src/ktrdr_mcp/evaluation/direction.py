"""The directional test: does p(buy) - p(sell) move with later returns, beyond luck?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.evaluation.blocks import (
    BlockSums,
    Floats,
    Integers,
    block_sums,
    block_width,
    sum_by_timestamp,
)
from ktrdr_mcp.evaluation.edge import LEAST_BREAK_EVEN, directional_edge
from ktrdr_mcp.labels.registry import BUY, HOLD, SELL
from ktrdr_mcp.schemas.results import DirectionScores, EdgeScores

Signs = NDArray[np.int8]

FLIPS: Final = 4_999  # random sign vectors; with the observed one, 5,000
MAX_EXACT_BLOCKS: Final = 12  # up to here all 2^n sign vectors are taken
TIE: Final = 1e-9  # statistics closer than this differ by rounding only
_FLIPS_AT_ONCE: Final = 512  # a multiple of 8; bounds the memory of a pass


def statistic(sums: Floats) -> float:
    """T = sum b / sqrt(sum b^2), about standard normal if signs are random; 0 if all b are 0.

    Args:
        sums: float64[b], block sums.
    """
    return float(studentised(sums[None])[0].sum())


def studentised(sums: Floats) -> Floats:
    """Block sums of k trials over the root of their sum of squares; zeros stay zeros.

    Args:
        sums: float64[k, b].
    """
    size = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
    result: Floats = np.divide(sums, size, out=np.zeros_like(sums), where=size > 0)
    return result


def is_exact(blocks: int) -> bool:
    """Whether all sign vectors are taken for this many blocks."""
    return blocks <= MAX_EXACT_BLOCKS


def sign_vectors(blocks: int, seed: int, flips: int = FLIPS) -> Signs:
    """int8[blocks, m] of +1 and -1: all 2^blocks vectors, or `flips` random ones.

    More blocks leave the signs of the first ones as they are, so that a trial alone and in its
    family sees the same ones.
    """
    return np.concatenate(list(sign_parts(blocks, seed, flips)), axis=1)


def sign_parts(blocks: int, seed: int, flips: int = FLIPS) -> Iterator[Signs]:
    """The columns of `sign_vectors`, some at a time: all at once may be too much for the memory."""
    if is_exact(blocks):
        flips = 2**blocks
        drawn = np.packbits(np.arange(flips) >> np.arange(blocks)[:, None] & 1, axis=1)
    else:
        drawn = np.random.default_rng(seed).integers(0, 256, (blocks, flips // 8 + 1), np.uint8)
    for start in range(0, flips, _FLIPS_AT_ONCE):
        part = drawn[:, start // 8 : (start + _FLIPS_AT_ONCE) // 8]
        bits = np.unpackbits(part, axis=1, count=min(_FLIPS_AT_ONCE, flips - start))
        signs: Signs = 1 - 2 * bits.astype(np.int8)
        yield signs


def flipped_statistics(sums: Floats, signs: Signs) -> Floats:
    """T of k trials under sign vectors that they share.

    Args:
        sums: float64[k, b], block sums.
        signs: int8[b, m].
    Returns:
        float64[k, m].
    """
    rows = studentised(sums)
    flips = signs.shape[1]
    result = np.empty((len(rows), flips))
    for start in range(0, flips, _FLIPS_AT_ONCE):
        part = slice(start, min(start + _FLIPS_AT_ONCE, flips))
        np.matmul(rows, signs[:, part].astype(np.float64), out=result[:, part])
    return result


def flipped_best(sums: Floats, signs: Iterable[Signs]) -> tuple[Floats, Floats]:
    """T of the first of k trials, and the largest T of them all, under each shared sign vector.

    Args:
        sums: float64[k, b], block sums.
        signs: int8[b, some] each, some of the m sign vectors.
    Returns:
        float64[m] and float64[m].
    """
    own, best = list[Floats](), list[Floats]()
    for part in signs:
        flipped = flipped_statistics(sums, part)
        own.append(flipped[0].copy())  # a view would keep all k
        best.append(flipped.max(axis=0))
    return np.concatenate(own), np.concatenate(best)


def share_reaching(flipped: Floats, observed: float, exact: bool) -> float:
    """p: the share of sign vectors whose statistic reaches the observed one.

    Args:
        flipped: float64[m], the statistic under each sign vector.
        observed: the statistic itself.
        exact: whether the m vectors are all there are; if not, the observed one is added to them.
    """
    reaching = int(np.count_nonzero(flipped >= observed - TIE))
    return reaching / len(flipped) if exact else (1 + reaching) / (1 + len(flipped))


def sign_flip_p(sums: Floats, seed: int, flips: int = FLIPS) -> float:
    """One-sided p of T; 1 without blocks.

    Args:
        sums: float64[b], block sums.
        seed: of the random signs.
        flips: random sign vectors, when there are more than 12 blocks.
    Source:
        E. S. Edgington, P. Onghena, Randomization Tests, 4th ed. 2007; the "1 +" keeps p valid
        (B. Phipson, G. Smyth, 2010).
    """
    if not len(sums):
        return 1.0
    flipped = flipped_statistics(sums[None], sign_vectors(len(sums), seed, flips))[0]
    return share_reaching(flipped, statistic(sums), is_exact(len(sums)))


POWER_QUANTILE: Final = 0.8416212335729143  # of the standard normal, for 80 % power
MOST_TIMES_LONGER: Final = 20  # beyond, the observed effect is too small to plan by


def blocks_for_power(blocks: int, statistic: float, critical: float) -> float | None:
    """How many blocks give 80 % power if the effect is the observed one.

    T grows with the root of the number of blocks: n' = n ((critical + z_0.8) / T)^2.

    Args:
        blocks: n, now.
        statistic: T, now.
        critical: what T must reach.
    Returns:
        None if the effect is not positive.
    """
    if blocks == 0 or statistic <= 0:
        return None
    return blocks * ((critical + POWER_QUANTILE) / statistic) ** 2


def detectable_accuracy(accuracy_error: float, critical: float) -> float:
    """The directional accuracy that these rows show with 80 % power, at most 1.

    Args:
        accuracy_error: standard error of the directional accuracy.
        critical: what T must reach.
    """
    return min(0.5 + (critical + POWER_QUANTILE) * accuracy_error, 1.0)


HORIZONS_PER_BLOCK: Final = 6  # labels reach over edges: three leave 2.8 % of a nominal 2 %
LEVEL_HORIZONS: Final = 60  # of the scores before a row, whose mean is its level
CONSTANT_SPREAD: Final = 1e-9  # scores that differ by less say the same of every row


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Predictions of one fold on rows that its network has not seen.

    Args:
        at: int64[n], the place of each row's timestamp, never falling.
        score: float64[n], p(buy) - p(sell).
        direction: float64[n], +1, 0, -1 for buy, hold, sell: what came.
        level: float64[n], the mean of the scores before each row; see `score_levels`.
        train_at: int64[t], the places of the fold's training rows, never falling.
        train_direction: float64[t], what came on them.
    """

    at: Integers
    score: Floats
    direction: Floats
    level: Floats
    train_at: Integers
    train_direction: Floats

    @property
    def constant(self) -> bool:
        """Whether the score is the same on all rows."""
        return is_constant(self.score)

    @property
    def mean_direction(self) -> float:
        """Of the fold's training rows, which are earlier."""
        return float(self.train_direction.mean())

    def deviation(self) -> Floats:
        """float64[n], the score above its level; zeros for a constant score.

        T is free of scale, so what rounding leaves between a constant and its mean (1e-17) would
        count in full.
        """
        return np.zeros(len(self.score)) if self.constant else self.score - self.level


def score_levels(
    validation: Floats, validation_at: Integers, score: Floats, at: Integers, timestamps: int
) -> Floats:
    """float64[n], the mean score of the newest timestamps before each row.

    A score's level drifts, and a shift of it since validation would multiply the error of the
    training mean. What is known before a row takes the level away as it moves.

    Args:
        validation: float64[v], v >= 1, scores of the validation rows, which are earlier.
        validation_at: int64[v], the places of their timestamps, never falling.
        score: float64[n], of the test rows.
        at: int64[n], the places of their timestamps, never falling.
        timestamps: of how many the mean is; of fewer where there are not so many before.
    """
    everything, places = np.concatenate([validation, score]), np.concatenate([validation_at, at])
    place, sums = sum_by_timestamp(everything, places)
    _, rows = sum_by_timestamp(np.ones(len(places)), places)
    total, count = np.r_[0.0, np.cumsum(sums)], np.r_[0.0, np.cumsum(rows)]
    here = np.searchsorted(place, at)
    oldest = np.maximum(here - timestamps, 0)
    levels: Floats = (total[here] - total[oldest]) / (count[here] - count[oldest])
    return levels


@dataclass(frozen=True, eq=False)
class DirectionalTest:
    """What the test found on all folds together.

    Args:
        statistic: T; see `statistic`.
        p: one-sided, of this trial alone.
        blocks: the b with their times; what the trial log stores. Those before the first tested
            row have what the folds' training means owe to each of them.
        tested_blocks: how many of them, the newest, have tested rows.
        width_bars: of a block.
        rows: how many were tested.
        constant: whether every fold's scores are the same on all of its rows.
        accuracy: of the rows that were buy or sell, the share on whose side the score was
            (against its level); None if there are none.
        accuracy_error: its standard error, from the same blocks; None if there are none.
        edge: its size with an interval; None where too little came.
    """

    statistic: float
    p: float
    blocks: BlockSums
    tested_blocks: int
    width_bars: int
    rows: int
    constant: bool
    accuracy: float | None
    accuracy_error: float | None
    edge: EdgeScores | None = None

    def to_stored(self) -> DirectionScores:
        """As the trial log keeps it."""
        return DirectionScores(
            statistic=self.statistic,
            p=self.p,
            tested_blocks=self.tested_blocks,
            width_bars=self.width_bars,
            rows=self.rows,
            constant=self.constant,
            accuracy=self.accuracy,
            accuracy_error=self.accuracy_error,
            edge=self.edge,
            blocks=self.blocks.to_stored(),
        )

    @classmethod
    def of(cls, stored: DirectionScores) -> Self:
        """The test that was stored."""
        return cls(
            statistic=stored.statistic,
            p=stored.p,
            blocks=BlockSums.of(stored.blocks),
            tested_blocks=stored.count_tested(),
            width_bars=stored.width_bars,
            rows=stored.rows,
            constant=stored.constant,
            accuracy=stored.accuracy,
            accuracy_error=stored.accuracy_error,
            edge=stored.edge,
        )


def is_constant(score: Floats) -> bool:
    """Whether float64[n] says the same of every row."""
    return not len(score) or bool(np.ptp(score) < CONSTANT_SPREAD)


def scores_of(probabilities: Floats) -> Floats:
    """float64[n], p(buy) - p(sell), from float64[n, 3]."""
    scores: Floats = probabilities[:, BUY] - probabilities[:, SELL]
    return scores


def directions_of(labels: NDArray[np.integer]) -> Floats:
    """float64[n], +1, 0, -1 for buy, hold, sell, from class numbers [n]."""
    return HOLD - np.asarray(labels, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class PredictedFold:
    """What a fold's network said, and what came, before the level of its scores is known.

    Args:
        at: int64[n], the places of the timestamps of the fold's test rows, never falling.
        probabilities: float64[n, 3], predicted for these rows.
        labels: [n], their class numbers.
        validation_at: int64[v], likewise of its validation rows.
        validation_probabilities: float64[v, 3].
        train_at: int64[t], likewise of its training rows.
        train_labels: [t].
    """

    at: Integers
    probabilities: Floats
    labels: NDArray[np.integer]
    validation_at: Integers
    validation_probabilities: Floats
    train_at: Integers
    train_labels: NDArray[np.integer]


def scored_rows(fold: PredictedFold, horizon: int) -> ScoredRows:
    """A fold's predictions with the levels that were known before each of its rows.

    Args:
        fold: the predictions.
        horizon: how far labels look ahead, in bars.
    """
    score = scores_of(fold.probabilities)
    levels = score_levels(
        scores_of(fold.validation_probabilities),
        fold.validation_at,
        score,
        fold.at,
        LEVEL_HORIZONS * horizon,
    )
    return ScoredRows(
        fold.at,
        score,
        directions_of(fold.labels),
        levels,
        fold.train_at,
        directions_of(fold.train_labels),
    )


def directional_test(
    folds: Sequence[ScoredRows],
    time: Integers,
    horizon: int,
    seed: int = 0,
    break_even: float = LEAST_BREAK_EVEN,
) -> DirectionalTest:
    """Tests the predictions of all folds together.

    N = sum over tested rows of (s - level)(d - mean d of the fold's training rows). That mean has
    an error which all rows of a fold share. So N is written as a sum over all blocks of the
    series, those of the training rows too, whose signs are flipped: with e = d - mean d,
    A_b = sum over tested rows in b of (s - level) e, minus the sum over folds k of S_k / n_k times
    the sum of e over training rows in b; S_k is the sum of s - level in fold k, n_k its training
    rows. docs/method.md has its size and power.

    Args:
        folds: in the order of time, without tested rows in common.
        time: int64[t], every timestamp, UTC nanoseconds.
        horizon: how far labels look ahead, in bars (see `blocks.reach_bars`).
        seed: of the random signs.
        break_even: the accuracy at which trading earns its costs.
    """
    place, values = contributions(folds)
    width = block_width(len(place), HORIZONS_PER_BLOCK * horizon)
    blocks = block_sums(values, place, time, width)
    tested = count_tested(blocks, folds, time)
    accuracy, error = directional_accuracy(folds, time, width)
    return DirectionalTest(
        statistic=statistic(blocks.sums),
        p=sign_flip_p(blocks.sums, seed),
        blocks=blocks,
        tested_blocks=tested,
        width_bars=width,
        rows=sum(len(fold.at) for fold in folds),
        constant=all(fold.constant for fold in folds),
        accuracy=accuracy,
        accuracy_error=error,
        edge=edge_of(folds, time, width, break_even),
    )


def edge_of(
    folds: Sequence[ScoredRows], time: Integers, width_bars: int, break_even: float
) -> EdgeScores | None:
    """The size of the edge on all folds; arguments as of `directional_test`."""
    if not folds:
        return None
    found = directional_edge(
        np.concatenate([fold.deviation() for fold in folds]),
        np.concatenate([fold.direction for fold in folds]),
        np.concatenate([fold.at for fold in folds]),
        time,
        width_bars,
    )
    if found is None:
        return None
    (value, low, high), base_rate = found
    return EdgeScores(
        accuracy=value, low=low, high=high, base_rate=base_rate, break_even=break_even
    )


def contributions(folds: Sequence[ScoredRows]) -> tuple[Integers, Floats]:
    """int64[m], the distinct places of all rows, rising, and float64[m], what N owes to each."""
    if not folds:
        return np.empty(0, dtype=np.int64), np.empty(0)
    newest = folds[-1]
    mean = float(np.concatenate([newest.train_direction, newest.direction]).mean())
    places, values = [], []
    for fold in folds:
        deviation = fold.deviation()
        share = float(deviation.sum()) / len(fold.train_at)
        places += [fold.at, fold.train_at]
        values += [deviation * (fold.direction - mean), -share * (fold.train_direction - mean)]
    place, inverse = np.unique(np.concatenate(places), return_inverse=True)
    owed = np.zeros(len(place))
    np.add.at(owed, inverse, np.concatenate(values))
    return place, owed


def count_tested(blocks: BlockSums, folds: Sequence[ScoredRows], time: Integers) -> int:
    """How many blocks, the newest, have tested rows."""
    if not folds:
        return 0
    first = time[min(int(fold.at[0]) for fold in folds)]
    return int(np.count_nonzero(blocks.stop >= first))


def directional_accuracy(
    folds: Sequence[ScoredRows], time: Integers, width_bars: int
) -> tuple[float | None, float | None]:
    """The share of buy and sell rows on whose side the score was, and its standard error.

    A score at its level counts as half right, and so does a fold's constant one. The error is that
    of a model without skill: the root of the sum of squared block sums, as in T; if all scores are
    constant, that of one fixed side.

    Args:
        folds: the predictions.
        time: int64[t], every timestamp, UTC nanoseconds.
        width_bars: of a block.
    """
    at = np.concatenate([np.empty(0, dtype=np.int64), *(fold.at for fold in folds)])
    sides = [np.sign(fold.deviation()) * fold.direction for fold in folds]
    side = np.concatenate([np.empty(0), *sides])
    directed = sum(int(np.count_nonzero(fold.direction)) for fold in folds)
    if not directed:
        return None, None
    if not side.any():
        centred = [fold.direction - fold.mean_direction for fold in folds]
        sums = block_sums(np.concatenate(centred), at, time, width_bars).sums
    else:
        sums = block_sums(side, at, time, width_bars).sums
    error = 0.5 * float(np.sqrt(np.square(sums).sum())) / directed
    return 0.5 + 0.5 * float(side.sum()) / directed, error
