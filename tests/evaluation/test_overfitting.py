"""Deflated Sharpe ratio and probability of overfitting against plain computations."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ktrdr_mcp.evaluation.multiple_testing import (
    deflated_sharpe,
    expected_best_sharpe,
    overfitting_probability,
)


@pytest.mark.parametrize("seed", range(5))
def test_the_deflated_sharpe_ratio_equals_an_independent_computation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    returns = generator.standard_t(5, 400) * 0.01 + 0.001
    sharpes = generator.normal(0, 0.05, 30)
    ratio = returns.mean() / returns.std(ddof=1)
    euler = 0.5772156649015329
    high, higher = stats.norm.ppf(1 - 1 / 40), stats.norm.ppf(1 - 1 / (40 * math.e))
    threshold = sharpes.std(ddof=1) * ((1 - euler) * high + euler * higher)
    skewness, kurtosis = stats.skew(returns), stats.kurtosis(returns, fisher=False)
    spread = math.sqrt(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2)
    expected = stats.norm.cdf((ratio - threshold) * math.sqrt(399) / spread)
    assert deflated_sharpe(returns, sharpes, 40) == pytest.approx(expected, abs=1e-8)


def test_the_expected_best_is_near_the_mean_of_the_largest_of_n() -> None:
    draws = np.random.default_rng(0).normal(0, 0.1, (20_000, 50)).max(axis=1)
    assert expected_best_sharpe(0.01, 50) == pytest.approx(draws.mean(), rel=0.02)
    assert expected_best_sharpe(0.01, 1) == 0.0


def test_one_trial_is_not_deflated_and_constant_returns_have_none() -> None:
    returns = np.random.default_rng(0).normal(0.001, 0.01, 300)
    ratio = returns.mean() / returns.std(ddof=1)
    found = deflated_sharpe(returns, np.array([ratio]), 1)
    assert found is not None
    assert found == pytest.approx(stats.norm.cdf(ratio * math.sqrt(299)), abs=0.02)
    assert deflated_sharpe(np.zeros(50), np.array([0.0]), 1) is None


def plain_pbo(returns: np.ndarray, parts: int) -> float:
    rows, configurations = returns.shape
    edges = [rows * part // parts for part in range(parts + 1)]
    below = total = 0
    for chosen in combinations(range(parts), parts // 2):
        inside = [r for p in chosen for r in range(edges[p], edges[p + 1])]
        outside = sorted(set(range(rows)) - set(inside))
        a, b = returns[inside], returns[outside]
        best = int(np.argmax(a.mean(axis=0) / a.std(axis=0, ddof=1)))
        ranks = stats.rankdata(b.mean(axis=0) / b.std(axis=0, ddof=1))
        share = ranks[best] / (configurations + 1)
        below += math.log(share / (1 - share)) <= 0
        total += 1
    return below / total


@pytest.mark.parametrize("shape", [(160, 7), (203, 12), (64, 2)])
def test_the_probability_of_overfitting_equals_a_plain_computation(shape: tuple[int, int]) -> None:
    returns = np.random.default_rng(sum(shape)).normal(0.0005, 0.01, shape)
    assert overfitting_probability(returns, 8) == pytest.approx(plain_pbo(returns, 8), abs=1e-8)


def test_sixteen_parts_are_judged_whole() -> None:
    returns = np.random.default_rng(3).normal(0, 0.01, (480, 20))
    found = overfitting_probability(returns)
    assert found is not None
    assert 0 < found < 1
    returns[:, 4] += 0.01
    assert overfitting_probability(returns) == 0.0


def test_too_little_to_choose_from_has_no_probability() -> None:
    assert overfitting_probability(np.zeros((100, 1))) is None
    assert overfitting_probability(np.zeros((3, 5))) is None
    with pytest.raises(ValueError, match="halved"):
        overfitting_probability(np.zeros((100, 3)), 7)


def test_configurations_without_variance_break_nothing() -> None:
    returns = np.random.default_rng(1).normal(0, 0.01, (60, 3))
    returns[:, 0] = 0.0
    assert overfitting_probability(returns, 6) is not None
    assert overfitting_probability(np.zeros((60, 3)), 6) is None


@pytest.mark.parametrize("rounding", [0.0, 1e-16])
def test_a_configuration_that_is_there_twice_is_no_choice(rounding: float) -> None:
    returns = np.random.default_rng(8).normal(0.0005, 0.01, (160, 7))
    again = returns[:, [2, 5, 2]] + rounding
    found = overfitting_probability(np.hstack([returns, again]), 8)
    assert found == pytest.approx(plain_pbo(returns, 8), abs=1e-8)
    assert overfitting_probability(np.hstack([returns[:, :1], returns[:, :1] + rounding])) is None
