"""The family: shared calendar cells, the largest T by luck, trials without scores."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from ktrdr_mcp.evaluation.blocks import BlockSums, Floats, block_sums
from ktrdr_mcp.evaluation.direction import sign_flip_p
from ktrdr_mcp.evaluation.multiple_testing import cells_of, judge_in_family, on_shared_cells

HOUR = 3_600 * 10**9


def trial(sums: Floats, width_hours: int = 24, first_hour: int = 0) -> BlockSums:
    start = (first_hour + width_hours * np.arange(len(sums), dtype=np.int64)) * HOUR
    return BlockSums(start, start + (width_hours - 1) * HOUR, np.asarray(sums, dtype=np.float64))


def normal(seed: int, count: int = 40, mean: float = 0.0) -> Floats:
    return np.random.default_rng(seed).normal(mean, 1, count)


def test_alone_the_adjusted_p_is_the_p() -> None:
    for count in (9, 40):
        one = trial(normal(0, count, 0.3))
        judged = judge_in_family(one, [])
        assert judged.adjusted_p == judged.p == sign_flip_p(one.sums, 0)
        assert judged.trials == 1
        assert judged.luck_mean == pytest.approx(0, abs=0.06)


def test_the_joint_p_equals_a_plain_enumeration() -> None:
    mine, theirs, finer = normal(1, 6, 0.5), normal(2, 6), normal(3, 12)
    judged = judge_in_family(trial(mine), [trial(theirs), trial(finer, width_hours=12)])
    merged = finer.reshape(6, 2).sum(axis=1)
    rows = [row / math.sqrt(sum(row**2)) for row in (mine, theirs, merged)]
    best = [max(float(np.dot(s, row)) for row in rows) for s in product((1, -1), repeat=6)]
    observed = rows[0].sum()
    assert judged.adjusted_p == pytest.approx(np.mean([b >= observed - 1e-9 for b in best]))
    assert judged.luck_mean == pytest.approx(np.mean(best))
    assert judged.luck_upper == pytest.approx(np.quantile(best, 0.95))


def test_identical_trials_cost_nothing_and_independent_ones_cost_as_many_as_there_are() -> None:
    mine = trial(normal(4, 60, 0.3))
    same = judge_in_family(mine, [mine] * 20)
    assert same.adjusted_p == same.p
    others = [trial(normal(100 + k, 60)) for k in range(20)]
    apart = judge_in_family(mine, others)
    assert apart.trials == 21
    assert apart.adjusted_p == pytest.approx(1 - (1 - apart.p) ** 21, abs=0.1)
    assert apart.luck_mean > 1.5 > same.luck_mean


def test_trials_without_scores_count_as_independent() -> None:
    mine = trial(normal(5, 60, 0.2))
    alone = judge_in_family(mine, [])
    judged = judge_in_family(mine, [], missing=10)
    assert judged.adjusted_p == pytest.approx(1 - (1 - alone.p) ** 11, abs=1e-12)
    assert judged.trials == 11
    with_scores = judge_in_family(mine, [trial(normal(k, 60)) for k in range(10)])
    assert judged.luck_mean == pytest.approx(with_scores.luck_mean, abs=0.1)
    assert judged.luck_upper == pytest.approx(with_scores.luck_upper, abs=0.25)
    assert judged.critical >= judged.luck_upper


def test_many_failed_trials_do_not_bury_an_overwhelming_one() -> None:
    assert judge_in_family(trial(normal(6, 100, 1.0)), [], missing=300).adjusted_p <= 0.02


def test_each_further_trial_makes_the_adjusted_p_no_smaller() -> None:
    mine = trial(normal(7, 40, 0.3))
    others = [trial(normal(200 + k)) for k in range(12)]
    found = [judge_in_family(mine, others[:k]).adjusted_p for k in range(13)]
    assert found == sorted(found)
    assert found[0] >= sign_flip_p(mine.sums, 0)


def test_a_p_from_elsewhere_is_never_undercut() -> None:
    mine = trial(np.ones(30))
    assert judge_in_family(mine, [], own_p=0.3).adjusted_p == 0.3
    assert judge_in_family(mine, [], missing=2, own_p=0.3).adjusted_p == pytest.approx(
        1 - (1 - 1 / 5_000) * 0.7**2
    )


def test_blocks_take_the_cell_in_which_their_middle_lies() -> None:
    mine = trial(np.ones(4), width_hours=24, first_hour=240)
    finer = trial(np.ones(12), width_hours=8, first_hour=240)
    assert cells_of(mine, finer).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    wide = trial(np.ones(10), width_hours=48, first_hour=0)
    cells = cells_of(mine, wide).tolist()
    assert len(set(cells)) == 10, "a coarser trial keeps one sign for each of its blocks"
    assert cells == sorted(cells)
    assert sum(0 <= cell < 4 for cell in cells) == 2


def test_a_trial_with_a_huge_horizon_does_not_dissolve_the_family() -> None:
    mine = trial(normal(8, 50, 0.6))
    huge = trial(np.array([1.0]), width_hours=24 * 50)
    assert judge_in_family(mine, [huge]).adjusted_p < 0.01


def test_shared_cells_keep_every_trials_total() -> None:
    mine = trial(normal(9, 20), first_hour=480)
    others = [trial(normal(10, 70), 24, 0), trial(normal(11, 33), 30, 77), trial(np.empty(0))]
    shared = on_shared_cells(mine, others)
    assert np.array_equal(shared[0, :20], mine.sums)
    for row, each in zip(shared, [mine, *others], strict=True):
        assert row.sum() == pytest.approx(each.sums.sum())


def test_an_empty_trial_is_no_evidence() -> None:
    judged = judge_in_family(trial(np.empty(0)), [trial(normal(0))], missing=1)
    assert (judged.adjusted_p, judged.trials) == (1.0, 3)


def test_trials_of_another_horizon_share_signs_on_the_same_bars() -> None:
    generator = np.random.default_rng(12)
    time = np.arange(1_000, dtype=np.int64) * HOUR
    values = generator.normal(size=1_000)
    narrow = block_sums(values, np.arange(1_000), time, 24)
    wide = block_sums(values, np.arange(1_000), time, 48)
    judged = judge_in_family(wide, [narrow])
    assert judged.adjusted_p == judged.p
