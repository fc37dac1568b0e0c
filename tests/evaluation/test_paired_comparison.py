"""The paired block test: sees a real difference, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from ktrdr_mcp.evaluation.baselines import paired_block_test

TIME = np.arange(3_000, dtype=np.int64)
ROWS = np.arange(100, 2_500)


def test_a_clear_difference_is_found_and_has_no_side() -> None:
    generator = np.random.default_rng(0)
    better = (generator.random(len(ROWS)) < 0.6).astype(float)
    worse = (generator.random(len(ROWS)) < 0.5).astype(float)
    found = paired_block_test(better, worse, ROWS, TIME, horizon=8)
    back = paired_block_test(worse, better, ROWS, TIME, horizon=8)
    assert found.p < 0.01
    assert found.mean_difference == pytest.approx((better - worse).mean())
    assert back.p == pytest.approx(found.p, abs=0.002)
    assert back.mean_difference == -found.mean_difference
    assert (found.rows, found.blocks) == (2_400, 100)


def test_equal_models_do_not_differ() -> None:
    right = np.ones(len(ROWS))
    assert paired_block_test(right, right, ROWS, TIME, horizon=8).p == 1.0
    none = np.empty(0)
    assert paired_block_test(none, none, np.empty(0, np.int64), TIME, horizon=8).p == 1.0


def test_luck_is_called_a_difference_as_rarely_as_promised() -> None:
    generator = np.random.default_rng(1)
    found = [
        paired_block_test(*generator.normal(size=(2, 480)), ROWS[:480], TIME, horizon=8).p
        for _ in range(300)
    ]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.035)
