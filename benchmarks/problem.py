"""Rows to learn from, and the default network that learns from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HIDDEN = (64, 32, 16)
CLASSES = 3
DROPOUT = 0.2
LEARNING_RATE = 0.001
VALIDATION_ROWS = 200


@dataclass(frozen=True)
class Problem:
    """Rows of features and their classes; the last VALIDATION_ROWS are not trained on."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """How many rows are trained on."""
        return len(self.features) - VALIDATION_ROWS

    @property
    def inputs(self) -> int:
        """Features of a row."""
        return self.features.shape[1]

    @property
    def train(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The rows that are trained on."""
        return self.features[: self.rows], self.labels[: self.rows]


def make(rows: int, inputs: int) -> Problem:
    """Normal features of which two decide the class, with noise."""
    generator = np.random.default_rng(0)
    total = rows + VALIDATION_ROWS
    features = generator.standard_normal((total, inputs), dtype=np.float32)
    noisy = features[:, 0] + 0.5 * generator.standard_normal(total)
    labels = (noisy > 0.3).astype(np.int64) + (features[:, 1] > 0.2)
    return Problem(features, labels)
