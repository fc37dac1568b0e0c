"""Which candidate predicts a fold's test rows: the one that earlier validation rows prefer.

A candidate's score on some validation rows is T of its directional test there: the sum of
U = (s - mean s)(d - mean d) over blocks, by the root of their sum of squares. It counts in standard
errors, so that under no skill it is about standard normal whatever the labels are: neither a longer
horizon nor a wider barrier wins by its scale. Blocks are as wide as the longest labels need, and
the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.evaluation.blocks import Floats, Integers, block_sums
from ktrdr_mcp.evaluation.direction import (
    directions_of,
    is_constant,
    scores_of,
    statistic,
    studentised,
)

HORIZONS_PER_BLOCK: Final = 3  # a preference needs less independence than a test
MIN_BLOCKS: Final = 15  # of validation, in sum; with fewer, the first candidate is taken
TRIALS_PER_GROUP: Final = 4  # with fewer, shares of variance say nothing
SAME_T: Final = 1.6448536269514722  # differences below are luck's, one-sided at 5 %


@dataclass(frozen=True, eq=False)
class ValidationScore:
    """A candidate on the validation rows of one split.

    Args:
        statistic: T there.
        blocks: float64[b], the block sums over the root of their sum of squares.
        collapsed: whether it says the same of every row.
    """

    statistic: float
    blocks: Floats
    collapsed: bool


# by candidate, from 0, and split; None where a network has no predictions
Scores = Sequence[Sequence[ValidationScore | None]]


def validation_score(
    probabilities: Floats,
    labels: npt.NDArray[np.integer[Any]],
    at: Integers,
    time: Integers,
    width_bars: int,
) -> ValidationScore:
    """Scores predictions on the validation rows of a split.

    Args:
        probabilities: float64[n, 3].
        labels: [n], what came.
        at: int64[n], the places of the rows' timestamps, never falling.
        time: int64[t], every timestamp, UTC nanoseconds.
        width_bars: of a block.
    """
    score, direction = scores_of(probabilities), directions_of(labels)
    constant = is_constant(score)
    deviation = np.zeros(len(score)) if constant else score - score.mean()
    sums = block_sums(deviation * (direction - direction.mean()), at, time, width_bars).sums
    return ValidationScore(statistic(sums), studentised(sums[None])[0], constant)


@dataclass(frozen=True)
class Choice:
    """The candidate that some validation rows prefer.

    Args:
        candidate: from 0.
        by_default: whether validation preferred none, so that the first with a network was taken:
            there were too few blocks, or none has a score on every split.
    """

    candidate: int
    by_default: bool


def choose(scores: Scores, splits: Sequence[int]) -> Choice | None:
    """The candidate with the best mean score over some splits; the last must have its network.

    A candidate that diverged on any of them is out, and one that collapsed is taken only if all
    have. Of equal ones the first is taken, and likewise of all under MIN_BLOCKS.

    Args:
        scores: of all candidates on all splits.
        splits: which splits count; the last is the one whose test is to be predicted.
    Returns:
        None if no candidate has a network for the last split.
    """
    able = [n for n, each in enumerate(scores) if each[splits[-1]] is not None]
    if not able:
        return None
    means = {n: mean for n in able if (mean := mean_score(scores[n], splits)) is not None}
    blocks = max((count_blocks(scores[n], splits) for n in means), default=0)
    if blocks < MIN_BLOCKS or len(scores) == 1 or not means:
        return Choice(able[0], by_default=len(scores) > 1)
    living = [n for n in means if not any(is_collapsed(scores[n][split]) for split in splits)]
    return Choice(max(living or means, key=lambda n: (means[n], -n)), by_default=False)


def mean_score(own: Sequence[ValidationScore | None], splits: Sequence[int]) -> float | None:
    """A candidate's mean score over some splits; None if it has none on any of them."""
    found = [own[split] for split in splits]
    if not found or None in found:
        return None
    return fmean(each.statistic for each in found if each is not None)


def count_blocks(own: Sequence[ValidationScore | None], splits: Sequence[int]) -> int:
    """How many blocks of validation a candidate's score over some splits rests on."""
    return sum(len(each.blocks) for split in splits if (each := own[split]) is not None)


def is_collapsed(score: ValidationScore | None) -> bool:
    """Whether a network says the same of every validation row."""
    return score is not None and score.collapsed


def count_not_distinguishable(scores: Scores, best: int, splits: Sequence[int]) -> int:
    """How many other candidates are no worse than the best beyond luck, on the same rows.

    The difference of two candidates is tested as each of them is: its blocks, over the root of
    their sum of squares.

    Args:
        scores: of all candidates on all splits.
        best: from 0.
        splits: which splits count.
    """
    own = blocks_over(scores[best], splits)
    others = [blocks_over(each, splits) for n, each in enumerate(scores) if n != best]
    return sum(
        own is not None
        and other is not None
        and len(other) == len(own)
        and abs(statistic(own - other)) < SAME_T
        for other in others
    )


def blocks_over(own: Sequence[ValidationScore | None], splits: Sequence[int]) -> Floats | None:
    """float64[b], a candidate's blocks over some splits; None if it lacks any."""
    found = [own[split] for split in splits]
    if not found or None in found:
        return None
    return np.concatenate([each.blocks for each in found if each is not None])


def shares_of_variance(
    settings: Sequence[Mapping[str, Any]], scores: Sequence[float], parts: int = 4
) -> dict[str, float]:
    """How much of the variance of the scores each setting explains, by itself.

    Omega squared of a one-way analysis of variance: about 0 where a setting does not matter. A
    setting with more values than parts, which are numbers, is cut at its quantiles.

    Args:
        settings: of each trial, with a value for every setting.
        scores: of each trial.
        parts: the most groups of a setting.
    Source:
        W. Hays, Statistics, 1963.
    """
    values = np.array(scores, dtype=np.float64)
    names = sorted({name for each in settings for name in each})
    found = {}
    for name in names:
        groups = assign_groups([each.get(name) for each in settings], parts)
        found[name] = omega_squared(values, groups)
    return found


def assign_groups(values: Sequence[Any], parts: int) -> npt.NDArray[np.int64]:
    """int64[n], the group of each value."""
    keys = [repr(each) for each in values]
    known = sorted(set(keys))
    numeric = all(isinstance(each, int | float) for each in values)
    if len(known) <= parts or not numeric:
        return np.array([known.index(key) for key in keys])
    numbers = np.array(values, dtype=np.float64)
    cuts = np.quantile(numbers, np.arange(1, parts) / parts)
    result: npt.NDArray[np.int64] = np.searchsorted(cuts, numbers, side="right")
    return result


def omega_squared(values: Floats, groups: npt.NDArray[np.int64]) -> float:
    """The share of the variance of float64[n] that groups explain, 0 to 1."""
    known = np.unique(groups)
    count = len(values)
    total = float(np.square(values - values.mean()).sum()) if count else 0.0
    if len(known) < 2 or count < TRIALS_PER_GROUP * len(known) or total == 0:
        return 0.0
    means = [values[groups == each].mean() for each in known]
    sizes = [int((groups == each).sum()) for each in known]
    between = sum(
        size * (mean - values.mean()) ** 2 for size, mean in zip(sizes, means, strict=True)
    )
    within = (total - between) / (count - len(known))
    return float(max(0.0, (between - (len(known) - 1) * within) / (total + within)))


def noise_of(scores: Sequence[float]) -> float | None:
    """The standard deviation of a set's scores over its seeds; None with fewer than two."""
    return stdev(scores) if len(scores) > 1 else None
