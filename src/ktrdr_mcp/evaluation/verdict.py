"""The verdict: directional skill, whether it survives costs, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.direction import (
    MOST_TIMES_LONGER,
    DirectionalTest,
    blocks_for_power,
    detectable_accuracy,
)
from ktrdr_mcp.evaluation.multiple_testing import CRITICAL_P, FamilyJudgement, judge_in_family
from ktrdr_mcp.labels.registry import tells_past
from ktrdr_mcp.schemas.responses import Verdict
from ktrdr_mcp.schemas.results import FailedFolds, TaskResult, TrialScores

OTHER_LABELS: Final = "Labels that tell the future only, such as triple_barrier."
NO_LEAK: Final = "Features that do not look ahead."
LIVING_MODEL: Final = "A lower learning_rate, or another seed: the output must depend on features."
FINITE_FOLDS: Final = "A lower learning_rate, or gradient_clip, so that no fold diverges."
USABLE_FOLDS: Final = "Indicators that vary in every fold, fewer folds or a longer range."


def describe_failures(failed: FailedFolds, name: str) -> str:
    """ "2 of 4 folds diverged", with `name` in the plural; empty if none failed."""
    causes = [(failed.diverged, "diverged"), (failed.unusable, "had no usable data")]
    return " and ".join(
        f"{count} of {failed.planned} {name} {cause}" for count, cause in causes if count
    )


NONE_FAILED: Final = FailedFolds()


class Objection(NamedTuple):
    """A ground against `skill`: how it continues the reason, and what would remove it."""

    clause: str
    needs: str


@dataclass(frozen=True)
class Caveats:
    """What is known of a model beside its T.

    Args:
        answer: the class that the kept model gives to every row of the final split, if there is one
            such. It is said, and T decides: p(buy) - p(sell) may tell apart what one class tops.
        model_constant: the kept model's score is the same on all rows of the final split.
        leak_suspected: sign-flip surrogates of the bars were foreseen too.
        tells_past: the labels also say what has happened by their own bar, which on noise, too,
            is known. Then twins are foreseen without a leak.
        folds: walk-forward folds that are missing from T. Which ones diverge is not chance.
        untested: surrogates that are missing, if those left cannot show a leak.
    """

    answer: str | None = None
    model_constant: bool = False
    leak_suspected: bool = False
    tells_past: bool = False
    folds: FailedFolds = NONE_FAILED
    untested: FailedFolds = NONE_FAILED

    def objection(self) -> Objection | None:
        """The gravest ground against `skill`, if there is one."""
        if self.tells_past:
            return Objection("but labels that tell the past can be right on noise", OTHER_LABELS)
        return self.trading_objection()

    def trading_objection(self) -> Objection | None:
        """The gravest ground against `survives_costs`: gains need no labels, so these may tell."""
        if self.leak_suspected:
            return Objection("but noise is foreseen, too: a leak", NO_LEAK)
        if self.folds.lost:
            needs = FINITE_FOLDS if self.folds.diverged else USABLE_FOLDS
            return Objection("but not every fold is judged", needs)
        if self.model_constant:
            return Objection("but the kept model says the same of every row", LIVING_MODEL)
        return None

    def notes(self) -> str:
        """What a reason says besides, each clause after a semicolon."""
        answer = self.answer and f"the kept model answers {self.answer} on every row"
        folds = describe_failures(self.folds, "folds")
        clauses = (answer, folds, describe_failures(self.untested, "twins"))
        return "".join(f"; {clause}" for clause in clauses if clause)


MIN_BLOCKS: Final = 15  # of two horizons, for trading
MIN_TESTED_BLOCKS: Final = 8  # of six horizons, for the direction
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
NO_CAVEATS: Final = Caveats()

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
    test: DirectionalTest, family: FamilyJudgement, bars: int, caveats: Caveats
) -> PredictionVerdict:
    """Judges the direction of the predictions.

    Args:
        test: on the pooled walk-forward predictions.
        family: the same, among all trials on this test window.
        bars: how many bars the training used in all; `needs` speaks of these.
        caveats: what else is known.
    """
    prediction, reason = decided_prediction(test, family, caveats)
    reason = f"{reason}{caveats.notes()}."
    if prediction == "skill":
        return PredictionVerdict(prediction, reason, None)
    if test.constant:
        return PredictionVerdict(prediction, reason, LIVING_MODEL)
    objection = caveats.objection()
    needs = objection.needs if objection else needed(test, family, bars)
    return PredictionVerdict(prediction, reason, needs)


def decided_prediction(
    test: DirectionalTest, family: FamilyJudgement, caveats: Caveats
) -> tuple[Prediction, str]:
    """The verdict and the beginning of its sentence."""
    blocks = test.tested_blocks
    evidence = f"T = {test.statistic:z.1f} on {blocks} blocks of {test.width_bars} bars"
    if test.constant:
        return "no_skill", CONSTANT
    if blocks < MIN_TESTED_BLOCKS:
        return "inconclusive", f"{evidence}: a verdict needs {MIN_TESTED_BLOCKS} blocks"
    if test.p > NO_SKILL_P:
        return "no_skill", f"{evidence}, p {p_text(test.p)}: direction is not foreseen"
    adjusted = f"adjusted p {p_text(family.adjusted_p)} for {trials_text(family.trials)}"
    evidence = f"{evidence}, {adjusted}"
    if family.adjusted_p > CRITICAL_P:
        return "inconclusive", f"{evidence}: not enough to rule out luck"
    if objection := caveats.objection():
        return "inconclusive", f"{evidence}, {objection.clause}"
    return "skill", f"{evidence}: direction is foreseen better than luck explains"


def needed(test: DirectionalTest, family: FamilyJudgement, bars: int) -> str:
    """What would settle it: more bars if the effect is worth planning by, else a stronger one.

    Args:
        test: as in the verdict.
        family: as in the verdict; its critical T is the one to reach.
        bars: how many bars the training used in all.
    """
    blocks = test.tested_blocks
    if blocks == 0:
        return "Rows to test on; use a longer range."
    wanted = blocks_for_power(blocks, test.statistic, family.critical)
    longer = max(wanted, MIN_TESTED_BLOCKS) / blocks if wanted else math.inf
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
    caveats: Caveats = NO_CAVEATS,
) -> TradingVerdict:
    """Judges the result of trading after costs.

    Args:
        blocks: how many blocks of two horizons there are.
        net_total_return: a fraction, after costs.
        adjusted_p: that timing earns no more than its costs, adjusted for the family.
        upper_mean_net_return: upper 95 % bound of the mean net return per bar.
        caveats: what else is known.
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
        if objection := caveats.trading_objection():
            return TradingVerdict("inconclusive", f"{timing}, {objection.clause}.")
        return TradingVerdict("survives_costs", f"{timing}.")
    return TradingVerdict("inconclusive", f"{timing}: not enough to rule out luck or drift.")


def leak_suspected(twin_p: list[float]) -> bool:
    """Whether too many surrogates were foreseen (p <= 0.02); there is nothing to foresee."""
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


def verdict(
    own: TrialScores,
    others: Sequence[TrialScores | None],
    trial: int,
    result: TaskResult,
    labels: Mapping[str, Any],
) -> Verdict:
    """Judges one trial among all others of its family.

    Args:
        own: the trial's scores.
        others: those of the family's other trials; None for one without a result.
        trial: the number of this trial, from 1, in the order of their starts.
        result: what its training measured.
        labels: its complete labels configuration.
    """
    test = DirectionalTest.of(own.direction)
    scored = [each for each in others if each is not None]
    missing = len(others) - len(scored)
    family = judge_in_family(test.blocks, [blocks_of(each) for each in scored], missing)
    caveats = caveats_of(own, result, labels)
    prediction = prediction_verdict(test, family, result.data.bars, caveats)
    trading = trading_verdict(
        blocks=len(own.trading.timing_blocks.sums),
        net_total_return=own.trading.net_total_return,
        adjusted_p=timing_family(own, scored, missing).adjusted_p,
        upper_mean_net_return=own.trading.mean_net_high,
        caveats=caveats,
    )
    return Verdict(
        prediction=prediction.prediction,
        trading=trading.trading,
        reason=f"{prediction.reason} Trading: {trading.reason}",
        needs=prediction.needs,
        as_of_trial=family.trials,
        luck=luck_line(trial, family, prediction.prediction),
    )


def caveats_of(own: TrialScores, result: TaskResult, labels: Mapping[str, Any]) -> Caveats:
    """What is known of a trial beside its T.

    Args:
        own: its scores.
        result: what its training measured.
        labels: its complete labels configuration.
    """
    return Caveats(
        answer=None if own.model_constant else only_answer(result),
        model_constant=own.model_constant,
        leak_suspected=leak_suspected(own.twins),
        tells_past=tells_past(labels),
        folds=own.lost.folds,
        untested=NONE_FAILED if leak_tested(own.twins) else own.lost.twins,
    )


def only_answer(result: TaskResult) -> str | None:
    """The class that every row of the final split gets, if there is one such."""
    if not result.collapsed:
        return None
    shares = result.predicted_shares  # older results have none
    return max(shares, key=lambda name: shares[name], default="one class")


def blocks_of(scores: TrialScores) -> BlockSums:
    """A trial's block sums of the directional test."""
    return BlockSums.of(scores.direction.blocks)


def timing_family(own: TrialScores, others: Sequence[TrialScores], missing: int) -> FamilyJudgement:
    """The trial's timing after costs among that of all others."""
    blocks = [BlockSums.of(scores.trading.timing_blocks) for scores in (own, *others)]
    return judge_in_family(blocks[0], blocks[1:], missing, own_p=own.trading.timing_p)


GAP: Final = 0.15  # training accuracy above validation accuracy


def next_step(result: TaskResult, epochs: int, seeds: int) -> str:
    """What to try next, from figures of training and validation rows only.

    Args:
        result: what a completed training measured.
        epochs: the most that it could have.
        seeds: how many networks it trained that differ in seed alone.
    """
    training = result.training_metrics
    gap = training.final_train_accuracy - training.final_val_accuracy
    if any(fold.lost == "diverged" for fold in result.walk_forward.folds):
        return "Lower learning_rate, or set gradient_clip (1.0): not every fold kept its numbers."
    if result.validation_collapsed:
        return "Set class_weights to 'balanced', or a smaller labels.width: one class took all."
    if gap > GAP:
        return f"Raise dropout_rate or weight_decay: training is {gap:.2f} above validation."
    if training.final_val_accuracy <= result.validation_majority:
        return "Try a strategy of another idea: nothing was found on the validation rows."
    if training.best_epoch == epochs:
        return "Raise epochs: validation was still improving at the last one."
    if seeds == 1:
        return "Set seeds to 5: the spread shows how much of this is the seed's luck."
    return "Compare with another strategy by compare_trainings, on validation only."
