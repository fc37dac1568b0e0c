"""What choosing among a family's trials does to their Sharpe ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ktrdr_mcp.learn.judge.blocks import BlockSums
from ktrdr_mcp.learn.judge.family import on_shared_cells
from ktrdr_mcp.learn.judge.overfitting import deflated_sharpe, overfitting_probability
from ktrdr_mcp.learn.judge.sharpe import sharpe_ratio

Scores = Mapping[str, Any]


def overfitting(own: Scores, others: Sequence[Scores | None]) -> dict[str, Any]:
    """Deflated Sharpe ratio and probability of backtest overfitting, on sums of net returns.

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
    ratios = [sharpe_ratio(net_blocks(each).sums) for each in (own, *scored)]
    known = np.array([ratio for ratio in ratios if ratio is not None])
    trials = 1 + len(others)
    deflated = deflated_sharpe(trial.sums, known, trials) if len(trial) > 1 else None
    sums = on_shared_cells(trial, [net_blocks(each) for each in scored]) if len(trial) else None
    return {
        "deflated_sharpe": deflated,
        "overfitting_probability": (
            overfitting_probability(sums[:, : len(trial)].T) if sums is not None else None
        ),
        "trials": trials,
    }


def net_blocks(scores: Scores) -> BlockSums:
    """A trial's sums of net returns over its blocks."""
    trading = scores["trading"]
    blocks = BlockSums.from_dict(trading["timing_blocks"])
    return replace(blocks, sums=np.array(trading["net_sums"], dtype=np.float64))
