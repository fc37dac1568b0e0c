"""Comparing two trials block by block, whatever their horizons."""

from __future__ import annotations

import numpy as np
import pytest

from ktrdr_mcp.evaluation.blocks import block_sums
from ktrdr_mcp.evaluation.compare import difference, meaning
from ktrdr_mcp.evaluation.direction import sign_flip_p
from ktrdr_mcp.schemas.results import TrialScores
from tests.support.sample_results import trial_scores

HOUR_NS = 3_600 * 10**9
BARS = 2_400
TIME = np.arange(BARS, dtype=np.int64) * HOUR_NS


def scores(
    values: np.ndarray, width_bars: int, constant: bool = False, first: int = 0
) -> TrialScores:
    """What the trial log would keep of a trial with these products from some bar on."""
    blocks = block_sums(values[first:], np.arange(first, BARS), TIME, width_bars)
    return trial_scores(direction={"blocks": blocks.to_stored().to_json(), "constant": constant})


@pytest.mark.parametrize("widths", [(12, 96), (96, 12), (24, 24)])
def test_the_same_predictions_are_no_better_under_another_horizon(widths) -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, BARS)
    found = difference(scores(values, widths[0]), scores(values, widths[1]))
    assert found is not None
    assert (found.statistic, found.p) == pytest.approx((0.0, 1.0))
    assert found.common_blocks == BARS // max(widths)


@pytest.mark.parametrize("widths", [(12, 96), (96, 12), (24, 24)])
def test_the_better_one_is_named_whichever_comes_first(widths) -> None:
    noise = np.random.default_rng(4).normal(0.0, 1.0, BARS)
    good, poor = scores(noise + 0.5, widths[0]), scores(-noise, widths[1])
    one, other = difference(good, poor), difference(poor, good)
    assert one is not None
    assert other is not None
    assert one.statistic > 0 > other.statistic
    assert one.p == pytest.approx(other.p)
    assert one.p < 0.05


@pytest.mark.parametrize("left_over", [0.0, 1e-17])
@pytest.mark.parametrize("first", [0, 1_200])
def test_a_constant_model_is_compared_as_one_that_foresees_nothing(first, left_over) -> None:
    generator = np.random.default_rng(5)
    rounding = left_over * generator.normal(size=BARS)  # between a constant and its mean
    constant = scores(rounding, 24, constant=True, first=first)
    values = generator.normal(0.5, 1.0, BARS)
    good = scores(values, 24)
    found = difference(constant, good)
    assert found is not None
    assert found.common_blocks == (BARS - first) // 24
    blocks = values[first:].reshape(-1, 24).sum(axis=1)
    assert found.statistic == pytest.approx(-blocks.sum() / np.linalg.norm(blocks))
    assert found.p == pytest.approx(2 * sign_flip_p(blocks, 0), abs=0.002)
    assert meaning(found).startswith("The first gives every row the same answer")
    assert meaning(found).endswith("The second foresees more on the same time.")
    assert "The second gives every row" in meaning(difference(good, constant))


def test_two_constant_models_foresee_nothing_and_do_not_differ() -> None:
    constant = scores(np.zeros(BARS), 24, constant=True)
    found = difference(constant, constant)
    assert found is not None
    assert (found.statistic, found.p) == (0.0, 1.0)
    assert meaning(found).startswith("Both give every row the same answer")


def test_blocks_that_sum_to_nothing_are_time_that_was_tested() -> None:
    values = np.random.default_rng(6).normal(0.3, 1.0, BARS)
    quiet = values.copy()
    quiet[:240] = 0.0
    found = difference(scores(quiet, 24), scores(values, 24))
    assert found is not None
    assert found.common_blocks == BARS // 24


def test_trials_on_other_times_are_said_to_have_none_in_common() -> None:
    values = np.random.default_rng(7).normal(0.3, 1.0, BARS)
    late = scores(values, 24, first=1_200)
    early = block_sums(values[:1_200], np.arange(1_200), TIME, 24)
    found = difference(trial_scores(direction={"blocks": early.to_stored().to_json()}), late)
    assert found is None
    assert meaning(found).startswith("They tested no time in common")
