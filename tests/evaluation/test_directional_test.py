"""The directional test against a plain loop, and what it must and must not see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ktrdr_mcp.evaluation.blocks import Floats
from ktrdr_mcp.evaluation.direction import (
    PredictedFold,
    ScoredRows,
    directional_test,
    directions_of,
    score_levels,
    scored_rows,
    scores_of,
)

TIME = np.arange(4_000, dtype=np.int64) * 3_600 * 10**9


TRAIN_ROWS = 240


def made_fold(first: int, score: Floats, direction: Floats, level: float = 0.03) -> ScoredRows:
    """A fold of consecutive rows, trained on the rows before them."""
    train = np.arange(max(first - TRAIN_ROWS, 0), max(first, 1))
    came = np.random.default_rng(first).choice([-1.0, 0.0, 1.0], len(train))
    at = np.arange(first, first + len(score))
    return ScoredRows(at, score, direction, np.full(len(score), level), train, came)


def random_fold(first: int, count: int, seed: int, skill: float = 0.0) -> ScoredRows:
    generator = np.random.default_rng(seed)
    direction = generator.choice([-1.0, 0.0, 1.0], count)
    score = np.clip(skill * direction + generator.normal(0, 0.3, count), -1, 1)
    return made_fold(first, score, direction)


def test_the_statistic_equals_a_plain_loop_over_rows_and_blocks() -> None:
    folds = [random_fold(240, 144, 0, 0.1), random_fold(384, 144, 1, 0.1)]
    result = directional_test(folds, TIME, horizon=8)
    newest = [*folds[1].train_direction, *folds[1].direction]
    mean = math.fsum(newest) / len(newest)
    sums: dict[int, float] = {}
    plain = 0.0
    for fold in folds:
        trained = math.fsum(fold.train_direction) / len(fold.train_at)
        total = math.fsum(fold.score - fold.level)
        for row, s, d in zip(fold.at, fold.score, fold.direction, strict=True):
            plain += (s - 0.03) * (d - trained)
            sums[int(row) // 48] = sums.get(int(row) // 48, 0.0) + (s - 0.03) * (d - mean)
        for row, d in zip(fold.train_at, fold.train_direction, strict=True):
            owed = total / len(fold.train_at) * (d - mean)
            sums[int(row) // 48] = sums.get(int(row) // 48, 0.0) - owed
    blocks = [sums[number] for number in sorted(sums)]
    size = math.sqrt(math.fsum(b * b for b in blocks))
    assert result.statistic == pytest.approx(math.fsum(blocks) / size, abs=1e-10)
    assert result.statistic == pytest.approx(plain / size, abs=1e-10), "the training means decide"
    assert np.allclose(result.blocks.sums, blocks)
    assert (result.rows, result.width_bars, len(result.blocks)) == (288, 48, 11)
    assert result.tested_blocks == 6
    assert result.blocks.start[0] == TIME[0]
    assert result.blocks.stop[-1] == TIME[527]


def test_the_level_is_the_mean_of_the_scores_before_each_row() -> None:
    generator = np.random.default_rng(3)
    validation, score = generator.normal(size=30), generator.normal(size=50)
    found = score_levels(validation, np.arange(30), score, np.arange(38, 88), 20)
    before = np.r_[validation, score]
    assert found == pytest.approx([before[max(30 + n - 20, 0) : 30 + n].mean() for n in range(50)])
    few = score_levels(validation[:5], np.arange(5), score, np.arange(13, 63), 20)
    assert few[0] == pytest.approx(validation[:5].mean())


def test_rows_of_several_series_share_the_level_of_their_time() -> None:
    generator = np.random.default_rng(4)
    validation, score = generator.normal(size=20), generator.normal(size=40)
    validation_at, at = np.arange(20) // 2, 10 + np.arange(40) // 2
    found = score_levels(validation, validation_at, score, at, 6)
    before = np.r_[validation, score]
    expected = [before[20 + n // 2 * 2 - 12 : 20 + n // 2 * 2].mean() for n in range(40)]
    assert found == pytest.approx(expected)


def test_a_shifted_level_of_the_scores_is_no_evidence() -> None:
    reached = 0
    for seed in range(150):
        generator = np.random.default_rng(seed)
        direction = np.repeat(generator.choice([-1.0, 1.0], 250), 8)
        score = np.convolve(generator.normal(size=2_020), np.ones(21) / 21, "valid") * 4
        fold = ScoredRows(
            np.arange(400, 2_000),
            score[400:] + 2.0,
            direction[400:],
            score_levels(
                score[200:400], np.arange(200, 400), score[400:] + 2, np.arange(400, 2_000), 480
            ),
            np.arange(200),
            direction[:200],
        )
        reached += directional_test([fold], TIME, horizon=8).p <= 0.02
    assert reached <= 9, "3 of 150 by chance; 30 where the level is that of the validation rows"


def test_directional_accuracy_counts_buy_and_sell_rows_only() -> None:
    fold = random_fold(0, 600, 3, 0.2)
    result = directional_test([fold], TIME, horizon=8)
    right = wrong = 0
    for s, d in zip(fold.score, fold.direction, strict=True):
        if d != 0 and s != 0.03:
            right += (s > 0.03) == (d > 0)
            wrong += (s > 0.03) != (d > 0)
    assert result.accuracy == pytest.approx(right / (right + wrong), abs=1e-12)
    assert 0.005 < result.accuracy_error < 0.1


def predicted_fold(
    probabilities: Floats, labels: np.ndarray, first: int, trained: int
) -> PredictedFold:
    """A fold of which the rows from `first` on are tested, and those from `trained` validate."""
    return PredictedFold(
        at=np.arange(first, len(labels)),
        probabilities=probabilities[first - trained :],
        labels=labels[first:],
        validation_at=np.arange(trained, first),
        validation_probabilities=probabilities[: first - trained],
        train_at=np.arange(trained),
        train_labels=labels[:trained],
    )


def test_the_means_come_from_earlier_rows() -> None:
    generator = np.random.default_rng(0)
    raw = generator.random((200, 3))
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    labels = generator.integers(0, 3, 300)
    fold = scored_rows(predicted_fold(probabilities, labels, 200, 100), horizon=8)
    score = probabilities[:, 0] - probabilities[:, 2]
    assert fold.level[0] == pytest.approx(score[:100].mean())
    assert fold.level[5] == pytest.approx(score[:105].mean())
    assert fold.mean_direction == pytest.approx(np.mean(1 - labels[:100]))
    assert fold.deviation()[5] == pytest.approx(score[105] - score[:105].mean())


def test_buy_hold_and_sell_are_plus_one_zero_and_minus_one() -> None:
    assert directions_of(np.array([0, 1, 2])).tolist() == [1, 0, -1]
    assert scores_of(np.array([[0.7, 0.2, 0.1]])) == pytest.approx([0.6])


def test_a_constant_score_is_no_evidence_and_is_said() -> None:
    direction = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 600)
    fold = made_fold(0, np.full(600, 0.2), direction, 0.2)
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
    fold = scored_rows(predicted_fold(probabilities, labels[:2_500], 1_300, 1_000), horizon=8)
    result = directional_test([fold], TIME, horizon=8)
    assert result.constant
    assert (result.statistic, result.p, result.accuracy) == (0.0, 1.0, 0.5)
    assert not result.blocks.sums.any()


def test_a_constant_fold_adds_nothing_to_the_others() -> None:
    living = random_fold(480, 480, 4, 0.2)
    direction = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 480)
    dead = made_fold(0, np.full(480, 0.1 + 0.2), direction, 0.3)
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
    result = directional_test([made_fold(0, wide, direction, 0.0)], TIME, horizon=8)
    assert result.p > 0.02


def test_a_weak_score_is_found_on_enough_rows() -> None:
    result = directional_test([random_fold(0, 3_000, 5, 0.03)], TIME, horizon=8)
    assert result.p <= 0.02


def test_rows_of_several_series_at_one_time_are_summed_into_one_block() -> None:
    one, other = random_fold(240, 480, 5, 0.1), random_fold(240, 480, 6, 0.1)
    order = np.argsort(np.concatenate([one.at, other.at]), kind="stable")
    together = ScoredRows(
        np.concatenate([one.at, other.at])[order],
        np.concatenate([one.score, other.score])[order],
        np.concatenate([one.direction, other.direction])[order],
        np.concatenate([one.level, other.level])[order],
        one.train_at,
        one.train_direction,
    )
    found = directional_test([together], TIME, horizon=8)
    mean = np.concatenate([one.train_direction, one.direction, other.direction]).mean()
    by_row = [fold.deviation() * (fold.direction - mean) for fold in (one, other)]
    assert (found.rows, found.width_bars) == (960, 48)
    assert found.blocks.sums[5:] == pytest.approx(sum(by_row).reshape(10, 48).sum(axis=1))
