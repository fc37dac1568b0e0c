"""The directional test against a plain loop, and what it must and must not see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ktrdr_mcp.evaluation.direction import (
    ScoredRows,
    directional_test,
    directions_of,
    scored_rows,
    scores_of,
)

TIME = np.arange(4_000, dtype=np.int64) * 3_600 * 10**9


def random_fold(first: int, count: int, seed: int, skill: float = 0.0) -> ScoredRows:
    generator = np.random.default_rng(seed)
    direction = generator.choice([-1.0, 0.0, 1.0], count)
    score = np.clip(skill * direction + generator.normal(0, 0.3, count), -1, 1)
    return ScoredRows(np.arange(first, first + count), score, direction, 0.03, -0.02)


def test_the_statistic_equals_a_plain_loop_over_rows_and_blocks() -> None:
    folds = [random_fold(240, 120, 0, 0.1), random_fold(360, 120, 1, 0.1)]
    result = directional_test(folds, TIME, horizon=8)
    sums: dict[int, float] = {}
    for fold in folds:
        for row, s, d in zip(fold.at, fold.score, fold.direction, strict=True):
            product = (s - fold.mean_score) * (d - fold.mean_direction)
            sums[int(row) // 24] = sums.get(int(row) // 24, 0.0) + product
    blocks = list(sums.values())
    expected = math.fsum(blocks) / math.sqrt(math.fsum(b * b for b in blocks))
    assert result.statistic == pytest.approx(expected, abs=1e-10)
    assert np.allclose(result.blocks.sums, blocks)
    assert (result.rows, result.width_bars, len(result.blocks)) == (240, 24, 10)
    assert result.blocks.start[0] == TIME[240]
    assert result.blocks.stop[-1] == TIME[479]


def test_directional_accuracy_counts_buy_and_sell_rows_only() -> None:
    fold = random_fold(0, 600, 3, 0.2)
    result = directional_test([fold], TIME, horizon=8)
    right = wrong = 0
    for s, d in zip(fold.score, fold.direction, strict=True):
        if d != 0 and s != fold.mean_score:
            right += (s > fold.mean_score) == (d > 0)
            wrong += (s > fold.mean_score) != (d > 0)
    assert result.accuracy == pytest.approx(right / (right + wrong), abs=1e-12)
    assert 0.005 < result.accuracy_error < 0.1


def test_the_means_come_from_earlier_rows() -> None:
    generator = np.random.default_rng(0)
    raw = generator.random((200, 3))
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    labels = generator.integers(0, 3, 300)
    fold = scored_rows(
        np.arange(200, 300), probabilities[100:], labels[200:], probabilities[:100], labels[:100]
    )
    assert fold.mean_score == pytest.approx(
        (probabilities[:100, 0] - probabilities[:100, 2]).mean()
    )
    assert fold.mean_direction == pytest.approx(np.mean(1 - labels[:100]))
    assert fold.product()[5] == pytest.approx(
        (probabilities[105, 0] - probabilities[105, 2] - fold.mean_score)
        * (1 - labels[205] - fold.mean_direction)
    )


def test_buy_hold_and_sell_are_plus_one_zero_and_minus_one() -> None:
    assert directions_of(np.array([0, 1, 2])).tolist() == [1, 0, -1]
    assert scores_of(np.array([[0.7, 0.2, 0.1]])) == pytest.approx([0.6])


def test_a_constant_score_is_no_evidence_and_is_said() -> None:
    direction = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 600)
    fold = ScoredRows(np.arange(600), np.full(600, 0.2), direction, 0.2, 0.0)
    result = directional_test([fold], TIME, horizon=8)
    assert result.constant
    assert (result.statistic, result.p, result.accuracy) == (0.0, 1.0, 0.5)
    assert result.accuracy_error > 0


@pytest.mark.parametrize("number", range(20))
def test_rounding_in_the_mean_of_a_constant_output_is_no_evidence(number: int) -> None:
    generator = np.random.default_rng(number)
    one = generator.random(3)
    probabilities = np.tile(one / one.sum(), (1_500, 1))
    labels = generator.choice(3, 3_000, p=[0.4, 0.33, 0.27])  # buy is foreseen too seldom
    labels[:1_000] = generator.integers(0, 3, 1_000)
    tested = np.arange(1_500, 2_700)
    fold = scored_rows(
        tested, probabilities[300:], labels[tested], probabilities[:300], labels[:1_000]
    )
    result = directional_test([fold], TIME, horizon=8)
    assert result.constant
    assert (result.statistic, result.p, result.accuracy) == (0.0, 1.0, 0.5)
    assert not result.blocks.sums.any()


def test_a_constant_fold_adds_nothing_to_the_others() -> None:
    living = random_fold(480, 480, 4, 0.2)
    direction = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 480)
    dead = ScoredRows(np.arange(480), np.full(480, 0.1 + 0.2), direction, 0.3, 0.1)
    alone = directional_test([living], TIME, horizon=8)
    both = directional_test([dead, living], TIME, horizon=8)
    assert not both.constant
    assert both.statistic == pytest.approx(alone.statistic, abs=1e-12)
    directed = np.count_nonzero(direction), np.count_nonzero(living.direction)
    assert both.accuracy == pytest.approx(np.average([0.5, alone.accuracy], weights=directed))


def test_no_rows_are_no_evidence() -> None:
    result = directional_test([], TIME, horizon=8)
    assert (result.p, result.rows, len(result.blocks), result.accuracy) == (1.0, 0, 0, None)


def test_predicting_volatility_is_not_direction() -> None:
    generator = np.random.default_rng(2)
    busy = np.repeat(generator.random(100) < 0.5, 24)
    moved = np.where(busy, generator.random(2_400) < 0.9, generator.random(2_400) < 0.1)
    direction = moved * generator.choice([-1.0, 1.0], 2_400)
    wide = np.where(busy, 0.4, 0.05) * generator.choice([-1.0, 1.0], 2_400)
    result = directional_test(
        [ScoredRows(np.arange(2_400), wide, direction, 0.0, 0.0)], TIME, horizon=8
    )
    assert result.p > 0.02


def test_a_weak_score_is_found_on_enough_rows() -> None:
    result = directional_test([random_fold(0, 3_000, 5, 0.03)], TIME, horizon=8)
    assert result.p <= 0.02


def test_rows_of_several_series_at_one_time_are_summed_into_one_block() -> None:
    one, other = random_fold(0, 480, 5, 0.1), random_fold(0, 480, 6, 0.1)
    order = np.argsort(np.concatenate([one.at, other.at]), kind="stable")
    together = ScoredRows(
        np.concatenate([one.at, other.at])[order],
        np.concatenate([one.score, other.score])[order],
        np.concatenate([one.direction, other.direction])[order],
        one.mean_score,
        one.mean_direction,
    )
    found = directional_test([together], TIME, horizon=8)
    each = [directional_test([fold], TIME, horizon=8).blocks.sums for fold in (one, other)]
    assert (found.rows, found.width_bars) == (960, 24)
    assert found.blocks.sums == pytest.approx(each[0] + each[1])
