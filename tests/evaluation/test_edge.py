"""The size of an edge against plain counting, and its interval against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ktrdr_mcp.evaluation.edge import (
    break_even_accuracy,
    directional_edge,
    ratio_interval,
    student_quantile,
)

TIME = np.arange(6_000, dtype=np.int64)


def test_a_ratio_is_that_of_the_sums() -> None:
    found = ratio_interval(np.r_[1.0, 3.0, 2.0, 4.0], np.ones(4), np.arange(4), TIME, 2)
    assert found is not None
    assert found.value == 2.5
    error = np.sqrt(2 * (1.0 + 1.0)) / 4  # sums of 4 and 6 over two rows each
    assert found.high - 2.5 == pytest.approx(student_quantile(0.975, 1) * error)


def test_the_interval_holds_the_truth_in_95_of_100() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        steps = np.repeat(generator.normal(1, 1, 200), 8)  # alike within eight rows
        found = ratio_interval(steps, np.ones(1_600), np.arange(1_600), TIME, 32)
        assert found is not None
        inside += found.low <= 1 <= found.high
    assert inside / 400 == pytest.approx(0.95, abs=0.035)


def test_rows_on_which_nothing_came_do_not_count_and_a_level_score_is_half_right() -> None:
    deviation = np.r_[1.0, -1.0, 1.0, 0.0, 1.0, 1.0]
    direction = np.r_[1.0, -1.0, -1.0, 1.0, 0.0, 1.0]
    found = directional_edge(deviation, direction, np.arange(6), TIME, 3)
    assert found is not None
    (accuracy, _, _), base_rate = found
    assert accuracy == pytest.approx(3.5 / 5)
    long, up = 3.5 / 5, 3 / 5
    assert base_rate == pytest.approx(long * up + (1 - long) * (1 - up))


def test_nothing_that_came_has_no_edge() -> None:
    assert directional_edge(np.ones(9), np.zeros(9), np.arange(9), TIME, 3) is None


@pytest.mark.parametrize("freedom", [5, 12, 60])
def test_the_quantiles_are_those_of_students_t(freedom: int) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.01)


def test_the_break_even_accuracy_pays_for_entry_and_exit() -> None:
    moves = np.r_[0.01, -0.01, 0.02, -0.02]
    accuracy = break_even_accuracy(moves, 10.0)
    assert (2 * accuracy - 1) * 0.015 == pytest.approx(2 * 10e-4)
    assert break_even_accuracy(moves, 0.1) == 0.52
    assert break_even_accuracy(np.zeros(3), 5.0) == 1.0
