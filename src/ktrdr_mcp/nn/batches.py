"""Rows into batches: the order of an epoch, gathered for many steps at once.

Each network passes through its own training rows in its own random order. An epoch of a network
has ceil(rows / batch) steps; the last batch is filled up with rows of weight zero. When networks
differ in rows, those with fewer steps get batches of weight zero until the longest has finished
(and NetworkGroup undoes what an optimizer's momentum would still do there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ktrdr_mcp.errors import InvalidRequest, NotEnoughData
from ktrdr_mcp.nn.mlp import Purpose, stream
from ktrdr_mcp.nn.settings import ComputedFeatures, TrainingRows, feature_blocks

IndexArray = NDArray[np.int32]


class DeviceRows:
    """The training data on the device, shared by all networks.

    Args:
        rows: the data as it was given.
        networks: K.
        class_weights: one per class, or None for equal ones.
        outputs: number of classes.
        dtype, device: of the tensors.
    """

    def __init__(
        self,
        rows: TrainingRows,
        networks: int,
        class_weights: Sequence[float] | None,
        outputs: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.like = torch.empty(0, dtype=dtype, device=device)  # of all tensors
        self._features = _with_ones(rows, self.like)
        self._columns = rows.features.shape[1] + 1
        self._places = _window_places(rows, device)
        labels = np.atleast_2d(np.asarray(rows.labels, dtype=np.int64))
        self.train_rows = _one_each(rows.train_rows, networks, "training")
        self.validation_rows = _one_each(rows.validation_rows, networks, "validation")
        _check_labels(labels, self.train_rows + self.validation_rows, outputs)
        weights = _loss_weights(labels, rows.row_weights, class_weights, outputs)
        self.labels = torch.as_tensor(labels, device=device)
        self.weights = torch.as_tensor(weights, dtype=dtype, device=device)

    @property
    def width(self) -> int:
        """Inputs of a row, and the one."""
        return self._columns if self._places is None else len(self._places)

    def gather(self, index: Tensor, out: Tensor) -> None:
        """Writes the inputs of rows.

        Args:
            index: (...) int32, row numbers.
            out: (..., width).
        """
        index, out = index.flatten(), out.flatten(0, -2)
        if not isinstance(self._features, Tensor):
            self._features.write_inputs(index.numpy(), out[:, :-1].numpy())
            out[:, -1] = 1
        elif self._places is None:
            torch.index_select(self._features, 0, index, out=out)
        else:
            first = index.to(torch.int64) * self._columns
            torch.take(self._features, first[:, None] + self._places, out=out)

    def offsets(self, table: Tensor, networks: Sequence[int]) -> Tensor:
        """(K,) int64: where each network's part of a flattened (1 or K, n) table begins."""
        rows = [network if len(table) > 1 else 0 for network in networks]
        return torch.tensor(rows, dtype=torch.int64, device=table.device) * table.shape[1]


@dataclass(frozen=True)
class Block:
    """Consecutive batches: S steps of K networks, B rows each."""

    features: Tensor  # (S, K, B, inputs + 1), the last column is one; valid until the next block
    labels: Tensor  # (S, K, B)
    weight: Tensor  # (S, K, B) weight in the loss as given; zero where a batch is filled up
    real: Tensor | None  # (S, K, B) bool: not filled up; None if all are real

    def normalised_weight(self) -> Tensor:
        """(S, K, 1, B): weights that sum to one in each batch, or to zero in an empty one."""
        total = self.weight.sum(-1, keepdim=True)
        return (self.weight / torch.where(total > 0, total, 1)).unsqueeze(2)

    def negative_target(self, weight: Tensor, outputs: int) -> Tensor:
        """(S, K, outputs, B): minus the weight at the label, zero elsewhere."""
        steps, networks, _, rows = weight.shape
        target = weight.new_zeros(steps, networks, outputs, rows)
        return target.scatter_(2, self.labels.unsqueeze(2), weight.neg())


class Batches:
    """The batches of some of the networks.

    Args:
        data: all rows.
        networks: which networks, by number.
        rows: their row numbers.
        batch_rows: rows per batch and network.
    """

    def __init__(
        self,
        data: DeviceRows,
        networks: Sequence[int],
        rows: Sequence[IndexArray],
        batch_rows: int,
    ) -> None:
        self._data = data
        self._batch_rows = batch_rows
        self._rows = rows
        device = data.like.device
        self._row_counts = torch.tensor([len(rows) for rows in self._rows], device=device)
        self._fewest_rows = min(len(rows) for rows in self._rows)
        self.steps = [-(-len(rows) // batch_rows) for rows in self._rows]  # per epoch
        self._label_offsets = data.offsets(data.labels, networks)[:, None]
        self._weight_offsets = data.offsets(data.weights, networks)[:, None]
        self._order, self._buffer = torch.empty(0), torch.empty(0)

    def shuffle(self, seeds: Sequence[int], epoch: int) -> None:
        """Draws every network's order of rows for an epoch."""
        self._arrange(
            [
                rows[stream(seed, Purpose.ORDER, epoch).permutation(len(rows))]
                for rows, seed in zip(self._rows, seeds, strict=True)
            ]
        )

    def in_order(self) -> Batches:
        """Keeps every network's rows as they were given."""
        self._arrange(self._rows)
        return self

    def _arrange(self, ordered: Sequence[IndexArray]) -> None:
        steps = max(self.steps)
        order = np.empty((steps, len(ordered), self._batch_rows), dtype=np.int32)
        filled = np.empty(steps * self._batch_rows, dtype=np.int32)
        for network, rows in enumerate(ordered):
            filled[: len(rows)] = rows
            filled[len(rows) :] = rows[0]
            order[:, network] = filled.reshape(steps, self._batch_rows)
        self._order = torch.from_numpy(order).to(self._data.like.device)

    def block(self, start: int, stop: int) -> Block:
        """The batches of steps start to stop in the present order."""
        data = self._data
        index = self._order[start:stop]
        labels = data.labels.flatten()[index + self._label_offsets]
        weight = data.weights.flatten()[index + self._weight_offsets]
        real = None
        if stop * self._batch_rows > self._fewest_rows:
            real = self._real(start, stop)
            weight = weight * real
        features = self._features_buffer(stop - start)
        data.gather(index, features)
        return Block(features, labels, weight, real)

    def _features_buffer(self, steps: int) -> Tensor:
        """(S, K, B, inputs + 1), the same memory for every block: fresh pages cost more."""
        if len(self._buffer) < steps:
            shape = (steps, len(self._rows), self._batch_rows, self._data.width)
            self._buffer = self._data.like.new_empty(shape)
        return self._buffer[:steps]

    def _real(self, start: int, stop: int) -> Tensor:
        """(S, K, B) bool: which places hold a row that was not there just to fill up."""
        device = self._data.like.device
        first = torch.arange(start, stop, device=device) * self._batch_rows
        place = first[:, None, None] + torch.arange(self._batch_rows, device=device)
        return place < self._row_counts[:, None]


def _with_ones(rows: TrainingRows, like: Tensor) -> Tensor | ComputedFeatures:
    """(n, features + 1) the features and a one, where they lie so; or what computes them."""
    if like.device.type == "cpu" and like.dtype == torch.float32:
        if rows.with_ones is not None:
            return torch.from_numpy(rows.with_ones)
        if not isinstance(rows.features, np.ndarray):
            return rows.features
    count, features = rows.features.shape
    made = like.new_ones(count, features + 1)
    start = 0
    for block in feature_blocks(rows):
        made[start : start + len(block), :-1] = torch.as_tensor(block).to(like.device)
        start += len(block)
    return made


def _window_places(rows: TrainingRows, device: torch.device) -> Tensor | None:
    """(inputs + 1,) where a row's inputs lie from its own first value on; None without windows."""
    if rows.windows is None:
        return None
    columns = rows.features.shape[1] + 1
    places = rows.windows.columns - rows.windows.lags * columns
    return torch.as_tensor(np.append(places, columns - 1), device=device)


def _one_each(
    arrays: Sequence[NDArray[np.integer[Any]]], networks: int, which: str
) -> list[IndexArray]:
    """One array of row numbers per network."""
    if len(arrays) not in (1, networks):
        raise ValueError(f"{len(arrays)} arrays of {which} rows for {networks} networks")
    if any(len(array) == 0 for array in arrays):
        raise NotEnoughData(
            f"A network has no {which} rows.",
            hint="Use a longer date range or smaller shares for validation and test.",
        )
    converted = [np.ascontiguousarray(array, dtype=np.int32) for array in arrays]
    return converted if len(arrays) == networks else converted * networks


def _check_labels(labels: NDArray[np.int64], used: list[IndexArray], outputs: int) -> None:
    """Refuses a used row whose label is no class."""
    seen: set[int] = set()
    for rows in used:
        if id(rows) in seen:
            continue
        seen.add(id(rows))
        chosen = labels[:, rows]
        if chosen.min() < 0 or chosen.max() >= outputs:
            raise InvalidRequest(
                f"A row that is to be used has a label outside 0 to {outputs - 1}.",
                hint="Leave rows without a complete label out of the split.",
            )


def _loss_weights(
    labels: NDArray[np.int64],
    row_weights: NDArray[np.floating[Any]] | None,
    class_weights: Sequence[float] | None,
    outputs: int,
) -> NDArray[np.float64]:
    """(1 or K, n) weights: the row's own times its class's."""
    weights = np.ones((1, labels.shape[1]))
    if row_weights is not None:
        weights = np.atleast_2d(np.asarray(row_weights, dtype=np.float64))
    if class_weights is not None:
        per_class = np.asarray(class_weights, dtype=np.float64)
        weights = weights * per_class[np.clip(labels, 0, outputs - 1)]
    return weights
