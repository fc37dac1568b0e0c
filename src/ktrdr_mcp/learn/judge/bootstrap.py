"""The circular block bootstrap of a mean."""

from __future__ import annotations

from typing import Final

import numpy as np

from ktrdr_mcp.learn.judge.blocks import Floats

DRAWS: Final = 1_999
_STARTS_AT_ONCE: Final = 2**21  # bounds the memory of a pass


def bootstrap_means(values: Floats, block_bars: int, seed: int, draws: int = DRAWS) -> Floats:
    """Means of series put together from blocks that begin anywhere and wrap around the end.

    Circular blocks, so that every bar is drawn equally often and the draws centre on the mean.

    Args:
        values: float64[k, n], n >= 1; the k series are drawn together.
        block_bars: length of a block; at most n is used.
        seed: of the draws.
        draws: how many.
    Returns:
        float64[k, draws].
    Source:
        D. Politis, J. Romano, A Circular Block-Resampling Procedure for Stationary Data, 1992.
    """
    count = values.shape[1]
    width = min(block_bars, count)
    wrapped = np.concatenate([np.zeros((len(values), 1)), values, values[:, : width - 1]], axis=1)
    total = np.cumsum(wrapped, axis=1)
    block = (total[:, width:] - total[:, :-width]) / width  # (k, n): mean of the block at each bar
    blocks = -(-count // width)
    generator = np.random.default_rng(seed)
    at_once = max(_STARTS_AT_ONCE // blocks, 1)
    parts = [
        block[:, generator.integers(0, count, (min(at_once, draws - done), blocks))].mean(axis=2)
        for done in range(0, draws, at_once)
    ]
    return np.concatenate(parts, axis=1)
