"""Sharpe ratios of trials whose blocks differ in width, against a computation per bar."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ktrdr_mcp.evaluation.blocks import block_sums
from ktrdr_mcp.evaluation.multiple_testing import overfitting
from ktrdr_mcp.schemas.results import TrialScores
from tests.support.sample_results import trial_scores

BARS = 9_600
TIME = np.arange(BARS, dtype=np.int64) * 3_600 * 10**9
WIDTHS = (16, 2, 4, 8, 16, 24, 48, 96, 128, 192)


def streams(seed: int) -> np.ndarray:
    """Net returns per bar of ten trials, of which the first earns something."""
    returns = np.random.default_rng(seed).normal(0, 0.01, (10, BARS))
    returns[0] += 0.0004
    return returns


def scores(returns: np.ndarray, width_bars: int) -> TrialScores:
    """What the trial log would keep of a trial with these net returns."""
    blocks = block_sums(returns, np.arange(BARS), TIME, width_bars)
    sums = {"timing_blocks": blocks.to_stored().to_json(), "net_sums": blocks.sums.tolist()}
    return trial_scores(trading=sums)


def deflated(returns: np.ndarray, widths: tuple[int, ...]) -> float:
    own, *others = (scores(each, width) for each, width in zip(returns, widths, strict=True))
    found = overfitting(own, others).deflated_sharpe
    assert found is not None
    return found


def sums(returns: np.ndarray, width: int) -> np.ndarray:
    return returns.reshape(-1, width).sum(axis=1)


def test_ratios_of_mixed_horizons_are_deflated_per_bar_as_an_independent_computation() -> None:
    returns = streams(0)
    ratios = []
    for each, width in zip(returns, WIDTHS, strict=True):
        block = sums(each, width)
        ratios.append(block.mean() / block.std(ddof=1) / math.sqrt(width))  # per bar
    own = sums(returns[0], 16)
    euler = 0.5772156649015329
    luck = (1 - euler) * stats.norm.ppf(0.9) + euler * stats.norm.ppf(1 - 1 / (10 * math.e))
    threshold = np.std(ratios, ddof=1) * luck * math.sqrt(16)  # per block of 16 bars
    ratio = own.mean() / own.std(ddof=1)
    factor = 1 - stats.skew(own) * ratio + (stats.kurtosis(own, fisher=False) - 1) / 4 * ratio**2
    expected = stats.norm.cdf((ratio - threshold) * math.sqrt((len(own) - 1) / factor))
    assert deflated(returns, WIDTHS) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_widths_of_other_trials_blocks_hardly_move_the_deflated_ratio(seed: int) -> None:
    returns = streams(seed)
    equal = deflated(returns, (16,) * 10)
    assert deflated(returns, WIDTHS) == pytest.approx(equal, abs=0.01)


def test_a_reproduction_leaves_the_probability_of_overfitting_as_it_was() -> None:
    one, *others = (scores(each, 16) for each in streams(1)[:4])
    before = overfitting(one, others)
    after = overfitting(one, [*others, one, others[0]])
    assert after.overfitting_probability == before.overfitting_probability
    assert overfitting(one, [one]).overfitting_probability is None
