"""Gradient clipping per network."""

from __future__ import annotations

import torch
from torch import Tensor

from ktrdr_mcp.learn.parameters import Layout


class GradientClip:
    """Scales a network's gradient down to a largest Euclidean norm, as clip_grad_norm_ does.

    Args:
        layout: K networks.
        gradients: their flat vector, scaled in place.
        owners: (length,) the network of each element.
        largest_norm: above 0.
    """

    def __init__(
        self, layout: Layout, gradients: Tensor, owners: Tensor, largest_norm: float
    ) -> None:
        self._gradients, self._owners, self._largest_norm = gradients, owners, largest_norm
        self._rows = [block.flatten(1) for block in layout.stored(gradients)]  # (K, elements)

    def apply(self) -> None:
        """Clips what the gradients hold now."""
        # In float64, so that the order of summation, which depends on K, does not show.
        norms = [torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64) for rows in self._rows]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (K,)
        factor = (self._largest_norm / (norm + 1e-6)).clamp_(max=1)
        self._gradients.mul_(factor.to(self._gradients.dtype)[self._owners])
