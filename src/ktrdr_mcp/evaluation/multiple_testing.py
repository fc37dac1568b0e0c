"""Adjustments for many trials: family-wise p, deflated Sharpe, probability of overfitting, levels.

The level is what a trial must reach: what its family leaves it, and what other families do. Inside
a family the adjusted p of trial k knows the k - 1 trials before it, and a stream of trials spends
its level again at each of them: stopping at the first success would claim more and more. So the
level falls with k. Across families, which lie on other bars and are nearly independent, the share
of false claims among all claims is bounded instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.evaluation.blocks import BlockSums, Floats, Integers
from ktrdr_mcp.evaluation.direction import (
    FLIPS,
    flipped_best,
    is_exact,
    share_reaching,
    sign_flip_p,
    sign_parts,
    statistic,
)
from ktrdr_mcp.evaluation.edge import sharpe_ratio, variance_factor
from ktrdr_mcp.schemas.results import TrialScores

CRITICAL_P: Final = 0.02  # of a single trial
FINE_FLIPS: Final = 19_999  # for a p that is to be raised to the power of missing trials
MOST_FLIPS: Final = 200_000
FLIPS_BEYOND_LEVEL: Final = 100  # so many must be expected to reach a level for p to tell
NEAR_LEVEL: Final = 4  # times the level: further away, no more signs are needed
OPEN_DEVIATIONS: Final = 3.0  # between a count of signs and that of a level; beyond, it is decided
FAMILY_LEVEL: Final = 0.02  # of a family's first trial
STREAM_LEVEL: Final = 0.05  # false claims among claims, over all families


@dataclass(frozen=True)
class FamilyJudgement:
    """One trial among those that were made before it on its bars.

    Args:
        statistic: the trial's T.
        p: of the trial alone.
        adjusted_p: the chance that the best of the family reaches T by luck.
        trials: how many the family has, this one and those without scores included.
        luck_mean: what the best of them reaches by luck, on average.
        luck_upper: the 95 % quantile of the same.
        critical: what T must reach for an adjusted p at its level.
        level: what the adjusted p must not exceed.
        least_p: no adjusted p can be below; a smaller level cannot be reached.
        draws: float64[m], the trial's T under each sign vector; empty without blocks.
    """

    statistic: float
    p: float
    adjusted_p: float
    trials: int
    luck_mean: float
    luck_upper: float
    critical: float
    level: float = CRITICAL_P
    least_p: float = 0.0
    draws: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)


def judge_in_family(
    trial: BlockSums,
    others: Sequence[BlockSums],
    missing: int = 0,
    own_p: float | None = None,
    seed: int = 0,
    level: float = CRITICAL_P,
    level_across: float = 1.0,
) -> FamilyJudgement:
    """Adjusts a trial's p for the other trials of its family.

    adjusted p = 1 - (1 - p_joint)(1 - p)^missing: p_joint is the share of joint sign flips whose
    largest T over the trials with scores reaches this T (P. Westfall, S. Young, Resampling-Based
    Multiple Testing, 1993); a trial without scores counts as independent (Z. Sidak, 1967). It is
    never below p. Where the signs leave open whether it is below a level, more are drawn.

    Args:
        trial: the one under judgement.
        others: block sums of the family's other trials that have scores.
        missing: how many other trials have none (failed, cancelled, still running).
        own_p: p of the trial alone where another test than the sign flips decides it.
        seed: of the random signs; the same as in the test of the trial alone.
        level: what the adjusted p must not exceed.
        level_across: what it must not exceed to hold across families.
    """
    trials = 1 + len(others) + missing
    p = sign_flip_p(trial.sums, seed) if own_p is None else own_p
    if not len(trial):
        return FamilyJudgement(0.0, p, 1.0, trials, 0.0, 0.0, 0.0, level, 1.0)
    sums = on_shared_cells(trial, others)
    observed, exact = statistic(trial.sums), is_exact(sums.shape[1])
    drawn = flip_together(sums, observed, seed, FLIPS)
    flips = flips_for(level)
    if not exact and flips > FLIPS and drawn.joint_p <= NEAR_LEVEL * level:
        drawn = flip_together(sums, observed, seed, flips)
        p = drawn.p if own_p is None else own_p
    alone = fine_p(trial, p, seed) if missing and own_p is None else p
    adjusted = adjust(drawn.joint_p, alone, missing)
    least = least_adjusted_p(len(trial), missing)
    if own_p is None and not exact:
        asked = level_across if least <= level_across < level else level
        told_from = asked / (1 + missing)
        flips = max(len(drawn.own), FINE_FLIPS) if missing else len(drawn.own)
        finer = flips_for(told_from)
        is_coarse = finer > flips and asked >= least
        if is_coarse and is_open(adjusted / (1 + missing), told_from, flips):
            drawn = flip_together(sums, observed, seed, finer)
            p = drawn.p
            adjusted = adjust(drawn.joint_p, p, missing)
    luck = with_missing(drawn.best, drawn.own, missing, seed)
    return FamilyJudgement(
        statistic=observed,
        p=p,
        adjusted_p=max(p, adjusted),
        trials=trials,
        luck_mean=float(luck.mean()),
        luck_upper=float(np.quantile(luck, 0.95)),
        critical=float(np.quantile(luck, 1 - level)),
        level=level,
        least_p=least,
        draws=drawn.own,
    )


class Flipped(NamedTuple):
    """What a family's trials reach under the same random signs.

    Args:
        own: float64[m], T of the trial under judgement, under each sign vector.
        best: float64[m], the largest T of all.
        p: the share of `own` that reaches the trial's T.
        joint_p: the share of `best` that does.
    """

    own: Floats
    best: Floats
    p: float
    joint_p: float


def flip_together(sums: Floats, observed: float, seed: int, flips: int) -> Flipped:
    """Flips the signs of cells for all trials of a family at once.

    Args:
        sums: float64[k, c], as of `on_shared_cells`.
        observed: T of the first trial.
        seed: of the random signs.
        flips: how many sign vectors, where not all are taken.
    """
    cells = sums.shape[1]
    own, best = flipped_best(sums, sign_parts(cells, seed, flips))
    p, joint = (share_reaching(each, observed, is_exact(cells)) for each in (own, best))
    return Flipped(own, best, p, joint)


def adjust(joint_p: float, p: float, missing: int) -> float:
    """A joint p, adjusted for trials without scores."""
    return 1 - (1 - joint_p) * (1 - p) ** missing


def flips_for(level: float) -> int:
    """How many random signs tell p from a level."""
    return FLIPS if level >= CRITICAL_P else min(round(FLIPS_BEYOND_LEVEL / level), MOST_FLIPS)


def is_open(p: float, level: float, flips: int) -> bool:
    """Whether random signs leave open on which side of a level the true p is.

    The root of a Poisson count has a standard deviation of about one half.

    Args:
        p: the share of signs that reach T.
        level: what it must not exceed.
        flips: how many there are.
    """
    return abs(math.sqrt(flips * p) - math.sqrt(flips * level)) <= OPEN_DEVIATIONS / 2


def least_adjusted_p(blocks: int, missing: int) -> float:
    """The smallest adjusted p that as many blocks and the most signs can give.

    Args:
        blocks: of the trial, at least one.
        missing: how many trials of its family have no scores.
    """
    least = max(0.5**blocks, 1 / (1 + MOST_FLIPS))
    return adjust(least, least, missing)


def fine_p(trial: BlockSums, p: float, seed: int) -> float:
    """A small p from more random signs: missing trials would multiply the coarseness of p.

    Args:
        trial: whose p it is.
        p: from the usual number of signs; returned as it is unless it is below 0.01.
        seed: of the random signs.
    """
    return sign_flip_p(trial.sums, seed, FINE_FLIPS) if p < 0.01 else p


def on_shared_cells(trial: BlockSums, others: Sequence[BlockSums]) -> Floats:
    """Sums of all trials over the calendar cells of one of them.

    Args:
        trial: its blocks are the cells; it has at least one.
        others: of the same family.
    Returns:
        float64[1 + len(others), c]: the trial itself is row 0 and columns 0 to len(trial) - 1; the
        cells before and after it follow. A trial that has nothing in a cell has 0 there.
    """
    cells = [np.arange(len(trial)), *(cells_of(trial, other) for other in others)]
    everything = np.concatenate(cells)
    inside = (everything >= 0) & (everything < len(trial))
    outside = np.unique(everything[~inside])
    result = np.zeros((len(cells), len(trial) + len(outside)))
    for row, (each, cell) in enumerate(zip((trial, *others), cells, strict=True)):
        is_inside = (cell >= 0) & (cell < len(trial))
        column = np.where(is_inside, cell, len(trial) + np.searchsorted(outside, cell))
        np.add.at(result[row], column, each.sums)
    return result


def cells_of(trial: BlockSums, other: BlockSums) -> Integers:
    """int64[blocks of other]: the cell of each block's middle.

    The trial's own cells are numbered from 0; those before it are negative, those after it go on.
    """
    middle = other.start + (other.stop - other.start) // 2
    span = trial.stop[-1] - trial.start[0]
    width = max(int(span) // len(trial), 1)
    cell = np.searchsorted(trial.start, middle, side="right") - 1
    before = (middle - trial.start[0]) // width
    after = len(trial) + (middle - trial.stop[-1] - 1) // width
    cell = np.where(middle > trial.stop[-1], after, cell)
    result: Integers = np.where(middle < trial.start[0], before, cell)
    return result


def with_missing(best: Floats, own: Floats, missing: int, seed: int) -> Floats:
    """The largest T by luck when trials without scores are counted as independent.

    Args:
        best: float64[m], the largest T of the trials with scores, under each sign vector.
        own: float64[m], T of one trial; those without scores are taken to be distributed like it.
        missing: how many there are.
        seed: of their random draws.
    Returns:
        float64[m].
    """
    if not missing:
        return best
    level = np.random.default_rng([seed, missing]).random(len(best)) ** (1 / missing)
    return np.maximum(best, np.quantile(own, level))


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


@dataclass(frozen=True)
class Overfitting:
    """What choosing among its family does to a trial's Sharpe ratio.

    Args:
        deflated_sharpe: the probability that the true ratio is above what the best of as many
            trials reaches by luck.
        overfitting_probability: how often the best half in sample is below the median out of it.
        trials: how many there were.
    None where there is too little to compute it from.
    """

    deflated_sharpe: float | None
    overfitting_probability: float | None
    trials: int


def overfitting(own: TrialScores, others: Sequence[TrialScores | None]) -> Overfitting:
    """Deflated Sharpe ratio and probability of backtest overfitting, on sums of net returns.

    Blocks are as wide as each trial's labels reach, so every ratio is brought to the width of the
    trial's own before they are set beside one another.

    Args:
        own: the trial's scores.
        others: those of the family's other trials; None for one without a result.
    """
    scored = [each for each in others if each is not None]
    trial = net_blocks(own)
    trials = 1 + len(others)
    blocks = [trial, *(net_blocks(each) for each in scored)]
    known = sharpes_per_block(trial, blocks) if len(trial) > 1 else np.empty(0)
    deflated = deflated_sharpe(trial.sums, known, trials) if len(trial) > 1 else None
    sums = on_shared_cells(trial, blocks[1:]) if len(trial) else None
    return Overfitting(
        deflated_sharpe=deflated,
        overfitting_probability=(
            overfitting_probability(sums[:, : len(trial)].T) if sums is not None else None
        ),
        trials=trials,
    )


def sharpes_per_block(trial: BlockSums, blocks: Sequence[BlockSums]) -> Floats:
    """float64[k], Sharpe ratios of trials per block of one of them, where they have one.

    SR(w) = SR(v) sqrt(w / v) for blocks of w and v that follow one another independently.

    Args:
        trial: whose blocks are the unit of time; it has at least two.
        blocks: sums of net returns of the trials.
    Source:
        A. Lo, The Statistics of Sharpe Ratios, 2002, on time aggregation.
    """
    unit = block_ns(trial)
    return np.array(
        [
            ratio * math.sqrt(unit / block_ns(each))
            for each in blocks
            if (ratio := sharpe_ratio(each.sums)) is not None
        ]
    )


def block_ns(blocks: BlockSums) -> float:
    """The mean width of at least two blocks, in nanoseconds, the last one's last bar included."""
    bar = int((blocks.start[1:] - blocks.stop[:-1]).min())
    return (int(blocks.stop[-1] - blocks.start[0]) + bar) / len(blocks)


def net_blocks(scores: TrialScores) -> BlockSums:
    """A trial's sums of net returns over its blocks."""
    blocks = BlockSums.of(scores.trading.timing_blocks)
    return replace(blocks, sums=np.array(scores.trading.net_sums, dtype=np.float64))


def level_of_trial(number: int) -> float:
    """What the adjusted p of a family's k-th trial must not exceed: 0.02 / (1 + ln k).

    A stream of independent noise trials ever claims in 4.7 % by the hundredth, and less where they
    are correlated; docs/method.md has the simulation.

    Args:
        number: k, from 1, in the order of starts.
    """
    return FAMILY_LEVEL / (1 + math.log(number))


@dataclass(frozen=True)
class Stream:
    """What had been tried on other bars when a family began.

    Args:
        place: of the family, from 1, in the order of first trials.
        claims: how many families before it had a claim that holds across families.
    """

    place: int = 1
    claims: int = 0


def level_across(stream: Stream, number: int) -> float:
    """What the adjusted p of a family's k-th trial must not exceed to hold across families.

    Its first trial may use 0.05 (claims + 1) 6 / (pi n)^2, n its place in the stream (LOND); later
    ones as much less as inside the family. A family's claim counts once.

    Args:
        stream: when the family began.
        number: k, from 1.
    Source:
        A. Javanmard, A. Montanari, On Online Control of False Discovery Rate, 2015.
    """
    share = 6 / (math.pi * stream.place) ** 2
    first = min(STREAM_LEVEL * (stream.claims + 1) * share, STREAM_LEVEL)
    return first * level_of_trial(number) / FAMILY_LEVEL


@dataclass(frozen=True)
class EarlierTrials:
    """What a trial is judged beside: fixed when it completed, so its verdict is, too.

    Args:
        scored: scores of the related trials that started before it and had completed by then.
        missing: how many others started before it: failed, cancelled, or not yet completed.
        since: how many related trials have started after it; they change nothing.
        stream: what had been tried on other bars when its family began.
        elsewhere: how many of the trials before it are of other workspaces.
        recorded: whether trials of other workspaces could be counted.
    """

    scored: Sequence[TrialScores] = ()
    missing: int = 0
    since: int = 0
    stream: Stream = Stream()
    elsewhere: int = 0
    recorded: bool = True

    @property
    def number(self) -> int:
        """The place of the trial in its family, from 1."""
        return 1 + len(self.scored) + self.missing

    @property
    def level(self) -> float:
        """What its adjusted p must not exceed."""
        return level_of_trial(self.number)

    @property
    def level_across(self) -> float:
        """What it must not exceed to hold beside all that was tried on other bars."""
        return level_across(self.stream, self.number)
