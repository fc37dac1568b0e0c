"""Levels across families are small: as many signs are drawn as tell a p from them."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.direction import FLIPS, sign_vectors, statistic
from ktrdr_mcp.evaluation.multiple_testing import (
    MOST_FLIPS,
    EarlierTrials,
    FamilyJudgement,
    Stream,
    judge_in_family,
    level_of_trial,
)

DAY = 86_400 * 10**9


def trial(sums: list[float]) -> BlockSums:
    start = np.arange(len(sums), dtype=np.int64) * DAY
    return BlockSums(start, start + DAY - 1, np.asarray(sums, dtype=np.float64))


def coins(blocks: int, against: int) -> BlockSums:
    """Blocks of one size, so many of them against the trial: p is a sum of binomials."""
    return trial([-1.0] * against + [1.0] * (blocks - against))


def exact_p(blocks: int, against: int) -> float:
    """The chance that no more of so many coins show tails."""
    return sum(math.comb(blocks, tails) for tails in range(against + 1)) / 2**blocks


def judged(one: BlockSums, place: int, **more: int) -> tuple[FamilyJudgement, EarlierTrials]:
    """A trial of a family at a place of the stream, and what it is judged beside."""
    earlier = EarlierTrials(missing=more.get("missing", 0), stream=Stream(place))
    found = judge_in_family(
        one, [], earlier.missing, level=earlier.level, level_across=earlier.level_across
    )
    return found, earlier


@pytest.mark.parametrize("place", [2, 5, 12, 13, 37, 70])
@pytest.mark.parametrize("blocks", [40, 61])
def test_a_claim_holds_across_where_the_exact_p_is_below_the_level(place, blocks) -> None:
    decided = set()
    for against in range(blocks // 2):
        found, earlier = judged(coins(blocks, against), place)
        exact, asked = exact_p(blocks, against), earlier.level_across
        above = math.sqrt(MOST_FLIPS * exact) - math.sqrt(MOST_FLIPS * asked)
        if exact < asked / 20 or above > 2:  # four standard deviations of a count's root
            assert (found.adjusted_p <= asked) == (exact <= asked), against
            decided.add(exact <= asked)
    assert decided == {True, False}


@pytest.mark.parametrize(("place", "holds"), [(12, True), (13, True), (37, True), (100, False)])
def test_a_large_planted_effect_holds_as_far_as_signs_can_tell(place: int, holds: bool) -> None:
    sums = np.random.default_rng(1).normal(0.9, 1, 200)
    assert statistic(sums) > 8
    found, earlier = judged(trial(sums.tolist()), place)
    assert (found.adjusted_p <= earlier.level_across) is holds
    assert (found.least_p <= earlier.level_across) is holds


def test_the_last_place_that_a_stream_without_claims_can_reach() -> None:
    one = coins(200, 0)
    reached = [place for place in range(60, 100) if at_best(one, place)]
    assert reached == list(range(60, 78))


def at_best(one: BlockSums, place: int) -> bool:
    found, earlier = judged(one, place)
    return found.adjusted_p <= earlier.level_across


def test_many_signs_give_the_p_of_a_plain_enumeration() -> None:
    sums = np.random.default_rng(5).normal(1.1, 1, 14).tolist()
    observed = sum(sums)
    reaching = sum(
        sum(sign * each for sign, each in zip(signs, sums, strict=True)) >= observed - 1e-9
        for signs in product((1, -1), repeat=14)
    )
    found, _ = judged(trial(sums), 8)
    assert len(found.draws) == MOST_FLIPS
    exact = reaching / 2**14
    assert 1e-4 < exact < 1e-3
    assert found.adjusted_p == pytest.approx(exact, abs=4 * math.sqrt(exact / MOST_FLIPS))


def test_the_draws_are_those_of_a_scalar_loop_over_the_same_signs() -> None:
    sums = np.random.default_rng(6).normal(1.2, 1, 16).tolist()
    found, _ = judged(trial(sums), 20)
    flips = len(found.draws)
    assert flips == MOST_FLIPS
    size, reaching = math.sqrt(sum(each * each for each in sums)), 0
    for signs in sign_vectors(16, 0, flips).T.tolist():
        flipped = sum(sign * each for sign, each in zip(signs, sums, strict=True))
        reaching += flipped / size >= sum(sums) / size - 1e-9
    assert found.adjusted_p == (1 + reaching) / (1 + flips)


@pytest.mark.parametrize("place", [2, 12, 37])
def test_signs_stay_as_they_are_where_p_is_far_from_the_levels(place: int) -> None:
    for seed in range(40):
        one = trial(np.random.default_rng(seed).normal(0.1, 1, 50).tolist())
        alone = judge_in_family(one, [])
        found, earlier = judged(one, place)
        if alone.p > 2 * earlier.level_across + 10 / FLIPS:
            assert len(found.draws) == FLIPS
            assert (found.p, found.adjusted_p) == (alone.p, alone.adjusted_p)
            assert (found.luck_mean, found.critical) == (alone.luck_mean, alone.critical)


def test_judging_again_gives_the_same_numbers() -> None:
    one = coins(60, 12)
    (first, _), (again, _) = judged(one, 37), judged(one, 37)
    assert len(first.draws) == MOST_FLIPS
    assert first == again
    assert np.array_equal(first.draws, again.draws)


@pytest.mark.parametrize("missing", [1, 9, 70, 100, 300])
def test_trials_without_scores_do_not_bury_what_is_beyond_their_luck(missing: int) -> None:
    found, earlier = judged(coins(200, 0), 1, missing=missing)
    assert found.adjusted_p <= earlier.level == level_of_trial(1 + missing)
    weak, _ = judged(coins(200, 90), 1, missing=missing)
    assert weak.adjusted_p > earlier.level
