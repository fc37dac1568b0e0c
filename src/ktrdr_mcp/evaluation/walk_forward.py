"""Chronological splits, purged walk-forward folds and sign-flip surrogates of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import limits
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.evaluation.blocks import Integers

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Bar indices of each part, ascending; no label of a part reaches into the next."""

    train: Rows
    validation: Rows
    test: Rows
    purged_rows: int  # dropped because their label reaches over a boundary

    @property
    def is_large_enough(self) -> bool:
        """Whether each part has the rows that a training needs."""
        return (
            len(self.train) >= limits.MIN_TRAIN_ROWS
            and len(self.validation) >= limits.MIN_VALIDATION_ROWS
            and len(self.test) >= limits.MIN_TEST_ROWS
        )


def chronological(rows: Rows, end: Rows, validation_share: float, test_share: float) -> Split:
    """Splits rows by time and drops those whose label reaches the next part.

    Args:
        rows: (n,) ascending bar indices that have features and a label.
        end: (bars,) for each bar, the last bar that its label depends on.
        validation_share: share of all rows, in (0, 1).
        test_share: share of all rows, in (0, 1).
    """
    test_count = int(len(rows) * test_share)
    validation_count = int(len(rows) * validation_share)
    train_count = len(rows) - validation_count - test_count
    train, validation, test = np.split(rows, [train_count, train_count + validation_count])
    kept_train = before(train, end, validation)
    kept_validation = before(validation, end, test)
    purged = len(train) - len(kept_train) + len(validation) - len(kept_validation)
    return Split(kept_train, kept_validation, test, purged)


def before(rows: Rows, end: Rows, following: Rows) -> Rows:
    """The rows whose labels end before the first row of the following part.

    Args:
        rows: (n,) bar indices of the earlier part.
        end: (bars,) the last bar that each bar's label depends on.
        following: (m,) bar indices of the later part.
    """
    return rows[end[rows] < following[0]] if len(following) else rows


@dataclass(frozen=True)
class WalkForward:
    """How the folds are cut.

    Args:
        folds: how many.
        span: the last share of all rows, in (0, 1), that the folds predict between them.
        window: what a fold trains on: all rows before it, or as many as the first fold has.
    """

    folds: int
    span: float
    window: Literal["expanding", "rolling"]


DEFAULT: Final = WalkForward(folds=4, span=0.6, window="expanding")


def walk_forward(
    rows: Integers, end: Integers, validation_share: float, how: WalkForward = DEFAULT
) -> list[Split]:
    """The folds, in the order of time; their test rows follow one another.

    No label of a fold's training rows reaches its validation rows, and none of either reaches its
    test rows. Nothing is trained on after a test part, so no embargo is needed. Folds that are too
    small to train or test on are left out, with a gap in their place; there may be none.

    Args:
        rows: int64[n], ascending bar indices that have features and a label.
        end: int64[bars], the last bar that each bar's label depends on.
        validation_share: the last share of a fold's training part, in (0, 1), kept for early
            stopping. The main split's is validation_split / (1 - test_split).
        how: the cut.
    """
    first = len(rows) - int(len(rows) * how.span)
    bounds = np.linspace(first, len(rows), how.folds + 1).astype(np.int64).tolist()
    folds = []
    for start, stop in pairwise(bounds):
        oldest = start - first if how.window == "rolling" else 0
        fold = one_fold(rows[oldest:start], rows[start:stop], end, validation_share)
        if fold.is_large_enough:
            folds.append(fold)
    return folds


def one_fold(earlier: Integers, test: Integers, end: Integers, validation_share: float) -> Split:
    """Splits what lies before a test part into training and validation rows, and purges both.

    Args:
        earlier: int64[n], bar indices before the test part.
        test: int64[m], bar indices of the test part.
        end: int64[bars], the last bar that each bar's label depends on.
        validation_share: of the earlier rows.
    """
    cut = len(earlier) - int(len(earlier) * validation_share)
    train, validation = earlier[:cut], earlier[cut:]
    kept_train = before(before(train, end, validation), end, test)
    kept_validation = before(validation, end, test)
    purged = len(earlier) - len(kept_train) - len(kept_validation)
    return Split(kept_train, kept_validation, test, purged)


def stacked_rows(splits: Sequence[Split], bars: int) -> tuple[list[Integers], list[Integers]]:
    """Training and validation rows of K networks whose features differ.

    A fold's scaler and fuzzy sets are fitted on its own training rows, so each network has its own
    features; stacked below one another (K * bars, f), network k's rows begin at k * bars.

    Args:
        splits: one per network, in the order of the stack.
        bars: rows of each network's features.
    Returns:
        `train_rows` and `validation_rows` of `learn.settings.TrainingRows`.
    """
    train = [split.train + number * bars for number, split in enumerate(splits)]
    validation = [split.validation + number * bars for number, split in enumerate(splits)]
    return train, validation


def sign_flip_surrogate(bars: Bars, seed: int, number: int = 0) -> Bars:
    """Multiplies each bar's move from the previous close by a random sign, in logs.

    Opening, high, low and close are taken relative to the previous close; a flipped bar's high
    becomes its low and the reverse. The first bar, the times and the volumes stay.

    Args:
        bars: n >= 1 bars.
        seed: 0 or more.
        number: of the twin; another one gives other signs.
    """
    sign = np.random.default_rng([seed, number]).choice(np.array([-1.0, 1.0]), len(bars) - 1)
    previous = np.log(bars.close[:-1])
    opened, high, low, close = (
        sign * (np.log(price[1:]) - previous)
        for price in (bars.open, bars.high, bars.low, bars.close)
    )
    base = np.r_[np.log(bars.close[0]), np.log(bars.close[0]) + np.cumsum(close)]
    new_open, one, other = (np.exp(base[:-1] + move) for move in (opened, high, low))
    new_close = np.exp(base[1:])
    # rounding may put an extreme inside the body by one unit in the last place
    new_high = np.maximum.reduce([one, other, new_open, new_close])
    new_low = np.minimum.reduce([one, other, new_open, new_close])
    return Bars(
        bars.symbol,
        bars.timeframe,
        bars.time,
        np.r_[bars.open[:1], new_open],
        np.r_[bars.high[:1], new_high],
        np.r_[bars.low[:1], new_low],
        np.r_[bars.close[:1], new_close],
        bars.volume,
    )
