"""Chronological splits, purged walk-forward folds and sign-flip surrogates of a series."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import limits
from ktrdr_mcp.data.bars import Bars

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, in the order of time; no label of a part reaches into the next."""

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


@dataclass(frozen=True, eq=False)
class Timeline:
    """When the rows of a dataset are, as places in its ascending timestamps.

    A row is one bar of one series. Time is cut by timestamps, so that rows of several series that
    share one stay together; with one series, rows, bars and timestamps are the same.

    Args:
        at: int64[rows], the place of each row's timestamp.
        until: int64[rows], the place of the last timestamp that its label depends on; -1 where it
            has no label.
    """

    at: Rows
    until: Rows

    @classmethod
    def of_one_series(cls, end: Rows) -> Self:
        """The timeline of a series, from int64[bars], the last bar that each label depends on."""
        return cls(np.arange(len(end)), end)

    def first_rows(self, rows: Rows) -> Rows:
        """int64[t + 1], where each of t timestamps begins in rows that follow one another in time.

        The last one is the number of rows.
        """
        at = self.at[rows]
        return np.append(np.flatnonzero(np.diff(at, prepend=-1)), len(rows))

    def before(self, rows: Rows, following: Rows) -> Rows:
        """The rows whose labels end before the first timestamp of a later part, if it has one."""
        return rows[self.until[rows] < self.at[following[0]]] if len(following) else rows


def chronological(
    rows: Rows, timeline: Timeline, validation_share: float, test_share: float
) -> Split:
    """Splits rows by time and drops those whose label reaches the next part.

    Args:
        rows: int64[n], rows that have features and a label, in the order of time.
        timeline: when all rows are.
        validation_share: share of all timestamps, in (0, 1).
        test_share: share of all timestamps, in (0, 1).
    """
    first = timeline.first_rows(rows)
    count = len(first) - 1
    test_count, validation_count = int(count * test_share), int(count * validation_share)
    train_count = count - validation_count - test_count
    cuts = first[[train_count, train_count + validation_count]]
    train, validation, test = np.split(rows, cuts)
    kept_train = timeline.before(train, validation)
    kept_validation = timeline.before(validation, test)
    purged = len(train) - len(kept_train) + len(validation) - len(kept_validation)
    return Split(kept_train, kept_validation, test, purged)


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
    rows: Rows, timeline: Timeline, validation_share: float, how: WalkForward = DEFAULT
) -> list[Split]:
    """The folds, in the order of time; their test rows follow one another.

    No label of a fold's training rows reaches its validation rows, and none of either reaches its
    test rows. Nothing is trained on after a test part, so no embargo is needed. Folds that are too
    small to train or test on are left out, with a gap in their place; there may be none.

    Args:
        rows: int64[n], rows that have features and a label, in the order of time.
        timeline: when all rows are.
        validation_share: the last share of the timestamps of a fold's training part, in (0, 1),
            kept for early stopping. The main split's is validation_split / (1 - test_split).
        how: the cut.
    """
    place = timeline.first_rows(rows)
    count = len(place) - 1
    first = count - int(count * how.span)
    bounds = np.linspace(first, count, how.folds + 1).astype(np.int64).tolist()
    folds = []
    for start, stop in pairwise(bounds):
        oldest = start - first if how.window == "rolling" else 0
        earlier, test = rows[place[oldest] : place[start]], rows[place[start] : place[stop]]
        fold = one_fold(earlier, test, timeline, validation_share)
        if fold.is_large_enough:
            folds.append(fold)
    return folds


def one_fold(earlier: Rows, test: Rows, timeline: Timeline, validation_share: float) -> Split:
    """Splits what lies before a test part into training and validation rows, and purges both.

    Args:
        earlier: int64[n], rows before the test part.
        test: int64[m], rows of the test part.
        timeline: when all rows are.
        validation_share: of the earlier timestamps.
    """
    first = timeline.first_rows(earlier)
    count = len(first) - 1
    cut = first[count - int(count * validation_share)]
    train, validation = earlier[:cut], earlier[cut:]
    kept_train = timeline.before(timeline.before(train, validation), test)
    kept_validation = timeline.before(validation, test)
    purged = len(earlier) - len(kept_train) - len(kept_validation)
    return Split(kept_train, kept_validation, test, purged)


def flip_signs(timestamps: int, seed: int, number: int = 0) -> npt.NDArray[np.float64]:
    """float64[timestamps], +1 or -1: one sign for all series, so that what they share stays shared.

    Args:
        timestamps: how many, at least one; nothing moves at the first.
        seed: 0 or more.
        number: of the surrogate; another one gives other signs.
    """
    generator = np.random.default_rng([seed, number])
    signs = generator.choice(np.array([-1.0, 1.0]), timestamps - 1)
    return np.concatenate([np.ones(1), signs])


def sign_flip_surrogate(bars: Bars, signs: npt.NDArray[np.float64]) -> Bars:
    """Multiplies each bar's move from the previous close by a sign, in logs.

    Opening, high, low and close are taken relative to the previous close; a flipped bar's high
    becomes its low and the reverse. The first bar, the times and the volumes stay.

    Args:
        bars: n >= 1 bars.
        signs: float64[n], +1 or -1; that of the first bar has no effect.
    """
    sign = signs[1:]
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
