"""How fast this machine trains, measured before the first estimate is given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.learn import nets, train
from ktrdr_mcp.learn.memory import parameters_count

SMALL = (16,)
LARGE = (512, 512)
INPUTS = 16
BATCH_ROWS = 64
ROWS = 1024


@dataclass(frozen=True)
class Speed:
    """Seconds of one training step: a fixed part, and one that grows with the arithmetic."""

    step_s: float
    parameter_row_s: float  # for each parameter and row

    def training_s(self, widths: Sequence[int], batch_rows: int, rows: int, epochs: int) -> float:
        """An estimate for a whole training.

        Args:
            widths: units of each layer, from inputs to outputs.
            batch_rows: rows of one step.
            rows: training rows.
            epochs: how often all rows are passed.
        """
        steps = -(-rows // batch_rows)
        arithmetic = parameters_count(widths) * rows * self.parameter_row_s
        return epochs * (steps * self.step_s + arithmetic)


def measure() -> Speed:
    """Trains two small networks for a moment and solves for the two parts."""
    steps = ROWS // BATCH_ROWS
    small, large = epoch_s(SMALL), epoch_s(LARGE)
    small_work, large_work = (
        parameters_count((INPUTS, *hidden, 3)) * ROWS for hidden in (SMALL, LARGE)
    )
    parameter_row_s = max(large - small, 0.0) / (large_work - small_work)
    return Speed(max(small - small_work * parameter_row_s, 0.0) / steps, parameter_row_s)


def epoch_s(hidden: tuple[int, ...]) -> float:
    """Seconds of one epoch, the faster of two after a warm-up."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((2 * ROWS, INPUTS)).astype(np.float32)
    labels = generator.integers(0, 3, 2 * ROWS)
    rows = train.TrainingRows(features, labels, [np.arange(ROWS)], [np.arange(ROWS, 2 * ROWS)])
    settings = train.TrainerSettings(epochs=1, batch_size=BATCH_ROWS)
    network = train.NetworkSettings(seed=0, learning_rate=0.001)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        shape = nets.NetworkShape(INPUTS, hidden, "relu")
        train.train(shape, settings, [network], rows, NullContext())
        times.append(time.perf_counter() - began)
    return min(times[1:])
