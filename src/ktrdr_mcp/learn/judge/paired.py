"""Whether one model is better than another on rows that both predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ktrdr_mcp.learn.judge.blocks import Floats, Integers, block_sums, block_width
from ktrdr_mcp.learn.judge.direction import HORIZONS_PER_BLOCK
from ktrdr_mcp.learn.judge.sign_flips import sign_flip_p


@dataclass(frozen=True)
class PairedTest:
    """The difference of two models on their common rows.

    Args:
        mean_difference: of the compared quantity, first minus second.
        p: two-sided.
        rows: how many rows both predicted.
        blocks: in how many blocks they lie.
    """

    mean_difference: float
    p: float
    rows: int
    blocks: int


def paired_block_test(
    first: Floats, second: Floats, rows: Integers, time: Integers, horizon: int, seed: int = 0
) -> PairedTest:
    """Flips the signs of block sums of the difference.

    Args:
        first: float64[n], one model's figure per row, for example 1 if right and 0 if not.
        second: float64[n], the other's.
        rows: int64[n], bar indices that both predicted, ascending.
        time: int64[bars], the opening of every bar, UTC nanoseconds.
        horizon: how far labels look ahead, in bars; the longer of the two.
        seed: of the random signs.
    Source:
        As the directional test; twice the smaller of the two one-sided p, at most 1.
    """
    difference = first - second
    width = block_width(len(rows), HORIZONS_PER_BLOCK * horizon)
    sums = block_sums(difference, rows, time, width).sums
    p = min(1.0, 2 * min(sign_flip_p(sums, seed), sign_flip_p(-sums, seed)))
    mean = float(np.mean(difference)) if len(rows) else 0.0
    return PairedTest(mean, p, len(rows), len(sums))
