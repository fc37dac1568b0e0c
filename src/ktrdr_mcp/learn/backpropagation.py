"""Forward and backward pass of K networks, written out: no autograd.

Backpropagation as in Goodfellow, Bengio, Courville, "Deep Learning" (2016), section 6.5, for
weighted cross-entropy on softmax outputs, whose derivative by the logits is
weight * (softmax - one-hot).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ktrdr_mcp.learn.activations import IN_PLACE
from ktrdr_mcp.learn.parameters import Layout


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
        self._output_weights = layout.stored(parameters)[-1]
        self._output_gradient = layout.stored(gradients)[-1]
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
