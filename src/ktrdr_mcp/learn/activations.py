"""Activations of the trainer: value and derivative in place, dropout folded in.

For pre-activations z and a dropout mask m (0, or 1/(1-p) where a unit is kept) each function
writes f(z) * m to `out` and f'(z) * m to `slope`. The chain rule then needs one product per layer:
dL/dz = dL/dout * slope. z is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from ktrdr_mcp.learn.nets import LEAKY_RELU_SLOPE

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
