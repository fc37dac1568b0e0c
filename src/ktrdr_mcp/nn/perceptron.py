"""Multilayer perceptrons as a form: sizes, stored form, inference; `nn.mlp` trains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self

from ktrdr_mcp.nn.network import InputKind, Network, TrainableNetworks

if TYPE_CHECKING:  # the server knows forms, and imports no torch
    from torch import Tensor

    from ktrdr_mcp.nn.batches import DeviceRows
    from ktrdr_mcp.nn.settings import NetworkSettings, TrainerSettings


LEAKY_RELU_SLOPE: Final = 0.01  # torch's default


def leaky_relu(values: Tensor) -> Tensor:
    """The values, the negative ones made small."""
    import torch

    return torch.nn.functional.leaky_relu(values, LEAKY_RELU_SLOPE)


ACTIVATIONS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "relu": lambda values: values.relu(),
    "tanh": lambda values: values.tanh(),
    "sigmoid": lambda values: values.sigmoid(),
    "leaky_relu": leaky_relu,
}


@dataclass(frozen=True)
class Mlp:
    """A multilayer perceptron: inputs, hidden layers with one activation, one logit per class.

    Implements Network. Weights are "layers.0.weight" (outputs, inputs), "layers.0.bias" (outputs,)
    and so on, float32.
    """

    inputs: int
    hidden: tuple[int, ...]
    activation: str
    outputs: int = 3

    def __post_init__(self) -> None:
        """Refuses forms that could not be computed."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}; known: {list(ACTIVATIONS)}")
        if not self.hidden or min(self.inputs, self.outputs, *self.hidden) < 1:
            raise ValueError("a network has at least one input, hidden layer, unit and output")

    @property
    def input_kind(self) -> InputKind:
        """Rows of features."""
        return "rows"

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each layer, inputs and outputs included."""
        return (self.inputs, *self.hidden, self.outputs)

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of every layer, the first hidden one first."""
        return tuple(pairwise(self.widths))

    @property
    def parameters_count(self) -> int:
        """How many numbers one network learns: weights and biases."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers)

    @property
    def architecture(self) -> str:
        """A name that shows the hidden layers: "mlp_64_32_16"."""
        return "_".join(["mlp", *map(str, self.hidden)])

    def forward(self, weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """The outputs before the softmax; no dropout, no gradient.

        Args:
            weights: by name.
            features: (rows, inputs), of the weights' dtype and on their device.
        Returns:
            (rows, outputs).
        """
        import torch

        activation = ACTIVATIONS[self.activation]
        values = features
        with torch.no_grad():
            for layer in range(len(self.layers)):
                weight, bias = weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"]
                values = torch.addmm(bias, values, weight.T)
                if layer < len(self.hidden):
                    values = activation(values)
        return values

    def init(self, seed: int) -> dict[str, Tensor]:
        """The weights before the first step; `initial_parameters` says how they are drawn."""
        import torch

        from ktrdr_mcp.nn.mlp import Layout, initial_parameters

        layout = Layout(self, networks=1)
        return layout.weights_of(initial_parameters(layout, [seed], torch.float32), 0)

    def trainable(
        self,
        settings: TrainerSettings,
        numbers: Sequence[int],
        networks: Sequence[NetworkSettings],
        data: DeviceRows,
        tensors: dict[str, Tensor] | None = None,
    ) -> TrainableNetworks:
        """K networks in batched products; `Network.trainable` describes the arguments."""
        from ktrdr_mcp.nn.group import Tiles  # which is built of what stands below

        return Tiles(self, settings, numbers, networks, data, tensors)

    def to_dict(self) -> dict[str, Any]:
        """The form in JSON's types, as bundles have it; three classes go without saying."""
        form = {"inputs": self.inputs, "hidden": list(self.hidden), "activation": self.activation}
        return form if self.outputs == 3 else {**form, "outputs": self.outputs}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of to_dict. Raises ValueError for what is no such form."""
        try:
            return cls(**{**values, "hidden": tuple(values["hidden"])})
        except (TypeError, KeyError) as error:
            raise ValueError("this is not the form of a multilayer perceptron") from error

    @classmethod
    def of_config(cls, inputs: int, config: Mapping[str, Any]) -> Self:
        """The network that a training's configuration asks for."""
        return cls(inputs, tuple(config["hidden_layers"]), config["activation"])


ESTIMATOR: Final[type[Network]] = Mlp
