"""The trainer as a contender."""

from __future__ import annotations

import numpy as np

from benchmarks.problem import DROPOUT, HIDDEN, LEARNING_RATE, Problem
from benchmarks.timing import Cost, Watch
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn.loop import NetworkSettings, Trainer, TrainerSettings, TrainingRows
from ktrdr_mcp.nn.perceptron import Mlp

ENDLESS_EPOCHS = 10**9


class Ours:
    """K default networks.

    A turn is whole epochs: shuffling, gathering, scores and validation are in it. A step is one
    network's.

    Args:
        problem: what is learnt.
        batch_rows: rows of a step.
        networks: K.
        device: "cpu" or "cuda".
    """

    def __init__(
        self, problem: Problem, batch_rows: int, networks: int = 1, device: str = "cpu"
    ) -> None:
        train = np.arange(problem.rows)
        validation = np.arange(problem.rows, len(problem.features))
        self._trainer = Trainer(
            Mlp(problem.inputs, HIDDEN, "relu"),
            TrainerSettings(ENDLESS_EPOCHS, batch_rows, device=device),
            [
                NetworkSettings(seed, LEARNING_RATE, dropout_rate=DROPOUT)
                for seed in range(networks)
            ],
            TrainingRows(problem.features, problem.labels, [train], [validation]),
        )
        self._steps = -(-problem.rows // batch_rows) * networks

    def run(self, steps: int) -> Cost:
        """See Contender."""
        epochs = max(1, round(steps / self._steps))
        context = NullContext()
        watch = Watch()
        for _ in range(epochs):
            self._trainer.run_epoch(context)
        return watch.per(epochs * self._steps)
