"""K networks in one flat vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.learn.random_streams import Purpose, stream


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

    shape: NetworkShape
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

    def stored(self, flat: Tensor) -> list[Tensor]:
        """Contiguous views into a flat vector, one per layer; the last is transposed."""
        shapes = self._stored_shapes
        pieces = torch.split_with_sizes(flat, [prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def blocks(self, flat: Tensor) -> list[Tensor]:
        """Views (K, inputs + 1, units) into a flat vector, one per layer."""
        *hidden, output = self.stored(flat)
        return [*hidden, output[:, : self.shape.outputs].mT]

    def owners(self, device: torch.device) -> Tensor:
        """(length,) int64: the network that each element belongs to."""
        flat = torch.empty(self.length, dtype=torch.int64, device=device)
        numbers = torch.arange(self.networks, device=device)
        for block in self.stored(flat):
            block.copy_(numbers[:, None, None].expand_as(block))
        return flat

    def select(self, flat: Tensor, kept: Sequence[int]) -> Tensor:
        """A copy that holds only some networks, in the given order."""
        chosen = torch.tensor(kept, dtype=torch.int64, device=flat.device)
        return torch.cat([block.index_select(0, chosen).flatten() for block in self.stored(flat)])

    def weights_of(self, flat: Tensor, network: int) -> dict[str, Tensor]:
        """A copy of one network's weights on the CPU, in the form of nets.logits."""
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
    per_layer = zip(*(layout.stored(flat) for layout, flat in parts), strict=True)
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
