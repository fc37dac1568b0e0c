"""How long a training takes, estimated before it is accepted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn.network import Network

# Seconds of one core, fitted to the spread of jobs of `python -m benchmarks duration`.
STEP_S: Final = 2e-5  # a step's fixed part, for all networks of it
STEP_OF_NETWORK_S: Final = 1.2e-5
EPOCH_S: Final = 1.5e-3
ROW_S: Final = 2.7e-7  # a row of a network and epoch: order, gathering, scores, validation
ROW_AND_UNIT_S: Final = 3.4e-9  # activation of a hidden unit and its slope
ROW_AND_DROPPED_UNIT_S: Final = 1.6e-9  # the same for its mask
PARAMETER_S: Final = 9e-9  # the optimizer, for each step
ROW_AND_PARAMETER_S: Final = 8e-11  # forward and backward products
ONCE_S: Final = 5e-2
NETWORK_S: Final = 6e-3  # predictions and judgement
BAR_S: Final = 4.3e-6  # bars, labels, baselines
BAR_AND_FEATURE_S: Final = 8e-8  # for the model and each fold, whose features are its own

# Of the same core, for an epoch of one small network and of several, and of a large one.
TYPICAL_SMALL_S: Final = 6.6e-3
TYPICAL_LARGE_S: Final = 4.6e-2
LEAST_FACTOR, MOST_FACTOR = 0.1, 20.0  # of a measurement: beyond these it is an accident
INPUTS: Final = 16
ROWS: Final = 1024
SMALL: Final = (16,)
LARGE: Final = (512, 512)
BATCH_ROWS: Final = 64
SEVERAL: Final = 4


@dataclass(frozen=True)
class Speed:
    """How this machine compares with the one of the constants; less is faster.

    Args:
        overhead: of what a small network costs.
        arithmetic: of the products of a large one.
    """

    overhead: float = 1.0
    arithmetic: float = 1.0


TYPICAL: Final = Speed()  # until it is measured


@dataclass(frozen=True)
class Workload:
    """What a training has to do.

    Args:
        shape: of each network.
        batch_rows: rows of one step.
        epochs: how many.
        training_rows: of each network.
        bars: of the data set.
        views: how many sets of features are fitted, each to the training rows of a network.
        dropout: whether hidden units are dropped.
    """

    shape: Network
    batch_rows: int
    epochs: int
    training_rows: Sequence[int]
    bars: int
    views: int
    dropout: bool

    def seconds(self, speed: Speed = TYPICAL) -> float:
        """The time of all epochs and of what comes before and after them, on one core."""
        return self.epochs * self.epoch_s(speed) + self.rest_s(speed)

    def epoch_s(self, speed: Speed) -> float:
        """The time of one epoch; networks with fewer rows are padded to the longest."""
        networks, parameters = len(self.training_rows), self.shape.parameters_count
        steps = max(-(-rows // self.batch_rows) for rows in self.training_rows)
        rows = steps * networks * self.batch_rows
        unit_s = ROW_AND_UNIT_S + (ROW_AND_DROPPED_UNIT_S if self.dropout else 0.0)
        overhead = (
            EPOCH_S
            + steps * (STEP_S + networks * STEP_OF_NETWORK_S)
            + rows * (ROW_S + sum(self.shape.widths[1:-1]) * unit_s)
        )
        arithmetic = parameters * networks * steps * PARAMETER_S
        arithmetic += parameters * rows * ROW_AND_PARAMETER_S
        return overhead * speed.overhead + arithmetic * speed.arithmetic

    def rest_s(self, speed: Speed) -> float:
        """The time of bars, features, predictions and judgement."""
        of_bars = self.bars * (BAR_S + self.views * self.shape.widths[0] * BAR_AND_FEATURE_S)
        return speed.overhead * (ONCE_S + len(self.training_rows) * NETWORK_S + of_bars)


def measure() -> Speed:
    """Trains a few small networks for a moment and compares with what they take typically."""
    small = epoch_cpu_s(SMALL) + epoch_cpu_s(SMALL, SEVERAL)
    large = epoch_cpu_s(LARGE)
    return Speed(bound_factor(small / TYPICAL_SMALL_S), bound_factor(large / TYPICAL_LARGE_S))


def bound_factor(factor: float) -> float:
    """A measured factor, unless it can only be an accident of a busy machine."""
    return min(max(factor, LEAST_FACTOR), MOST_FACTOR)


def epoch_cpu_s(hidden: tuple[int, ...], networks: int = 1) -> float:
    """Processor seconds of one epoch, the fewer of two after a warm-up.

    Args:
        hidden: units of the hidden layers.
        networks: how many train at once.
    """
    from ktrdr_mcp.nn import loop, perceptron

    generator = np.random.default_rng(0)
    features = generator.standard_normal((2 * ROWS, INPUTS)).astype(np.float32)
    labels = generator.integers(0, 3, 2 * ROWS)
    rows = loop.TrainingRows(features, labels, [np.arange(ROWS)], [np.arange(ROWS, 2 * ROWS)])
    settings = loop.TrainerSettings(epochs=1, batch_size=BATCH_ROWS)
    seeds = [loop.NetworkSettings(seed, learning_rate=0.001) for seed in range(networks)]
    shape = perceptron.Mlp(INPUTS, hidden, "relu")
    times = []
    for _ in range(3):
        began = time.thread_time()  # a busy machine takes longer and is no slower
        loop.train(shape, settings, seeds, rows, NullContext())
        times.append(time.thread_time() - began)
    return min(times[1:])
