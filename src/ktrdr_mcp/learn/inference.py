"""Probabilities from a trained network, the same at training, after saving and after loading."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from ktrdr_mcp.learn import nets

ROWS_AT_ONCE = 65_536  # bounds the memory of a pass


def probabilities(
    shape: nets.NetworkShape,
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
        torch.softmax(nets.logits(shape, weights, torch.from_numpy(chunk)).double(), dim=1).numpy()
        for chunk in chunks(np.ascontiguousarray(features, dtype=np.float32))
    ]
    return np.concatenate(parts) if parts else np.empty((0, shape.outputs))


def chunks(features: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Consecutive parts of bounded length."""
    return [
        features[start : start + ROWS_AT_ONCE] for start in range(0, len(features), ROWS_AT_ONCE)
    ]
