"""How much memory a training needs, estimated before it is accepted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
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
INDICATOR_BYTES: Final = 8  # of a bar's value of one indicator, in float64
LINEAR_BYTES: Final = 8  # of one feature of a row that a logistic regression learns from
ROW_BYTES: Final = 120  # of a bar: prices, volume, times, labels, splits
ROW_OF_VIEW_BYTES: Final = 40  # labels and weights in the loss, for each set of features
# Scaled features of all sets are held up to here; else each batch computes those of its rows.
MOST_STORED_BYTES: Final = 500_000_000
WINDOWED_ROWS: Final = 8_192  # whose windows are gathered at once in a pass
GIGABYTE: Final = 10**9


def weights_megabytes(parameters: int) -> float:
    """The size of a network's weights and biases, in units of 10^6 bytes.

    Args:
        parameters: how many there are.
    """
    return parameters * FLOAT_BYTES / 1e6


def stored_bytes(rows: int, columns: int) -> int:
    """What scaled features take, with a one behind each row, in float32."""
    return rows * (columns + 1) * FLOAT_BYTES


@dataclass(frozen=True)
class Needs:
    """What a training's memory depends on.

    Args:
        shape: of each network.
        batch_rows: rows of one step.
        rows: rows of the whole data set, which evaluation passes through at once.
        networks: how many are trained at once.
        columns: features that are stored of a row, where inputs are windows of them, which are
            gathered for some rows at once.
        views: how many sets of features they have; None where each has its own.
        tables: how many sets of indicators, which the features are computed from: one, and one for
            each further strategy or surrogate.
    """

    shape: Network
    batch_rows: int
    rows: int
    networks: int = 1
    columns: int | None = None
    views: int | None = None
    tables: int = 1

    @property
    def bytes(self) -> int:
        """An upper estimate of the memory, beside what a worker holds anyway."""
        shape, networks, rows = self.shape, self.networks, self.rows
        passed = rows if self.columns is None else min(rows, WINDOWED_ROWS)
        stored = shape.widths[0] if self.columns is None else self.columns
        parameters = networks * shape.parameters_count * COPIES_OF_PARAMETERS
        at_once = max(networks * self.batch_rows, passed)
        evaluated = at_once * sum(shape.widths) * COPIES_OF_ACTIVATIONS
        of_views = (self.views or networks) * rows
        features = min(stored_bytes(of_views, stored), MOST_STORED_BYTES)
        training, judging = features + of_views * ROW_OF_VIEW_BYTES, rows * stored * LINEAR_BYTES
        return (
            (parameters + evaluated) * FLOAT_BYTES
            + rows * self.tables * (INDICATOR_BYTES * stored + ROW_BYTES)
            + max(training, judging)
        )


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


def check(needs: Needs, promised: int = 0) -> None:
    """Refuses a training that this machine cannot hold.

    Args:
        needs: what it depends on.
        promised: bytes that other tasks, which run or wait, may hold by their own estimates.
    Raises:
        LimitExceeded: with what it would need and what there is.
    """
    allowed = limit_bytes(promised)
    if needs.bytes > allowed:
        others = f", beside {promised / GIGABYTE:,.1f} GB for other tasks" if promised else ""
        wait = " Or wait until other tasks have ended." if promised else ""
        raise LimitExceeded(
            f"{needs.networks} networks of {needs.shape.parameters_count:,} parameters would need"
            f" about {needs.bytes / GIGABYTE:,.1f} GB of memory; one training may use"
            f" {allowed / GIGABYTE:,.1f} GB{others}.",
            hint="Use smaller or fewer hidden_layers, a smaller batch_size, or fewer seeds or"
            f" trials.{wait}",
            field="config.hidden_layers",
        )
