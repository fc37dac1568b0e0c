"""Trainer settings and results: plain values, and the device that computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.features.inputs import Windows

if TYPE_CHECKING:  # the server knows settings, and imports no torch
    import torch
    from torch import Tensor

BLOCK_ROWS: Final = 65_536  # of all rows at a time: a copy of all may not fit


@dataclass(frozen=True)
class NetworkSettings:
    """What may differ between networks that are trained together."""

    seed: int  # decides initial weights, order of rows and dropout, and nothing else does
    learning_rate: float
    weight_decay: float = 0.0
    dropout_rate: float = 0.0


@dataclass(frozen=True)
class TrainerSettings:
    """What all networks of one training share."""

    epochs: int
    batch_size: int
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    momentum: float = 0.0  # sgd and rmsprop
    gradient_clip: float | None = None  # largest Euclidean norm of one network's gradient
    decoupled_decay: bool = False  # adam: decay the weights, not the gradient
    scheduler: Mapping[str, Any] | None = None  # type and its settings; see schedules.py
    patience: int | None = None  # epochs without improvement; None never stops early
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    class_weights: tuple[float, ...] | None = None
    device: str = "auto"  # "auto", "cpu" or "cuda"
    reported_networks: int | None = None  # progress is the mean of the first so many; None: all


class ComputedFeatures(Protocol):
    """Scaled features that are never held all at once."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        ...

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """(n, features) of all rows in order, some at a time."""
        ...

    def write_inputs(self, rows: NDArray[np.int32], out: NDArray[np.float32]) -> None:
        """Writes what a network sees of some rows.

        Args:
            rows: (n,) row numbers.
            out: (n, inputs).
        """
        ...


@dataclass(frozen=True)
class TrainingRows:
    """The data of K networks; whatever they share is given once.

    Args:
        features: (n, inputs) float32, already scaled; or what computes those of some rows, which a
            training on the CPU does batch by batch.
        labels: (n,) or (K, n) int64 class numbers; rows that no network uses may hold anything.
        train_rows: K arrays of row numbers, or one that all share.
        validation_rows: likewise.
        row_weights: (n,) or (K, n) non-negative weights in the loss, or None for one each.
        windows: which feature, how many rows before, each input of a network is; None where the
            inputs are the row's own features.
        with_ones: (n, inputs + 1) float32, the features with a one behind each row, if they lie so
            in memory; a training on the CPU then reads them there, and copies nothing.
    """

    features: NDArray[np.float32] | ComputedFeatures
    labels: NDArray[np.int64]
    train_rows: Sequence[NDArray[np.integer[Any]]]
    validation_rows: Sequence[NDArray[np.integer[Any]]]
    row_weights: NDArray[np.floating[Any]] | None = None
    windows: Windows | None = None
    with_ones: NDArray[np.float32] | None = None


def feature_blocks(rows: TrainingRows) -> Iterator[NDArray[np.float32]]:
    """(n, features) of all rows in order, some at a time."""
    if not isinstance(rows.features, np.ndarray):
        yield from rows.features.blocks()
        return
    for start in range(0, len(rows.features), BLOCK_ROWS):
        yield rows.features[start : start + BLOCK_ROWS]


class EpochMetrics(NamedTuple):
    """One network's epoch. Losses in nats, accuracies in [0, 1]."""

    train_loss: float  # while the weights were moving, dropout included
    val_loss: float
    train_accuracy: float
    val_accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class TrainedNetwork:
    """One network's result."""

    weights: dict[str, Tensor]  # the best epoch's, on the CPU; the form is nets.logits'
    best_epoch: int  # 1-based; 0 if the first epoch diverged
    epochs_completed: int
    early_stopped: bool
    history: tuple[EpochMetrics, ...]
    diverged: str | None = None  # a sentence, when its loss stopped being a finite number


@dataclass(frozen=True)
class TrainerState:
    """A whole training at an epoch's end: tensors by name, and values that JSON can hold."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def device_named(name: str) -> torch.device:
    """The device of "auto", "cpu" or "cuda"; "auto" takes a GPU where there is one.

    Raises:
        InvalidRequest: a GPU was asked for and there is none.
    """
    import torch

    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise InvalidRequest(
            "This machine has no CUDA device.",
            hint="Use device auto or cpu.",
            field="config.device",
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and present) else "cpu")
