"""Estimates of a training's memory and duration, made before it is accepted."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ktrdr_mcp import memory
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.errors import LimitExceeded

FLOAT_BYTES: Final = 4
# weights, gradients, two moments, best weights and the working space of the update; for a
# checkpoint, copies of weights, best weights and moments, and the bytes of these
COPIES_OF_PARAMETERS: Final = 6 + 8
# activation, its gradient, dropout mask and working space
COPIES_OF_ACTIVATIONS: Final = 4
COPIES_OF_FEATURES: Final = 3
WINDOWED_ROWS: Final = 8_192  # whose windows are gathered at once in a pass
GIGABYTE: Final = 10**9


def parameters_count(widths: Sequence[int]) -> int:
    """Weights and biases of a fully connected network.

    Args:
        widths: units of each layer, from inputs to outputs.
    """
    return sum((before + 1) * after for before, after in itertools.pairwise(widths))


def weights_megabytes(parameters: int) -> float:
    """The size of a network's weights and biases, in units of 10^6 bytes.

    Args:
        parameters: how many there are.
    """
    return parameters * FLOAT_BYTES / 1e6


def training_bytes(
    widths: Sequence[int],
    batch_rows: int,
    rows: int,
    networks: int = 1,
    columns: int | None = None,
) -> int:
    """An upper estimate of a training's memory in bytes.

    Args:
        widths: units of each layer, from inputs to outputs.
        batch_rows: rows of one step.
        rows: rows of the whole data set, which evaluation passes through at once.
        networks: how many are trained at once, each with features of its own.
        columns: features that are stored of a row, where inputs are windows of them, which are
            gathered for some rows at once.
    """
    if columns is not None:
        passed = min(rows, WINDOWED_ROWS)
        stored = networks * rows * columns * COPIES_OF_FEATURES
        evaluated = max(networks * batch_rows, passed) * sum(widths) * COPIES_OF_ACTIVATIONS
        parameters = networks * parameters_count(widths) * COPIES_OF_PARAMETERS
        return (parameters + evaluated + stored) * FLOAT_BYTES
    parameters = networks * parameters_count(widths) * COPIES_OF_PARAMETERS
    evaluated = max(networks * batch_rows, rows) * sum(widths) * COPIES_OF_ACTIVATIONS
    features = networks * rows * widths[0] * COPIES_OF_FEATURES
    return (parameters + evaluated + features) * FLOAT_BYTES


def limit_bytes(promised: int = 0, environment: Mapping[str, str] = os.environ) -> int:
    """What one more training may use: KTRDR_MEMORY_LIMIT_MB, or else the least of what there is.

    That is half of the machine's memory, and what is free of it, of the control group and of this
    process's address space, less what other trainings will come to hold.

    Args:
        promised: bytes that other tasks, which run or wait, may hold by their own estimates.
        environment: where the limit may stand.
    """
    megabytes = environment.get("KTRDR_MEMORY_LIMIT_MB", "")
    if megabytes.isdecimal():
        return int(megabytes) * 10**6
    half = 4 * GIGABYTE
    if hasattr(os, "sysconf"):
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min(half, *(max(0, free - promised) for free in memory.free_bytes()))


def check(
    widths: Sequence[int],
    batch_rows: int,
    rows: int,
    networks: int = 1,
    columns: int | None = None,
    promised: int = 0,
) -> None:
    """Refuses a training that this machine cannot hold.

    Args:
        widths: units of each layer, from inputs to outputs.
        batch_rows: rows of one step.
        rows: rows of the whole data set.
        networks: how many are trained at once.
        columns: as of `training_bytes`.
        promised: bytes that other tasks, which run or wait, may hold by their own estimates.
    Raises:
        LimitExceeded: with what it would need and what there is.
    """
    needed, allowed = (
        training_bytes(widths, batch_rows, rows, networks, columns),
        limit_bytes(promised),
    )
    if needed > allowed:
        others = f", beside {promised / GIGABYTE:,.1f} GB for other tasks" if promised else ""
        wait = " Or wait until other tasks have ended." if promised else ""
        raise LimitExceeded(
            f"{networks} networks of {parameters_count(widths):,} parameters would need about "
            f"{needed / GIGABYTE:,.1f} GB of memory; one training may use {allowed / GIGABYTE:,.1f}"
            f" GB{others}.",
            hint="Use smaller or fewer hidden_layers, a smaller batch_size or fewer seeds." + wait,
            field="config.hidden_layers",
        )


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


TYPICAL: Final = Speed(step_s=2.5e-4, parameter_row_s=4e-11, together=0.5)  # until it is measured


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
        began = time.perf_counter()
        loop.train(shape, settings, seeds, rows, NullContext())
        times.append(time.perf_counter() - began)
    return min(times[1:])
