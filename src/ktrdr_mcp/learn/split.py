"""Chronological split into train, validation and test, purged at both boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import limits

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
