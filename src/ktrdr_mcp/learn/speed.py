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
SEVERAL = 4


@dataclass(frozen=True)
class Speed:
    """Seconds of one training step: a fixed part, and one that grows with the arithmetic."""

    step_s: float
    parameter_row_s: float  # for each parameter and row
    together: float  # the time of a network among others, as a share of its time alone

    def epoch_s(self, widths: Sequence[int], batch_rows: int, rows: Sequence[int]) -> float:
        """An estimate for one epoch of networks that train at once.

        Args:
            widths: units of each layer, from inputs to outputs.
            batch_rows: rows of one step.
            rows: training rows of each network.
        """
        steps = sum(-(-each // batch_rows) for each in rows)
        alone = steps * self.step_s + parameters_count(widths) * sum(rows) * self.parameter_row_s
        return alone if len(rows) == 1 else alone * self.together


def measure() -> Speed:
    """Trains a few small networks for a moment and solves for the parts."""
    steps = ROWS // BATCH_ROWS
    small, large, several = epoch_s(SMALL), epoch_s(LARGE), epoch_s(SMALL, networks=SEVERAL)
    small_work, large_work = (
        parameters_count((INPUTS, *hidden, 3)) * ROWS for hidden in (SMALL, LARGE)
    )
    parameter_row_s = max(large - small, 0.0) / (large_work - small_work)
    step_s = max(small - small_work * parameter_row_s, 0.0) / steps
    return Speed(step_s, parameter_row_s, min(several / (SEVERAL * small), 1.0))


def epoch_s(hidden: tuple[int, ...], networks: int = 1) -> float:
    """Seconds of one epoch, the faster of two after a warm-up.

    Args:
        hidden: units of the hidden layers.
        networks: how many train at once.
    """
    generator = np.random.default_rng(0)
    features = generator.standard_normal((2 * ROWS, INPUTS)).astype(np.float32)
    labels = generator.integers(0, 3, 2 * ROWS)
    rows = train.TrainingRows(features, labels, [np.arange(ROWS)], [np.arange(ROWS, 2 * ROWS)])
    settings = train.TrainerSettings(epochs=1, batch_size=BATCH_ROWS)
    seeds = [train.NetworkSettings(seed, learning_rate=0.001) for seed in range(networks)]
    shape = nets.NetworkShape(INPUTS, hidden, "relu")
    times = []
    for _ in range(3):
        began = time.perf_counter()
        train.train(shape, settings, seeds, rows, NullContext())
        times.append(time.perf_counter() - began)
    return min(times[1:])
