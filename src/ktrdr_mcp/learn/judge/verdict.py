"""The verdict: whether a model foresees anything, and whether that survives costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from ktrdr_mcp.learn.judge.direction import DirectionalTest
from ktrdr_mcp.learn.judge.doubts import LIVING_MODEL, Doubts
from ktrdr_mcp.learn.judge.family import CRITICAL_P, FamilyJudgement
from ktrdr_mcp.learn.judge.power import MOST_TIMES_LONGER, blocks_for_power, detectable_accuracy

MIN_BLOCKS: Final = 15
NO_SKILL_P: Final = 0.25  # of the trial alone
SURVIVES_P: Final = 0.05  # adjusted
# Of four. Measured with the default strategy on AAPL: in 350 groups of twins (250 of 1h, 100 of
# 1d), two or more had p <= 0.02 in 4, three in none. A feature that peeks one bar ahead, also under
# twice its own size of noise, and a centred average gave three or more in 199 of 200 groups.
TWINS_FOR_SUSPICION: Final = 3
# Of scores, never of one class on every row: the final split got one class in 7 of 8 series with a
# planted signal (q 0.25, L 24, labels.width 1.3; all 8 had p <= 0.02) and in 70 of 70 of garch
# noise at that width, where none had p <= 0.02. T alone tells them apart.
CONSTANT: Final = "Its output is constant: every tested row gets the same answer"
NO_DOUBTS: Final = Doubts()

Prediction = Literal["no_skill", "inconclusive", "skill"]
Trading = Literal["loses", "inconclusive", "survives_costs"]


@dataclass(frozen=True)
class PredictionVerdict:
    """The verdict and the sentence that decided.

    Args:
        prediction: the verdict.
        reason: the sentence.
        needs: the bars for 80 % power or the smallest detectable accuracy; None with skill.
    """

    prediction: Prediction
    reason: str
    needs: str | None


@dataclass(frozen=True)
class TradingVerdict:
    """The verdict on trading and the sentence that decided."""

    trading: Trading
    reason: str


def prediction_verdict(
    test: DirectionalTest, family: FamilyJudgement, bars: int, doubts: Doubts
) -> PredictionVerdict:
    """Judges the direction of the predictions.

    Args:
        test: on the pooled walk-forward predictions.
        family: the same, among all trials on this test window.
        bars: how many bars the training used in all; `needs` speaks of these.
        doubts: what else is known.
    """
    prediction, reason = decided_prediction(test, family, doubts)
    reason = f"{reason}{doubts.notes()}."
    if prediction == "skill":
        return PredictionVerdict(prediction, reason, None)
    if test.constant:
        return PredictionVerdict(prediction, reason, LIVING_MODEL)
    objection = doubts.objection()
    needs = objection.needs if objection else needed(test, family, bars)
    return PredictionVerdict(prediction, reason, needs)


def decided_prediction(
    test: DirectionalTest, family: FamilyJudgement, doubts: Doubts
) -> tuple[Prediction, str]:
    """The verdict and the beginning of its sentence."""
    blocks = len(test.blocks)
    evidence = f"T = {test.statistic:z.1f} on {blocks} blocks of {test.width_bars} bars"
    if test.constant:
        return "no_skill", CONSTANT
    if blocks < MIN_BLOCKS:
        return "inconclusive", f"{evidence}: a verdict needs {MIN_BLOCKS} blocks"
    if test.p > NO_SKILL_P:
        return "no_skill", f"{evidence}, p {p_text(test.p)}: direction is not foreseen"
    adjusted = f"adjusted p {p_text(family.adjusted_p)} for {trials_text(family.trials)}"
    evidence = f"{evidence}, {adjusted}"
    if family.adjusted_p > CRITICAL_P:
        return "inconclusive", f"{evidence}: not enough to rule out luck"
    if objection := doubts.objection():
        return "inconclusive", f"{evidence}, {objection.clause}"
    return "skill", f"{evidence}: direction is foreseen better than luck explains"


def needed(test: DirectionalTest, family: FamilyJudgement, bars: int) -> str:
    """What would settle it: more bars if the effect is worth planning by, else a stronger one.

    Args:
        test: as in the verdict.
        family: as in the verdict; its critical T is the one to reach.
        bars: how many bars the training used in all.
    """
    blocks = len(test.blocks)
    if blocks == 0:
        return "Rows to test on; use a longer range."
    wanted = blocks_for_power(blocks, test.statistic, family.critical)
    longer = max(wanted, MIN_BLOCKS) / blocks if wanted else math.inf
    if longer <= MOST_TIMES_LONGER:
        return (
            f"About {rounded(bars * max(longer, 1))} bars for 80 % power at the effect seen "
            f"({bars:,} used)."
        )
    if test.accuracy is None or test.accuracy_error is None:
        return "Rows whose label is buy or sell; there are none in the tested part."
    found = detectable_accuracy(test.accuracy_error, family.critical)
    return (
        f"A directional accuracy of {found:.1%} for 80 % power on these rows (now "
        f"{test.accuracy:.1%})."
    )


def trading_verdict(
    blocks: int,
    net_total_return: float,
    adjusted_p: float,
    upper_mean_net_return: float,
    doubts: Doubts = NO_DOUBTS,
) -> TradingVerdict:
    """Judges the result of trading after costs.

    Args:
        blocks: how many blocks of two horizons there are.
        net_total_return: a fraction, after costs.
        adjusted_p: that timing earns no more than its costs, adjusted for the family.
        upper_mean_net_return: upper 95 % bound of the mean net return per bar.
        doubts: what else is known.
    """
    net = f"net {net_total_return:+.1%}"
    if blocks < MIN_BLOCKS:
        return TradingVerdict(
            "inconclusive", f"{net} on {blocks} blocks: a verdict needs {MIN_BLOCKS}."
        )
    if upper_mean_net_return < 0:
        return TradingVerdict(
            "loses",
            f"{net}: even the upper 95 % bound of the mean net return is below zero.",
        )
    timing = f"{net}, p {p_text(adjusted_p)} for its timing after costs"
    if adjusted_p <= SURVIVES_P and net_total_return > 0:
        if objection := doubts.trading_objection():
            return TradingVerdict("inconclusive", f"{timing}, {objection.clause}.")
        return TradingVerdict("survives_costs", f"{timing}.")
    return TradingVerdict("inconclusive", f"{timing}: not enough to rule out luck or drift.")


def leak_suspected(twin_p: list[float]) -> bool:
    """Whether too many noise twins were foreseen (p <= 0.02); there is nothing to foresee."""
    return sum(p <= CRITICAL_P for p in twin_p) >= TWINS_FOR_SUSPICION


def leak_tested(twin_p: list[float]) -> bool:
    """Whether there were twins enough for a leak to show."""
    return len(twin_p) >= TWINS_FOR_SUSPICION


def luck_line(trial: int, family: FamilyJudgement, prediction: Prediction) -> str:
    """One line for a reply: this T beside what luck reaches in as many trials.

    Args:
        trial: the number of this trial on its test window, from 1.
        family: its judgement.
        prediction: its verdict; a small p with a ground against it is no evidence either.
    """
    convinces = "evidence" if prediction == "skill" else "no evidence"
    luck = "luck" if family.trials == 1 else f"the best of {family.trials} by luck"
    return (
        f"trial {trial} on this test window: T = {family.statistic:z.1f}, {luck} averages "
        f"{family.luck_mean:z.1f} (95 %: {family.luck_upper:.1f}), "
        f"adjusted p {p_text(family.adjusted_p)}: {convinces}"
    )


def p_text(p: float) -> str:
    """A p as people read it: two digits, three below 0.1."""
    if p < 0.001:
        return "below 0.001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def trials_text(trials: int) -> str:
    """ "1 trial" or "40 trials"."""
    return f"{trials} trial" if trials == 1 else f"{trials} trials"


def rounded(bars: float) -> str:
    """A number of bars with two significant digits, rounded up."""
    unit = 10 ** max(math.floor(math.log10(max(bars, 1))) - 1, 0)
    return f"{math.ceil(bars / unit) * unit:,}"
