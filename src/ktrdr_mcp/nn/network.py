"""What a network is to the rest of the program, and which kinds there are.

An `Estimator` turns features into class probabilities, and has a size and a stored form. A
`Network` is an estimator that the trainer fits by gradient steps, K of one form at once. To add
one: a module here with the class, its line in ESTIMATORS, and its name and settings in
`schemas.config`. `nn.perceptron` is the one that there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # the server knows forms, and imports no torch
    from torch import Tensor

    from ktrdr_mcp.features.inputs import Windows
    from ktrdr_mcp.nn.batches import DeviceRows
    from ktrdr_mcp.nn.group import Pace, Score
    from ktrdr_mcp.nn.settings import NetworkSettings, TrainerSettings

ESTIMATORS: Final[Mapping[str, str]] = {  # model_type: module with ESTIMATOR
    "mlp": "ktrdr_mcp.nn.perceptron",
}
DEFAULT_TYPE: Final = "mlp"  # of a stored form that names none
ROWS_AT_ONCE: Final = 65_536  # bounds the memory of a pass
WINDOWED: Final = 8_192  # rows, likewise: their windows are many times as large

InputKind = Literal["rows", "windows"]  # (rows, inputs), or (rows, bars, inputs)
Weights: TypeAlias = "Mapping[str, Tensor]"


class Estimator(Protocol):
    """What predicts from numbers that were fitted, its weights; itself it has none."""

    @property
    def inputs(self) -> int:
        """Features of a row, or of a bar in a window."""
        ...

    @property
    def outputs(self) -> int:
        """Classes."""
        ...

    @property
    def input_kind(self) -> InputKind:
        """What `forward` takes for a row."""
        ...

    @property
    def parameters_count(self) -> int:
        """How many numbers are fitted."""
        ...

    @property
    def architecture(self) -> str:
        """A name that shows its form, such as "mlp_64_32_16"."""
        ...

    def forward(self, weights: Weights, features: Tensor) -> Tensor:
        """The outputs before the softmax; no dropout, no gradient.

        Args:
            weights: tensors by name.
            features: (rows, inputs), or (rows, bars, inputs) for windows, of the weights' dtype
                and on their device.
        Returns:
            (rows, outputs).
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """Its form in JSON's types; `from_dict` gives an equal one back."""
        ...

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of to_dict. Raises ValueError for what is no such form."""
        ...

    @classmethod
    def of_config(cls, inputs: int, config: Mapping[str, Any]) -> Self:
        """The estimator that a training's configuration asks for.

        Args:
            inputs: features of a row.
            config: fields of TrainingConfig.
        """
        ...


class Network(Estimator, Protocol):
    """An estimator that the trainer fits by gradient steps."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Values that a row takes in each layer, inputs and outputs included."""
        ...

    def init(self, seed: int) -> dict[str, Tensor]:
        """The weights before the first step, float32, the same for the same seed."""
        ...

    def trainable(
        self,
        settings: TrainerSettings,
        numbers: Sequence[int],
        networks: Sequence[NetworkSettings],
        data: DeviceRows,
        tensors: dict[str, Tensor] | None = None,
    ) -> TrainableNetworks:
        """K networks of this form that train together.

        Args:
            settings: of the training.
            numbers: which networks these are.
            networks: their settings.
            data: all rows, on the device.
            tensors: what `TrainableNetworks.tensors` gave, to go on from there; None to begin.
        """
        ...


class TrainableNetworks(Protocol):
    """K networks in training; each has the same numbers alone and beside others."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that training has changed, by name: a copy."""
        ...

    def train_epoch(self, epoch: int, rates: Sequence[float], pace: Pace) -> list[Score]:
        """K scores of one pass through every network's training rows, at K learning rates."""
        ...

    def validate(self, pace: Pace) -> list[Score]:
        """K scores on the validation rows."""
        ...

    def remember(self, improved: Sequence[bool]) -> None:
        """Copies the weights of the networks whose epoch was their best."""
        ...

    def best_weights(self, place: int) -> dict[str, Tensor]:
        """A copy of one network's best weights, on the CPU."""
        ...

    def keep(self, places: Sequence[int]) -> TrainableNetworks:
        """Goes on with some of the networks."""
        ...


@cache
def estimator_type(name: str) -> type[Estimator]:
    """One of ESTIMATORS. Raises ValueError for another name."""
    if name not in ESTIMATORS:
        raise ValueError(f"unknown model type {name!r}; known: {', '.join(ESTIMATORS)}")
    return cast(type[Estimator], import_module(ESTIMATORS[name]).ESTIMATOR)


def network_of(inputs: int, config: Mapping[str, Any]) -> Network:
    """The network that a training's configuration asks for.

    Args:
        inputs: features of a row.
        config: fields of TrainingConfig.
    """
    return cast(Network, estimator_type(config["model_type"]).of_config(inputs, config))


def to_dict(estimator: Estimator) -> dict[str, Any]:
    """An estimator's form as it is stored; the type is left out where it is DEFAULT_TYPE."""
    kind = next(name for name in ESTIMATORS if isinstance(estimator, estimator_type(name)))
    return estimator.to_dict() if kind == DEFAULT_TYPE else {"type": kind, **estimator.to_dict()}


def from_dict(values: Mapping[str, Any]) -> Estimator:
    """The inverse of to_dict. Raises ValueError for what is no form of a known type."""
    form = dict(values)
    return estimator_type(form.pop("type", DEFAULT_TYPE)).from_dict(form)


def to_bytes(weights: Weights) -> bytes:
    """Weights as the bytes of a safetensors file."""
    import safetensors.torch

    return safetensors.torch.save({name: each.contiguous() for name, each in weights.items()})


def from_bytes(data: bytes) -> dict[str, Tensor]:
    """The inverse of to_bytes. Raises SafetensorError, ValueError, KeyError or RuntimeError."""
    import safetensors.torch

    return safetensors.torch.load(data)


def probabilities(
    estimator: Estimator, weights: Weights, features: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Class probabilities, in evaluation mode: the same at training, after saving and loading.

    Args:
        estimator: the form.
        weights: its tensors.
        features: (n, inputs) scaled features, or (n, bars, inputs) for windows.
    Returns:
        (n, outputs) rows sum to 1.
    """
    import torch

    parts = [
        torch.softmax(estimator.forward(weights, torch.from_numpy(chunk)).double(), dim=1).numpy()
        for chunk in chunks(np.ascontiguousarray(features, dtype=np.float32))
    ]
    return np.concatenate(parts) if parts else np.empty((0, estimator.outputs))


def windowed_probabilities(
    estimator: Estimator,
    weights: Weights,
    windows: Windows,
    features: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Class probabilities of rows whose inputs are windows, gathered some rows at once.

    Args:
        estimator: the form.
        weights: its tensors.
        windows: which feature each input is.
        features: (n, features) scaled features of consecutive bars.
        rows: (k,) each with enough bars before it.
    Returns:
        (k, outputs) rows sum to 1.
    """
    parts = [
        probabilities(estimator, weights, windows.gather(features, rows[start : start + WINDOWED]))
        for start in range(0, len(rows), WINDOWED)
    ]
    return np.concatenate(parts) if parts else np.empty((0, estimator.outputs))


def chunks(features: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Consecutive parts of bounded length."""
    return [
        features[start : start + ROWS_AT_ONCE] for start in range(0, len(features), ROWS_AT_ONCE)
    ]
