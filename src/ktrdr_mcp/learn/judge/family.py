"""What the best of many trials reaches by luck, and a trial's p adjusted for it.

All trials of a family (one symbol, overlapping test windows) get their signs flipped together.
The calendar is cut where the blocks of the trial under judgement begin, and goes on with cells of
the same mean width before and after it; one sign holds for each cell. A block of another trial
takes the sign of the cell in which its middle lies: finer blocks within a cell are added up, and a
coarser block has a cell of its own. So trials of any horizon and timeframe share signs where they
share time, each one's flips stay valid, and a trial with a huge horizon cannot dissolve the family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ktrdr_mcp.learn.judge.blocks import BlockSums, Floats, Integers
from ktrdr_mcp.learn.judge.sign_flips import (
    flipped_statistics,
    is_exact,
    share_reaching,
    sign_flip_p,
    sign_vectors,
    statistic,
)

CRITICAL_P: Final = 0.02  # adjusted; the verdict's threshold for skill
FINE_FLIPS: Final = 19_999  # for a p that is to be raised to the power of missing trials


@dataclass(frozen=True)
class FamilyJudgement:
    """One trial among all that were made on its test window.

    Args:
        statistic: the trial's T.
        p: of the trial alone.
        adjusted_p: the chance that the best of the family reaches T by luck.
        trials: how many the family has, this one and those without scores included.
        luck_mean: what the best of them reaches by luck, on average.
        luck_upper: the 95 % quantile of the same.
        critical: what T must reach for an adjusted p of 0.02.
    """

    statistic: float
    p: float
    adjusted_p: float
    trials: int
    luck_mean: float
    luck_upper: float
    critical: float


def judge_in_family(
    trial: BlockSums,
    others: Sequence[BlockSums],
    missing: int = 0,
    own_p: float | None = None,
    seed: int = 0,
) -> FamilyJudgement:
    """Adjusts a trial's p for the other trials of its family.

    adjusted p = 1 - (1 - p_joint)(1 - p)^missing: p_joint is the share of joint sign flips whose
    largest T over the trials with scores reaches this T (P. Westfall, S. Young, Resampling-Based
    Multiple Testing, 1993); a trial without scores counts as independent (Z. Sidak, 1967). It is
    never below p.

    Args:
        trial: the one under judgement.
        others: block sums of the family's other trials that have scores.
        missing: how many other trials have none (failed, cancelled, still running).
        own_p: p of the trial alone where another test than the sign flips decides it.
        seed: of the random signs; the same as in the test of the trial alone.
    """
    trials = 1 + len(others) + missing
    p = sign_flip_p(trial.sums, seed) if own_p is None else own_p
    if not len(trial):
        return FamilyJudgement(0.0, p, 1.0, trials, 0.0, 0.0, 0.0)
    sums = on_shared_cells(trial, others)
    exact = is_exact(sums.shape[1])
    flipped = flipped_statistics(sums, sign_vectors(sums.shape[1], seed))
    observed = statistic(trial.sums)
    best = flipped.max(axis=0)
    joint = share_reaching(best, observed, exact)
    alone = fine_p(trial, p, seed) if missing and own_p is None else p
    adjusted = 1 - (1 - joint) * (1 - alone) ** missing
    luck = with_missing(best, flipped[0], missing, seed)
    return FamilyJudgement(
        statistic=observed,
        p=p,
        adjusted_p=max(p, adjusted),
        trials=trials,
        luck_mean=float(luck.mean()),
        luck_upper=float(np.quantile(luck, 0.95)),
        critical=float(np.quantile(luck, 1 - CRITICAL_P)),
    )


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
