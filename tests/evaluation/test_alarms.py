"""Each alarm is silent on honest noise and hears the leak that it is for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.honesty.series import NOISE
from ktrdr_mcp.evaluation.alarms import data_alarms, half_spread_bound, has_unit_root, result_alarms

COST = 5.0


def alarms(opening, close, volume) -> set[str]:
    return {each.name for each in data_alarms(opening, close, volume, COST, 0)}


def noise(seed: int, count: int = 4_000):
    bars = list(NOISE.values())[seed % len(NOISE)](count, seed)
    volume = np.random.default_rng(seed).lognormal(size=len(bars))
    return bars.open, bars.close, volume


def test_honest_noise_raises_an_alarm_about_the_bars_in_one_of_fifty_at_most() -> None:
    raised = [alarms(*noise(seed)) for seed in range(100)]
    assert sum(map(bool, raised)) <= 4  # 2 of 100 by chance


@pytest.mark.parametrize("seed", [0, 1, 5, 9])
def test_each_planted_leak_is_heard(seed: int) -> None:
    opening, close, volume = noise(seed)
    moves = np.diff(np.log(opening))
    after = np.r_[moves[1:], 0.0, 0.0]  # the move that begins at the next opening
    telling = volume * np.exp(0.8 * after / after.std())
    assert "foretelling_column" in alarms(opening, close, telling)
    assert "foretelling_close" in alarms(opening, np.r_[close[1:], close[-1:]], volume)
    averaged = np.convolve(np.r_[close[0], close, close[-1]], np.ones(3) / 3, "valid")
    assert "foretelling_close" in alarms(opening, averaged, volume)
    sides = np.random.default_rng(seed).choice([-1, 1], len(opening))
    ended = close * np.exp(25e-4 * sides)
    bounced = np.r_[opening[:1], opening[1:] * np.exp(25e-4 * sides[:-1])]  # the same print
    assert "half_spread" in alarms(bounced, ended, volume)
    assert 12 < half_spread_bound(bounced, ended) < 31


def test_openings_that_bounce_where_no_signal_knows_it_raise_no_alarm() -> None:
    opening, close, volume = noise(1)
    sides = np.random.default_rng(1).choice([-1, 1], len(opening))
    bounced = opening * np.exp(25e-4 * sides)  # each by itself, whatever the bar before ended at
    assert half_spread_bound(bounced, close) < 12
    assert "half_spread" not in alarms(bounced, close, volume)


def test_a_result_near_what_is_possible_asks_for_a_check() -> None:
    assert not list(result_alarms(3.0, 62, 2.0, None))
    assert [each.name for each in result_alarms(7.0, 62, 9.0, 0.5)] == ["near_maximum", "sharpe"]
    assert not any(each.of_data for each in result_alarms(7.0, 62, 9.0, 0.5))


@pytest.mark.parametrize("held", [9.3, -9.3])
def test_a_sharpe_ratio_that_holding_has_too_asks_for_no_check(held: float) -> None:
    assert not list(result_alarms(3.0, 62, 12.0, held))
    assert [each.name for each in result_alarms(3.0, 62, 20.0, held)] == ["sharpe"]


def test_a_walk_has_a_unit_root_and_what_returns_has_none() -> None:
    generator = np.random.default_rng(0)
    walks = [has_unit_root(np.cumsum(generator.normal(size=1_500))) for _ in range(60)]
    assert sum(walks) >= 50
    returning = np.zeros((40, 1_500))
    for t in range(1, 1_500):
        returning[:, t] = 0.95 * returning[:, t - 1] + generator.normal(size=40)
    assert not any(has_unit_root(each) for each in returning)
    assert not has_unit_root(np.ones(1_500))
