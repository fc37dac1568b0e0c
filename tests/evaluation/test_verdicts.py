"""The verdicts: each threshold of the rules, and the sentence that goes with it."""

from __future__ import annotations

import re
from statistics import NormalDist

import numpy as np
import pytest

from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.direction import DirectionalTest, blocks_for_power, detectable_accuracy
from ktrdr_mcp.evaluation.multiple_testing import EarlierTrials, FamilyJudgement, Stream
from ktrdr_mcp.evaluation.verdict import (
    Caveats,
    PredictionVerdict,
    Trading,
    describe_failures,
    leak_suspected,
    leak_tested,
    luck_line,
    prediction_verdict,
    times_for_timing,
    trading_verdict,
)
from ktrdr_mcp.schemas.results import Alarm, EdgeScores, FailedFolds

BOUNCE = Alarm(name="half_spread", text="a half-spread of 12 bps", of_data=True)
TOO_GOOD = Alarm(name="sharpe", text="a Sharpe ratio of 9", of_data=False)
ONE_DIVERGED = FailedFolds(planned=4, diverged=1)
TWO_DIVERGED = FailedFolds(planned=4, diverged=2)


def verdict(
    blocks: int = 40,
    p: float = 0.001,
    adjusted_p: float | None = None,
    statistic: float = 3.0,
    constant: bool = False,
    caveats: Caveats | None = None,
    high: float = 0.55,
    trading: Trading = "inconclusive",
) -> PredictionVerdict:
    some = np.arange(blocks, dtype=np.int64)
    sums = BlockSums(some, some, np.ones(blocks))
    edge = EdgeScores(accuracy=0.51, low=high - 0.08, high=high, base_rate=0.5, break_even=0.53)
    test = DirectionalTest(statistic, p, sums, blocks, 48, 48 * blocks, constant, 0.51, 0.02, edge)
    adjusted = p if adjusted_p is None else adjusted_p
    family = FamilyJudgement(statistic, p, adjusted, 3, 0.8, 2.1, 2.4)
    return prediction_verdict(test, family, 2_000, caveats or Caveats(), trading)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (verdict(), "skill"),
        (verdict(blocks=8, p=0.02), "skill"),
        (verdict(blocks=7), "inconclusive"),
        (verdict(p=0.01, adjusted_p=0.021), "inconclusive"),
        (verdict(p=0.25), "inconclusive"),
        (verdict(p=0.26), "inconclusive"),
        (verdict(p=0.26, high=0.529), "no_skill"),
        (verdict(p=0.26, high=0.531), "inconclusive"),
        (verdict(p=0.01, high=0.52), "skill"),
        (verdict(blocks=7, p=0.9), "inconclusive"),
        (verdict(constant=True), "no_skill"),
        (verdict(blocks=3, constant=True), "no_skill"),
        (verdict(caveats=Caveats(answer="hold")), "skill"),
        (verdict(p=0.1, caveats=Caveats(answer="hold")), "inconclusive"),
        (verdict(caveats=Caveats(model_constant=True)), "inconclusive"),
        (verdict(caveats=Caveats(wandering=("sma",))), "inconclusive"),
        (verdict(p=0.5, caveats=Caveats(model_constant=True)), "inconclusive"),
        (verdict(caveats=Caveats(folds=FailedFolds(planned=4, diverged=1))), "inconclusive"),
        (verdict(caveats=Caveats(folds=FailedFolds(planned=4, unusable=1))), "inconclusive"),
        (verdict(caveats=Caveats(folds=FailedFolds(planned=4))), "skill"),
        (verdict(caveats=Caveats(leak_suspected=True)), "inconclusive"),
        (verdict(p=0.5, caveats=Caveats(leak_suspected=True), high=0.5), "no_skill"),
        (verdict(blocks=0, p=1.0, statistic=0.0), "inconclusive"),
    ],
)
def test_each_rule_gives_its_verdict(found: PredictionVerdict, expected: str) -> None:
    assert found.prediction == expected
    settled = expected != "inconclusive" and "constant" not in found.reason
    assert (found.needs is None) == settled
    assert found.reason.endswith(".")


def test_the_reason_is_the_sentence_that_decided() -> None:
    assert verdict().reason == (
        "T 3.0 on 40 blocks of 48 bars, adjusted p 0.001 (level 0.02): direction is foreseen."
    )
    assert "needs 8 blocks" in verdict(blocks=7).reason
    assert "a leak" in verdict(caveats=Caveats(leak_suspected=True)).reason
    assert "constant" in verdict(constant=True).reason


def test_needs_are_bars_where_the_effect_is_worth_planning_by() -> None:
    bars = 2_000 * ((2.4 + 0.8416212) / 1.5) ** 2
    assert bars == pytest.approx(9_340, abs=10)
    assert verdict(p=0.07, statistic=1.5).needs == ("About 9,400 bars for 80 % power (2,000 used).")


def test_needs_are_a_detectable_accuracy_where_it_is_not() -> None:
    expected = "A directional accuracy of 56.5% for 80 % power on these rows (now 51.0%)."
    assert verdict(p=0.6, statistic=-0.3).needs == expected
    assert verdict(p=0.4, statistic=0.2).needs == expected


def test_eighty_percent_power_is_what_simulation_says() -> None:
    wanted = blocks_for_power(40, 1.5, 2.0)
    assert wanted is not None
    effect = 1.5 / np.sqrt(40)  # mean over root mean square of a block
    count = round(wanted)
    generator = np.random.default_rng(0)
    spread = np.sqrt(1 - effect**2)
    sums = generator.normal(effect, spread, (2_000, count))
    statistic = sums.sum(axis=1) / np.sqrt((sums**2).sum(axis=1))
    assert np.mean(statistic >= 2.0) == pytest.approx(0.8, abs=0.03)


def test_no_effect_needs_no_plan_and_no_accuracy_is_above_one() -> None:
    assert blocks_for_power(40, 0.0, 2.0) is None
    assert blocks_for_power(0, 1.0, 2.0) is None
    assert detectable_accuracy(0.5, 2.0) == 1.0


def timing(adjusted_p: float, p: float | None = None) -> FamilyJudgement:
    return FamilyJudgement(1.0, adjusted_p if p is None else p, adjusted_p, 1, 0.0, 1.6, 2.1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((40, 0.1, timing(0.02), 0.001, 2_000), "survives_costs"),
        ((40, 0.1, timing(0.021), 0.001, 2_000), "inconclusive"),
        ((40, -0.1, timing(0.01), 0.001, 2_000), "inconclusive"),
        ((40, -0.3, timing(0.95), -1e-6, 2_000), "loses"),
        ((40, 0.3, timing(0.95), 0.001, 2_000), "no_timing"),
        ((40, 0.3, timing(0.89), 0.001, 2_000), "inconclusive"),
        ((40, 0.3, timing(0.95, 0.3), 0.001, 2_000), "inconclusive"),
        ((14, -0.3, timing(0.9), -1e-6, 2_000), "inconclusive"),
        ((14, 0.3, timing(0.001), 0.01, 2_000), "inconclusive"),
        ((0, 0.0, timing(1.0), 0.0, 2_000), "inconclusive"),
        ((40, 0.1, timing(0.001), 0.001, 2_000, Caveats(constant=True)), "inconclusive"),
        ((40, 0.1, timing(0.001), 0.001, 2_000, Caveats(leak_suspected=True)), "inconclusive"),
        ((40, 0.1, timing(0.001), 0.001, 2_000, Caveats(model_constant=True)), "inconclusive"),
        ((40, 0.1, timing(0.001), 0.001, 2_000, Caveats(free=True)), "inconclusive"),
        ((40, 0.1, timing(0.001), 0.001, 2_000, Caveats(alarms=(BOUNCE,))), "inconclusive"),
        ((40, 0.1, timing(0.001), 0.001, 2_000, Caveats(alarms=(TOO_GOOD,))), "survives_costs"),
        (
            (40, 0.1, timing(0.001), 0.001, 2_000, Caveats(folds=ONE_DIVERGED)),
            "inconclusive",
        ),
        ((40, 0.1, timing(0.001), 0.001, 2_000, Caveats(tells_past=True)), "survives_costs"),
    ],
)
def test_trading_is_judged_by_its_rules(arguments: tuple[float, ...], expected: str) -> None:
    found = trading_verdict(*arguments)  # type: ignore[arg-type]
    assert found.trading == expected
    assert found.reason.endswith(".")


def test_trading_that_is_open_says_how_many_bars_would_settle_it() -> None:
    found = trading_verdict(40, 0.1, timing(0.1), 0.001, 2_000)
    longer = ((2.0537 + 0.8416) / 1.2816) ** 2
    assert found.needs == f"Timing: about {-(-2_000 * longer // 1_000) * 1_000:,.0f} bars."
    assert trading_verdict(10, 0.1, timing(0.1), 0.001, 2_000).needs == "Timing: about 3,000 bars."


@pytest.mark.parametrize("p", [0.03, 0.3, 0.49, 0.5, 0.51, 0.7, 0.89])
def test_open_trading_always_says_bars(p: float) -> None:
    needs = trading_verdict(40, 0.1, timing(p), 0.001, 2_000).needs
    told = re.fullmatch(r"Timing: (about|more than) ([\d,]+) bars\.", needs or "")
    assert told is not None
    assert 2_000 <= int(told[2].replace(",", "")) <= 40_000
    assert (told[1] == "more than") == (0.24 < p < 0.69)


def test_bad_timing_is_settled_by_as_many_bars_as_simulation_says() -> None:
    times = times_for_timing(timing(0.8))
    effect = NormalDist().inv_cdf(0.2)
    found = np.random.default_rng(0).normal(effect * np.sqrt(times), 1, 20_000)
    assert np.mean(found <= NormalDist().inv_cdf(0.1)) == pytest.approx(0.8, abs=0.01)


def test_timing_beyond_luck_that_ends_with_a_loss_is_not_called_luck() -> None:
    reason = trading_verdict(40, -0.1, timing(0.01), 0.001, 2_000).reason
    assert "nothing is left" in reason
    assert "luck" not in reason


def test_every_open_verdict_says_which_edges_are_excluded() -> None:
    for found in (
        verdict(p=0.25),
        verdict(blocks=7),
        verdict(caveats=Caveats(wandering=("sma",))),
        verdict(p=0.26, high=0.529),
    ):
        assert found.prediction != "skill"
        assert "edges above 5" in found.reason
    assert "excluded" not in verdict(blocks=7, high=1.0).reason


def test_what_trading_earns_is_not_denied_to_the_direction() -> None:
    assert verdict(p=0.26, high=0.529).prediction == "no_skill"
    found = verdict(p=0.26, high=0.529, trading="survives_costs")
    assert found.prediction == "inconclusive"
    assert "edges above 52.9% are excluded (95 %), yet trading earns its costs" in found.reason
    assert found.needs is not None


def test_alarms_come_before_what_else_is_said() -> None:
    caveats = Caveats("hold", alarms=(BOUNCE, TOO_GOOD))
    assert verdict(caveats=caveats).reason.endswith(f"; {BOUNCE.text}; see details.")
    assert caveats.conditions() == ["the kept model answers hold on every row"]


def test_alarms_are_said_and_leave_the_direction_alone() -> None:
    found = verdict(caveats=Caveats(alarms=(BOUNCE, TOO_GOOD)))
    assert found.prediction == "skill"
    assert BOUNCE.text in found.reason
    assert "details" in found.reason
    assert TOO_GOOD.text in verdict(caveats=Caveats(alarms=(TOO_GOOD,))).reason


def test_three_twins_that_are_foreseen_make_a_leak() -> None:
    assert leak_suspected([0.02, 0.5, 0.001, 0.02])
    assert not leak_suspected([0.021, 0.5, 0.001, 0.02])
    assert not leak_suspected([])


def test_fewer_than_three_twins_cannot_show_a_leak() -> None:
    assert leak_tested([0.9, 0.9, 0.9])
    assert not leak_tested([0.001, 0.001])


def test_labels_that_tell_the_past_are_no_ground_for_skill() -> None:
    found = verdict(caveats=Caveats(tells_past=True))
    assert found.prediction == "inconclusive"
    assert "tell the past" in found.reason
    assert found.needs == "Labels that tell the future only, such as triple_barrier."


def test_the_luck_line_has_what_the_level_asks_for_and_what_was_spent() -> None:
    family = FamilyJudgement(1.8, 0.04, 0.36, 40, 1.6, 2.6, 2.9)

    def numbers(earlier: EarlierTrials) -> list[str]:
        return re.findall(r"\d+(?:\.\d+)?", luck_line(family, earlier))

    assert numbers(EarlierTrials()) == ["1.6", "2.9"]
    assert numbers(EarlierTrials(missing=39)) == ["1.6", "2.9", "39"]
    assert numbers(EarlierTrials(missing=39, stream=Stream(place=7))) == ["1.6", "2.9", "39", "6"]
    some = EarlierTrials(missing=39, stream=Stream(place=7), elsewhere=4)
    assert numbers(some) == ["1.6", "2.9", "39", "4", "6"]
    every = EarlierTrials(missing=39, elsewhere=39)
    assert numbers(every) == ["1.6", "2.9", "39"]
    assert luck_line(family, every) != luck_line(family, EarlierTrials(missing=39))


def test_one_class_on_every_row_is_said_and_decides_nothing() -> None:
    plain, one_class = verdict(), verdict(caveats=Caveats(answer="hold"))
    assert one_class.prediction == plain.prediction
    assert one_class.reason == f"{plain.reason[:-1]}; the kept model answers hold on every row."


@pytest.mark.parametrize(
    ("caveats", "reason", "needs"),
    [
        (Caveats(leak_suspected=True), "noise is foreseen, too: a leak", "do not look ahead"),
        (Caveats(leak_suspected=True, tells_past=True), "tell the past", "tell the future only"),
        (
            Caveats(folds=FailedFolds(planned=4, diverged=2)),
            "2 of 4 folds diverged",
            "learning_rate",
        ),
        (
            Caveats(folds=FailedFolds(planned=4, unusable=1)),
            "1 of 4 folds had no usable data",
            "longer range",
        ),
        (Caveats(model_constant=True), "kept model says the same of every row", "learning_rate"),
    ],
)
def test_a_ground_against_skill_is_named_with_what_removes_it(
    caveats: Caveats, reason: str, needs: str
) -> None:
    found = verdict(caveats=caveats)
    assert found.prediction == "inconclusive"
    assert reason in found.reason
    assert found.needs is not None
    assert needs in found.needs
    assert "bars" not in found.needs


def test_a_constant_output_needs_another_training_not_more_bars() -> None:
    needs = verdict(constant=True, p=1.0, statistic=0.0).needs
    assert needs is not None
    assert "learning_rate" in needs
    assert "bars" not in needs


def test_every_kind_of_loss_is_counted_in_words() -> None:
    assert describe_failures(FailedFolds(planned=4, diverged=2, unusable=1), "folds") == (
        "2 of 4 folds diverged and 1 of 4 folds had no usable data"
    )
    assert describe_failures(FailedFolds(planned=4), "folds") == ""


def test_the_longest_reason_stays_short() -> None:
    family = (
        FailedFolds(planned=20, diverged=9, unusable=9),
        FailedFolds(planned=4, diverged=2, unusable=2),
    )
    caveats = Caveats("hold", False, True, True, *family)
    prediction = verdict(blocks=2_000, p=0.0201, statistic=-12.3, caveats=caveats)
    usual = verdict(caveats=Caveats("hold", folds=FailedFolds(planned=4, diverged=2)))
    trading = trading_verdict(
        2_000,
        1.234,
        timing(0.0201),
        0.1,
        115_000,
        Caveats(folds=FailedFolds(planned=4, diverged=2)),
    )
    assert len(f"{usual.reason} Trading: {trading.reason}") <= 330
    assert len(f"{prediction.reason} Trading: {trading.reason}") <= 450
