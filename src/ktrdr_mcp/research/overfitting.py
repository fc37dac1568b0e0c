"""What choosing among a family's trials does to their Sharpe ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ktrdr_mcp.learn.judge.blocks import BlockSums, Floats
from ktrdr_mcp.learn.judge.family import on_shared_cells
from ktrdr_mcp.learn.judge.overfitting import deflated_sharpe, overfitting_probability
from ktrdr_mcp.learn.judge.sharpe import sharpe_ratio

Scores = Mapping[str, Any]


def overfitting(own: Scores, others: Sequence[Scores | None]) -> dict[str, Any]:
    """Deflated Sharpe ratio and probability of backtest overfitting, on sums of net returns.

    Blocks are as wide as each trial's labels reach, so every ratio is brought to the width of the
    trial's own before they are set beside one another.

    Args:
        own: the trial's scores.
        others: those of the family's other trials; None for one without a result.
    Returns:
        "deflated_sharpe", the probability that the true Sharpe ratio is above what the best of as
        many trials reaches by luck; "overfitting_probability", how often the best half in sample is
        below the median out of it; "trials". None where there is too little to compute it from.
    """
    scored = [each for each in others if each is not None]
    trial = net_blocks(own)
    trials = 1 + len(others)
    blocks = [trial, *(net_blocks(each) for each in scored)]
    known = sharpes_per_block(trial, blocks) if len(trial) > 1 else np.empty(0)
    deflated = deflated_sharpe(trial.sums, known, trials) if len(trial) > 1 else None
    sums = on_shared_cells(trial, blocks[1:]) if len(trial) else None
    return {
        "deflated_sharpe": deflated,
        "overfitting_probability": (
            overfitting_probability(sums[:, : len(trial)].T) if sums is not None else None
        ),
        "trials": trials,
    }


def sharpes_per_block(trial: BlockSums, blocks: Sequence[BlockSums]) -> Floats:
    """float64[k], Sharpe ratios of trials per block of one of them, where they have one.

    SR(w) = SR(v) sqrt(w / v) for blocks of w and v that follow one another independently.

    Args:
        trial: whose blocks are the unit of time; it has at least two.
        blocks: sums of net returns of the trials.
    Source:
        A. Lo, The Statistics of Sharpe Ratios, 2002, on time aggregation.
    """
    unit = block_ns(trial)
    return np.array(
        [
            ratio * math.sqrt(unit / block_ns(each))
            for each in blocks
            if (ratio := sharpe_ratio(each.sums)) is not None
        ]
    )


def block_ns(blocks: BlockSums) -> float:
    """The mean width of at least two blocks, in nanoseconds, the last one's last bar included."""
    bar = int((blocks.start[1:] - blocks.stop[:-1]).min())
    return (int(blocks.stop[-1] - blocks.start[0]) + bar) / len(blocks)


def net_blocks(scores: Scores) -> BlockSums:
    """A trial's sums of net returns over its blocks."""
    trading = scores["trading"]
    blocks = BlockSums.from_dict(trading["timing_blocks"])
    return replace(blocks, sums=np.array(trading["net_sums"], dtype=np.float64))
