"""A stored trial among its family: joint sign flips, missing trials and what forbids a verdict."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.evaluation.direction import sign_flip_p, statistic
from ktrdr_mcp.evaluation.multiple_testing import (
    FINE_FLIPS,
    EarlierTrials,
    Stream,
    flips_for,
    level_of_trial,
)
from ktrdr_mcp.evaluation.verdict import verdict
from ktrdr_mcp.schemas.responses import Verdict
from ktrdr_mcp.schemas.results import TaskResult, TrialScores
from tests.support.sample_results import blocks, merged, task_result, trial_scores

BLOCKS = 60
LABELS = {"method": "triple_barrier"}


def sums_of(seed: int, mean: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, BLOCKS)


TIMING = sums_of(77, 0.6)


def scores(direction: np.ndarray, timing_p: float = 0.5, **more: Any) -> TrialScores:
    return trial_scores(
        direction={
            "statistic": statistic(direction),
            "p": sign_flip_p(direction, 0),
            "rows": 24 * BLOCKS,
            "blocks": blocks(direction),
        },
        trading={
            "timing_p": timing_p,
            "timing_blocks": blocks(TIMING),
            "net_sums": sums_of(78, 0.1).tolist(),
        },
        **more,
    )


def judged(own: TrialScores, others: list[TrialScores | None], **changes: Any) -> Verdict:
    return verdict(own, beside(others), task_result(**changes), LABELS)


def beside(others: list[TrialScores | None]) -> EarlierTrials:
    scored = [each for each in others if each is not None]
    return EarlierTrials(scored, len(others) - len(scored))


STRONG = sums_of(1, 0.8)


def test_a_clear_trial_alone_is_skill() -> None:
    found = judged(scores(STRONG), [])
    assert found.prediction == "skill"
    assert (found.as_of_trial, found.level, found.holds_across) == (1, 0.02, None)


def test_twins_that_were_foreseen_forbid_skill_and_gains() -> None:
    found = judged(scores(STRONG, timing_p=0.001, twins=[0.001, 0.01, 0.02, 0.6]), [])
    assert (found.prediction, found.trading) == ("inconclusive", "inconclusive")
    assert "a leak" in found.reason
    assert "look ahead" in found.needs
    clean = judged(scores(STRONG, timing_p=0.001, twins=[0.001, 0.01, 0.03, 0.6]), [])
    assert (clean.prediction, clean.trading) == ("skill", "survives_costs")


@pytest.mark.parametrize("missing", [0, 1, 12, 40])
def test_timing_is_adjusted_for_trials_without_a_result(missing: int) -> None:
    found = judged(scores(STRONG, timing_p=0.004), [None] * missing)
    adjusted = max(0.004, 1 - (1 - sign_flip_p(TIMING, 0)) * 0.996**missing)
    assert (found.trading == "survives_costs") == (adjusted <= level_of_trial(1 + missing))
    shown = f"{adjusted:.2f}" if adjusted >= 0.1 else f"{adjusted:.3f}"
    assert f"timing p {shown}" in found.reason


def luck_by_hand(trials: list[np.ndarray], flips: int = 4_000) -> float:
    """The mean of the best T when one sign per day holds for all trials."""
    units = np.stack([trial / np.linalg.norm(trial) for trial in trials])
    signs = np.random.default_rng(99).choice([-1.0, 1.0], (BLOCKS, flips))
    return float((units @ signs).max(axis=0).mean())


def test_trials_with_scores_get_their_signs_flipped_together() -> None:
    weak = sums_of(2, 0.3)
    copies = [scores(weak + 1e-6 * sums_of(300 + k, 0.0)) for k in range(30)]
    found = judged(scores(weak), [*copies])
    alone = judged(scores(weak), [])
    unrelated = judged(scores(weak), [None] * 30)
    assert found.as_of_trial == unrelated.as_of_trial == 31
    p = sign_flip_p(weak, 0)
    assert f"p {p:.3f} " in alone.reason
    p = sign_flip_p(weak, 0, flips_for(level_of_trial(31)))
    assert f"adjusted p {p:.3f} " in found.reason, "thirty copies are one trial"
    finer = sign_flip_p(weak, 0, FINE_FLIPS)
    adjusted = float(unrelated.reason.split("adjusted p ")[1].split(" ")[0])
    assert adjusted == pytest.approx(1 - (1 - finer) ** 31, abs=0.02)


def test_the_luck_of_a_family_is_what_joint_flips_by_hand_reach() -> None:
    trials = [sums_of(20, 0.2)]
    trials += [0.7 * trials[0] + sums_of(400 + k, 0.0) for k in range(9)]
    found = judged(scores(trials[0]), [scores(each) for each in trials[1:]])
    told = float(re.findall(r"luck T (\S+),", found.luck)[0])
    assert told == pytest.approx(luck_by_hand(trials), abs=0.1)


def test_the_class_that_every_final_row_gets_is_named_and_decides_nothing() -> None:
    shares = {"buy": 0.0, "hold": 1.0, "sell": 0.0}
    found = judged(scores(STRONG), [], collapsed=True, predicted_shares=shares)
    assert found.prediction == "skill"
    assert "the kept model answers hold on every row" in found.reason
    raw = task_result(collapsed=True).to_json()
    del raw["predicted_shares"]
    older = verdict(scores(STRONG), EarlierTrials(), TaskResult.from_json(raw), LABELS)
    assert "answers one class on every row" in older.reason


def test_a_family_that_came_late_needs_more_to_hold_beside_the_others() -> None:
    trial = scores(sums_of(2, 0.45))
    alone = verdict(trial, EarlierTrials(), task_result(), LABELS)
    late = verdict(trial, EarlierTrials(stream=Stream(place=37)), task_result(), LABELS)
    helped = verdict(trial, EarlierTrials(stream=Stream(place=2, claims=1)), task_result(), LABELS)
    assert [each.prediction for each in (alone, late, helped)] == ["skill"] * 3
    assert [each.holds_across for each in (alone, late, helped)] == [None, False, True]
    assert "37 stretches" in late.reason
    assert late.reason.endswith("p 7.5e-05, level 2.2e-05.")


@pytest.mark.parametrize(("place", "holds"), [(12, True), (13, True), (37, True), (100, False)])
def test_a_clear_trial_holds_beside_many_others_as_far_as_a_p_is_measured(place, holds) -> None:
    trial = scores(sums_of(1, 1.4))
    found = verdict(trial, EarlierTrials(stream=Stream(place)), task_result(), LABELS)
    assert (found.prediction, found.holds_across) == ("skill", holds)
    assert ("no p below 5e-06 is measured" in found.reason) is not holds
    again = verdict(trial, EarlierTrials(stream=Stream(place)), task_result(), LABELS)
    assert again == found


def test_no_skill_is_not_said_of_what_survives_its_costs() -> None:
    edge = {"accuracy": 0.5, "low": 0.49, "high": 0.51, "base_rate": 0.5, "break_even": 0.52}
    weak = sums_of(2, 0.0)
    direction = {"statistic": 0.4, "p": 0.4, "blocks": blocks(weak), "edge": edge}
    for timing_p, expected in ((0.001, "inconclusive"), (0.3, "no_skill")):
        own = scores(weak, timing_p)
        own = TrialScores.from_json(merged(own.to_json(), {"direction": direction}))
        found = verdict(own, EarlierTrials(), task_result(), LABELS)
        assert (found.prediction, found.trading == "survives_costs") == (
            expected,
            expected == "inconclusive",
        )
        assert "51.0%" in found.reason


def test_a_constant_output_does_not_survive_costs_either() -> None:
    own = TrialScores.from_json(
        merged(scores(STRONG, timing_p=0.001).to_json(), {"direction": {"constant": True}})
    )
    found = verdict(own, EarlierTrials(), task_result(), LABELS)
    assert (found.prediction, found.trading) == ("no_skill", "inconclusive")
    assert "but the output is constant" in found.reason


def test_a_later_trial_has_a_smaller_level_for_both_verdicts() -> None:
    trial = scores(STRONG, timing_p=0.015)
    first = verdict(trial, EarlierTrials(), task_result(), LABELS)
    same = verdict(trial, EarlierTrials([trial] * 9), task_result(), LABELS)
    assert (first.trading, first.level) == ("survives_costs", 0.02)
    assert same.level == pytest.approx(0.02 / (1 + np.log(10)), rel=0.03)
    assert (same.trading, same.as_of_trial) == ("inconclusive", 10)
