"""Network shapes, and inference that is the same at training, after saving and after loading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEAKY_RELU_SLOPE: Final = 0.01  # torch's default

ACTIVATIONS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": lambda values: torch.nn.functional.leaky_relu(values, LEAKY_RELU_SLOPE),
}


@dataclass(frozen=True)
class NetworkShape:
    """A multilayer perceptron: inputs, hidden layers with one activation, one logit per class."""

    inputs: int
    hidden: tuple[int, ...]
    activation: str
    outputs: int = 3

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}; known: {list(ACTIVATIONS)}")
        if not self.hidden or min(self.inputs, self.outputs, *self.hidden) < 1:
            raise ValueError("a network has at least one input, hidden layer, unit and output")

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of every layer, the first hidden one first."""
        widths = (self.inputs, *self.hidden, self.outputs)
        return tuple(pairwise(widths))

    @property
    def parameters_count(self) -> int:
        """How many numbers one network learns: weights and biases."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers)

    @property
    def architecture(self) -> str:
        """A name that shows the hidden layers: "mlp_64_32_16"."""
        return "_".join(["mlp", *map(str, self.hidden)])


def logits(shape: NetworkShape, weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """The network's outputs before the softmax; no dropout, no gradient.

    Args:
        shape: the network's shape.
        weights: "layers.0.weight" (outputs, inputs), "layers.0.bias" (outputs,), and so on.
        features: (rows, inputs), of the weights' dtype and on their device.
    Returns:
        (rows, outputs).
    """
    activation = ACTIVATIONS[shape.activation]
    values = features
    with torch.no_grad():
        for layer in range(len(shape.layers)):
            weight, bias = weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"]
            values = torch.addmm(bias, values, weight.T)
            if layer < len(shape.hidden):
                values = activation(values)
    return values


ROWS_AT_ONCE = 65_536  # bounds the memory of a pass


def probabilities(
    shape: NetworkShape,
    weights: Mapping[str, torch.Tensor],
    features: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Class probabilities, in evaluation mode.

    Args:
        shape: the network's shape.
        weights: the network's tensors.
        features: (n, inputs) scaled features.
    Returns:
        (n, 3) rows sum to 1.
    """
    parts = [
        torch.softmax(logits(shape, weights, torch.from_numpy(chunk)).double(), dim=1).numpy()
        for chunk in chunks(np.ascontiguousarray(features, dtype=np.float32))
    ]
    return np.concatenate(parts) if parts else np.empty((0, shape.outputs))


def chunks(features: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Consecutive parts of bounded length."""
    return [
        features[start : start + ROWS_AT_ONCE] for start in range(0, len(features), ROWS_AT_ONCE)
    ]
