"""How much memory a training needs, estimated before it is accepted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from ktrdr_mcp import memory
from ktrdr_mcp.errors import LimitExceeded
from ktrdr_mcp.nn.network import Network

FLOAT_BYTES: Final = 4
# weights, gradients, two moments, best weights and the working space of the update; for a
# checkpoint, copies of weights, best weights and moments, and the bytes of these
COPIES_OF_PARAMETERS: Final = 6 + 8
# activation, its gradient, dropout mask and working space
COPIES_OF_ACTIVATIONS: Final = 4
COPIES_OF_FEATURES: Final = 3
WINDOWED_ROWS: Final = 8_192  # whose windows are gathered at once in a pass
GIGABYTE: Final = 10**9


def weights_megabytes(parameters: int) -> float:
    """The size of a network's weights and biases, in units of 10^6 bytes.

    Args:
        parameters: how many there are.
    """
    return parameters * FLOAT_BYTES / 1e6


def training_bytes(
    shape: Network,
    batch_rows: int,
    rows: int,
    networks: int = 1,
    columns: int | None = None,
    views: int | None = None,
) -> int:
    """An upper estimate of a training's memory in bytes.

    Args:
        shape: of each network.
        batch_rows: rows of one step.
        rows: rows of the whole data set, which evaluation passes through at once.
        networks: how many are trained at once.
        columns: features that are stored of a row, where inputs are windows of them, which are
            gathered for some rows at once.
        views: how many sets of features they have; None where each has its own.
    """
    passed = rows if columns is None else min(rows, WINDOWED_ROWS)
    stored = shape.widths[0] if columns is None else columns
    parameters = networks * shape.parameters_count * COPIES_OF_PARAMETERS
    evaluated = max(networks * batch_rows, passed) * sum(shape.widths) * COPIES_OF_ACTIVATIONS
    features = (views or networks) * rows * stored * COPIES_OF_FEATURES
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
    shape: Network,
    batch_rows: int,
    rows: int,
    networks: int = 1,
    columns: int | None = None,
    views: int | None = None,
    promised: int = 0,
) -> None:
    """Refuses a training that this machine cannot hold.

    Args:
        shape: of each network.
        batch_rows: rows of one step.
        rows: rows of the whole data set.
        networks: how many are trained at once.
        columns: as of `training_bytes`.
        views: likewise.
        promised: bytes that other tasks, which run or wait, may hold by their own estimates.
    Raises:
        LimitExceeded: with what it would need and what there is.
    """
    needed = training_bytes(shape, batch_rows, rows, networks, columns, views)
    allowed = limit_bytes(promised)
    if needed > allowed:
        others = f", beside {promised / GIGABYTE:,.1f} GB for other tasks" if promised else ""
        wait = " Or wait until other tasks have ended." if promised else ""
        raise LimitExceeded(
            f"{networks} networks of {shape.parameters_count:,} parameters would need about "
            f"{needed / GIGABYTE:,.1f} GB of memory; one training may use {allowed / GIGABYTE:,.1f}"
            f" GB{others}.",
            hint="Use smaller or fewer hidden_layers, a smaller batch_size, or fewer seeds or"
            f" trials.{wait}",
            field="config.hidden_layers",
        )
