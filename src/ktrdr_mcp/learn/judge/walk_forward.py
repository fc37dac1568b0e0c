"""Walk-forward folds: train on the past, predict the next part, move on; purged everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from ktrdr_mcp.learn.judge.blocks import Integers
from ktrdr_mcp.learn.split import Split, before


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
