"""Multilayer perceptrons: parameters, activations, dropout, analytic gradients of K networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ktrdr_mcp.nn.perceptron import LEAKY_RELU_SLOPE, Mlp

if TYPE_CHECKING:
    pass


_relu_slope = torch.ops.aten.threshold_backward.grad_input
_leaky_relu_slope = torch.ops.aten.leaky_relu_backward.grad_input
_tanh_slope = torch.ops.aten.tanh_backward.grad_input
_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input


def _relu(z: Tensor, mask: Tensor, slope: Tensor, out: Tensor) -> None:
    _relu_slope(mask, z, 0, grad_input=slope)
    torch.mul(z, slope, out=out)


def _leaky_relu(z: Tensor, mask: Tensor, slope: Tensor, out: Tensor) -> None:
    _leaky_relu_slope(mask, z, LEAKY_RELU_SLOPE, False, grad_input=slope)
    torch.mul(z, slope, out=out)


def _tanh(z: Tensor, mask: Tensor, slope: Tensor, out: Tensor) -> None:
    z.tanh_()
    _tanh_slope(mask, z, grad_input=slope)
    torch.mul(z, mask, out=out)


def _sigmoid(z: Tensor, mask: Tensor, slope: Tensor, out: Tensor) -> None:
    z.sigmoid_()
    _sigmoid_slope(mask, z, grad_input=slope)
    torch.mul(z, mask, out=out)


Activation = Callable[[Tensor, Tensor, Tensor, Tensor], None]

IN_PLACE: Final[Mapping[str, Activation]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
}


class Purpose(IntEnum):
    """What a stream is for; the numbers are part of every saved seed's meaning."""

    WEIGHTS = 0
    ORDER = 1
    DROPOUT = 2


def stream(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """A generator of its own for one purpose in one epoch.

    SFC64 fills an array three times as fast as torch's Mersenne Twister, and SeedSequence keeps
    neighbouring seeds and epochs apart (torch's CPU generator uses 32 bits of its seed).

    Args:
        seed: the network's seed, 0 or more.
        purpose: what the numbers are for.
        epoch: 1-based; 0 where epochs do not matter.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(int(purpose), epoch))
    return np.random.Generator(np.random.SFC64(sequence))


@dataclass(frozen=True)
class Layout:
    """Where each layer of K networks lies in one flat vector.

    Layer after layer, a block (K, inputs + 1, units): what a batched product wants. The last row
    of a block is the bias, met by a column of ones in the layer's input, so that one product gives
    weights' and biases' gradients. Only the output layer is stored transposed, (K, outputs,
    inputs + 1): with few outputs, products and softmax are several times faster across rows. Its
    rows are filled up to a multiple of four with zeros, whose gradients are zero: with two, three
    or five rows MKL's sums would depend on where in memory a network lies.
    """

    shape: Mlp
    networks: int  # K

    @property
    def length(self) -> int:
        """Elements of the flat vector."""
        return sum(prod(shape) for shape in self._stored_shapes)

    @property
    def output_rows(self) -> int:
        """Rows of the stored output layer."""
        return -(-self.shape.outputs // 4) * 4

    @property
    def _stored_shapes(self) -> list[tuple[int, int, int]]:
        shapes = [(self.networks, inputs + 1, units) for inputs, units in self.shape.layers]
        shapes[-1] = (self.networks, self.output_rows, self.shape.hidden[-1] + 1)
        return shapes

    def view_stored(self, flat: Tensor) -> list[Tensor]:
        """Contiguous views into a flat vector, one per layer; the last is transposed."""
        shapes = self._stored_shapes
        pieces = torch.split_with_sizes(flat, [prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def blocks(self, flat: Tensor) -> list[Tensor]:
        """Views (K, inputs + 1, units) into a flat vector, one per layer."""
        *hidden, output = self.view_stored(flat)
        return [*hidden, output[:, : self.shape.outputs].mT]

    def owners(self, device: torch.device) -> Tensor:
        """(length,) int64: the network that each element belongs to."""
        flat = torch.empty(self.length, dtype=torch.int64, device=device)
        numbers = torch.arange(self.networks, device=device)
        for block in self.view_stored(flat):
            block.copy_(numbers[:, None, None].expand_as(block))
        return flat

    def select(self, flat: Tensor, kept: Sequence[int]) -> Tensor:
        """A copy that holds only some networks, in the given order."""
        chosen = torch.tensor(kept, dtype=torch.int64, device=flat.device)
        return torch.cat(
            [block.index_select(0, chosen).flatten() for block in self.view_stored(flat)]
        )

    def weights_of(self, flat: Tensor, network: int) -> dict[str, Tensor]:
        """A copy of one network's weights on the CPU, as `Mlp.forward` takes them."""
        weights = {}
        for layer, block in enumerate(self.blocks(flat)):
            values = block[network].cpu()
            weights[f"layers.{layer}.weight"] = values[:-1].T.clone(
                memory_format=torch.contiguous_format
            )
            weights[f"layers.{layer}.bias"] = values[-1].clone()
        return weights


def join(parts: Sequence[tuple[Layout, Tensor]]) -> Tensor:
    """One flat vector for the networks of several, in their order."""
    per_layer = zip(*(layout.view_stored(flat) for layout, flat in parts), strict=True)
    return torch.cat([torch.cat(blocks).flatten() for blocks in per_layer])


def initial_parameters(layout: Layout, seeds: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Weights and biases uniform in +-1/sqrt(inputs): the default of torch.nn.Linear.

    Args:
        layout: K networks.
        seeds: K seeds; a network's numbers depend on its own alone.
        dtype: float32, or float64 for checks of the mathematics.
    Returns:
        The flat vector, on the CPU.
    """
    flat = torch.zeros(layout.length, dtype=dtype)
    blocks = layout.blocks(flat)
    for network, seed in enumerate(seeds):
        numbers = stream(seed, Purpose.WEIGHTS)
        for block, (inputs, _) in zip(blocks, layout.shape.layers, strict=True):
            bound = 1 / np.sqrt(inputs)
            drawn = numbers.uniform(-bound, bound, size=tuple(block.shape[1:]))
            block[network].copy_(torch.from_numpy(drawn))
    return flat


_LEVELS: Final = 2**16
_LANES_PER_WORD: Final = 4


class DropoutMasks:
    """The masks of K networks; each network reads its own stream, step after step.

    Args:
        seeds: K seeds.
        rates: K dropout rates in [0, 1).
        units: of every hidden layer.
        batch_rows: rows per batch and network.
        dtype, device: of the masks.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        rates: Sequence[float],
        units: Sequence[int],
        batch_rows: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._seeds = seeds
        self._dropped_levels = [min(round(rate * _LEVELS), _LEVELS - 1) for rate in rates]
        self._units = units
        self._batch_rows = batch_rows
        self._dtype, self._device = dtype, device
        self._streams: list[np.random.Generator] = []
        self._buffers: list[Tensor] = []  # on the CPU, where the random numbers are drawn
        self._ones = tuple(
            torch.ones(len(seeds), batch_rows, width, dtype=dtype, device=device) for width in units
        )

    @property
    def elements_per_row(self) -> int:
        """How many mask elements one row of one network needs."""
        return sum(self._units) if any(self._dropped_levels) else 0

    def begin_epoch(self, epoch: int) -> None:
        """Opens the epoch's streams."""
        self._streams = [stream(seed, Purpose.DROPOUT, epoch) for seed in self._seeds]

    def draw(self, steps: int) -> list[tuple[Tensor, ...]]:
        """The next steps' masks: per step and hidden layer (K, batch, units).

        They are valid until the next call: all calls write to the same memory.
        """
        if not any(self._dropped_levels):
            return [self._ones] * steps
        networks, rows = len(self._seeds), self._batch_rows
        if not self._buffers or len(self._buffers[0]) < steps:
            self._buffers = [
                torch.empty(steps, networks, rows, width, dtype=self._dtype)
                for width in self._units
            ]
        layers = [buffer[:steps] for buffer in self._buffers]
        views = [layer.numpy().reshape(steps, networks, -1) for layer in layers]
        for network, dropped in enumerate(self._dropped_levels):
            self._fill([view[:, network] for view in views], network, dropped)
        on_device = [layer.to(self._device) for layer in layers]
        return list(zip(*(layer.unbind(0) for layer in on_device), strict=True))

    def _fill(self, layers: list[np.ndarray], network: int, dropped: int) -> None:
        """Writes one network's masks; each layer is (steps, batch * units)."""
        if dropped == 0:
            for layer in layers:
                layer.fill(1)
            return
        steps = len(layers[0])
        words = -(-sum(layer.shape[1] for layer in layers) // _LANES_PER_WORD)
        drawn = self._streams[network].integers(
            0, 2**64 - 1, size=(steps, words), dtype=np.uint64, endpoint=True
        )
        lanes = drawn.view(np.uint16)
        scale = layers[0].dtype.type(_LEVELS / (_LEVELS - dropped))
        start = 0
        for layer in layers:
            stop = start + layer.shape[1]
            np.multiply(lanes[:, start:stop] >= dropped, scale, out=layer)
            start = stop


class _Hidden(NamedTuple):
    """Views and buffers of one hidden layer; all of them live as long as the pass."""

    weights: Tensor  # (K, inputs + 1, units)
    gradient: Tensor  # (K, inputs + 1, units)
    z: Tensor  # (K, batch, units) pre-activations
    slope: Tensor  # (K, batch, units) derivative of the activation, times the mask
    out: Tensor  # (K, batch, units), a view into out_ones
    out_ones: Tensor  # (K, batch, units + 1), the last column is one
    out_ones_transposed: Tensor  # (K, units + 1, batch)
    delta: Tensor  # (K, batch, units) dL/dz
    next_weights_transposed: Tensor  # (K, next units, units), the next layer's without its bias


class Backpropagation:
    """Computes the gradients of K networks for batches of one size.

    Args:
        layout: K networks.
        parameters: their flat vector, read.
        gradients: a flat vector of the same length, overwritten by every pass.
        batch_rows: rows per batch and network.
    """

    def __init__(
        self, layout: Layout, parameters: Tensor, gradients: Tensor, batch_rows: int
    ) -> None:
        self._activate = IN_PLACE[layout.shape.activation]
        weights, slots = layout.blocks(parameters), layout.blocks(gradients)
        rows = (layout.networks, batch_rows)
        self._output_weights = layout.view_stored(parameters)[-1]
        self._output_gradient = layout.view_stored(gradients)[-1]
        columns = (layout.networks, layout.output_rows, batch_rows)
        self._output_delta = parameters.new_zeros(columns)
        self._real_delta = self._output_delta[:, : layout.shape.outputs]
        self._probabilities = torch.empty_like(self._real_delta)
        self._hidden: list[_Hidden] = []
        for layer, units in enumerate(layout.shape.hidden):
            out_ones = parameters.new_ones(*rows, units + 1)
            z, slope, delta = (parameters.new_empty(*rows, units) for _ in range(3))
            self._hidden.append(
                _Hidden(
                    weights=weights[layer],
                    gradient=slots[layer],
                    z=z,
                    slope=slope,
                    out=out_ones[..., :units],
                    out_ones=out_ones,
                    out_ones_transposed=out_ones.mT,
                    delta=delta,
                    next_weights_transposed=weights[layer + 1][:, :units].mT,
                )
            )

    def run(
        self,
        features: Tensor,
        masks: tuple[Tensor, ...],
        weight: Tensor,
        negative_target: Tensor,
        stored_logits: Tensor,
        logits: Tensor,
    ) -> None:
        """One batch: writes the logits and all gradients.

        Args:
            features: (K, batch, inputs + 1), the last column is one.
            masks: (K, batch, units) per hidden layer: what each unit's output is multiplied by.
            weight: (K, 1, batch) of each row in the loss; they sum to one per network.
            negative_target: (K, outputs, batch), minus weight at the label, else zero.
            stored_logits: (K, stored output rows, batch), overwritten; see Layout.
            logits: (K, outputs, batch), the part of stored_logits that means something.
        """
        values = features
        for layer, mask in zip(self._hidden, masks, strict=True):
            torch.bmm(values, layer.weights, out=layer.z)
            self._activate(layer.z, mask, layer.slope, layer.out)
            values = layer.out_ones
        torch.bmm(self._output_weights, layer.out_ones_transposed, out=stored_logits)
        torch.softmax(logits, 1, out=self._probabilities)
        torch.addcmul(negative_target, self._probabilities, weight, out=self._real_delta)
        torch.bmm(self._output_delta, values, out=self._output_gradient)
        delta, gradient = self._real_delta.mT, None
        for layer in reversed(self._hidden):
            if gradient is not None:
                torch.bmm(layer.out_ones_transposed, delta, out=gradient)
            torch.bmm(delta, layer.next_weights_transposed, out=layer.delta)
            layer.delta.mul_(layer.slope)
            delta, gradient = layer.delta, layer.gradient
        torch.bmm(features.mT, delta, out=gradient)
