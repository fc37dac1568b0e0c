"""Small learnable problems for the trainer's tests."""

from __future__ import annotations

import numpy as np

from ktrdr_mcp.nn.loop import TrainedNetwork, TrainingRows
from ktrdr_mcp.nn.perceptron import Mlp

SHAPE = Mlp(6, (12, 8), "relu")


def rows(
    count: int = 300, inputs: int = 6, train: int = 200, seed: int = 0, **changes: object
) -> TrainingRows:
    """Three classes along one direction with noise; the last rows are for validation."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, inputs)).astype(np.float32)
    score = features[:, 0] + 0.5 * features[:, 1] * features[:, 2] + random.normal(size=count) / 2
    labels = np.digitize(score, [-0.5, 0.5]).astype(np.int64)
    values = {
        "features": features,
        "labels": labels,
        "train_rows": [np.arange(train)],
        "validation_rows": [np.arange(train, count)],
    }
    return TrainingRows(**{**values, **changes})


def same_bits(first: TrainedNetwork, second: TrainedNetwork) -> bool:
    """Whether two results are equal to the last bit, histories included."""
    return (
        first.history == second.history
        and first.best_epoch == second.best_epoch
        and all((first.weights[name] == second.weights[name]).all() for name in first.weights)
    )
