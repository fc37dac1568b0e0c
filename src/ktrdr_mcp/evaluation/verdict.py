"""The verdict: directional skill, whether it survives costs, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Literal, NamedTuple

from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.direction import (
    MOST_TIMES_LONGER,
    POWER_QUANTILE,
    DirectionalTest,
    blocks_for_power,
    detectable_accuracy,
)
from ktrdr_mcp.evaluation.multiple_testing import (
    CRITICAL_P,
    EarlierTrials,
    FamilyJudgement,
    judge_in_family,
    level_of_trial,
)
from ktrdr_mcp.labels.registry import tells_past
from ktrdr_mcp.schemas.responses import Verdict
from ktrdr_mcp.schemas.results import Alarm, EdgeScores, FailedFolds, TaskResult, TrialScores

OTHER_LABELS: Final = "Labels that tell the future only, such as triple_barrier."
NO_LEAK: Final = "Features that do not look ahead."
LIVING_MODEL: Final = "A lower learning_rate, or another seed: the output must depend on features."
FINITE_FOLDS: Final = "A lower learning_rate, or gradient_clip, so that no fold diverges."
RETURNING_INPUTS: Final = (
    "Inputs that return to a level, such as close over its average, or more training rows."
)
OTHER_BARS: Final = "Bars as they can be traded, or a cost above the half-spread."
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
        wandering: features with a unit root on the training rows. Scores that wander as prices do
            are called skill on noise in 4 to 6 % instead of 2.
        alarms: what makes the result too good to be true.
        free: whether trading was taken to cost nothing.
        constant: no fold tells its tested rows apart.
    """

    answer: str | None = None
    model_constant: bool = False
    leak_suspected: bool = False
    tells_past: bool = False
    folds: FailedFolds = NONE_FAILED
    untested: FailedFolds = NONE_FAILED
    wandering: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    free: bool = False
    constant: bool = False

    def objection(self) -> Objection | None:
        """The gravest ground against `skill`, if there is one."""
        if self.tells_past:
            return Objection("but labels that tell the past can be right on noise", OTHER_LABELS)
        if self.wandering:
            names = ", ".join(self.wandering[:WANDERING_NAMED])
            clause = f"but {names} wander (unit root): noise gains by that"
            return Objection(clause, RETURNING_INPUTS)
        return self.model_objection()

    def trading_objection(self) -> Objection | None:
        """The gravest ground against `survives_costs`: gains need no labels, so these may tell."""
        if any(alarm.of_data for alarm in self.alarms):
            return Objection("but the bars are suspect", OTHER_BARS)
        if self.free:
            return Objection("but at no cost", "A cost_bps above 0.")
        return self.model_objection()

    def model_objection(self) -> Objection | None:
        """The gravest ground that lies in the networks."""
        if self.leak_suspected:
            return Objection("but noise is foreseen, too: a leak", NO_LEAK)
        if self.folds.lost:
            needs = FINITE_FOLDS if self.folds.diverged else USABLE_FOLDS
            return Objection(f"but {describe_failures(self.folds, 'folds')}", needs)
        if self.constant:
            return Objection("but the output is constant", LIVING_MODEL)
        if self.model_constant:
            return Objection("but the kept model says the same of every row", LIVING_MODEL)
        return None

    def conditions(self) -> list[str]:
        """What the verdict rests on that is not as planned, each as a clause."""
        answer = self.answer and f"the kept model answers {self.answer} on every row"
        folds = describe_failures(self.folds, "folds")
        possible = (answer, folds, describe_failures(self.untested, "twins"))
        return [clause for clause in possible if clause]

    def notes(self, reason: str) -> str:
        """What a reason says besides, alarms first, each clause after a semicolon.

        What has no room there is in the details.
        """
        known = [*(alarm.text for alarm in self.alarms), *self.conditions()]
        clauses = [clause for clause in known if clause not in reason]
        more = ["see details"] if len(clauses) > NOTES else []
        return "".join(f"; {clause}" for clause in [*clauses[:NOTES], *more])


MIN_BLOCKS: Final = 15  # of two horizons, for trading
MIN_TESTED_BLOCKS: Final = 8  # of six horizons, for the direction
NO_TIMING_P: Final = 0.9  # of the trial alone
WANDERING_NAMED: Final = 2
NOTES: Final = 1  # clauses after a reason
# Of four. Measured with the default strategy on AAPL: in 350 groups of twins (250 of 1h, 100 of
# 1d), two or more had p <= 0.02 in 4, three in none. A feature that peeks one bar ahead, also under
# twice its own size of noise, and a centred average gave three or more in 199 of 200 groups.
TWINS_FOR_SUSPICION: Final = 3
# Of scores, never of one class on every row: the final split got one class in 7 of 8 series with a
# planted signal (q 0.25, L 24, labels.width 1.3; all 8 had p <= 0.02) and in 70 of 70 of garch
# noise at that width, where none had p <= 0.02. T alone tells them apart.
CONSTANT: Final = "Its output is constant: the same answer to every tested row has no edge"
NO_CAVEATS: Final = Caveats()

Prediction = Literal["no_skill", "inconclusive", "skill"]
Trading = Literal["loses", "no_timing", "inconclusive", "survives_costs"]


@dataclass(frozen=True)
class PredictionVerdict:
    """The verdict and the sentence that decided.

    Args:
        prediction: the verdict.
        reason: the sentence.
        needs: the bars for 80 % power or the smallest detectable accuracy; None if it is settled.
    """

    prediction: Prediction
    reason: str
    needs: str | None


@dataclass(frozen=True)
class TradingVerdict:
    """The verdict on trading.

    Args:
        trading: the verdict.
        reason: the sentence that decided.
        needs: the bars that would settle it, or what would remove the objection.
        objection: what withholds `survives_costs`, as it continues a sentence.
        is_short: whether there are too few blocks to judge.
    """

    trading: Trading
    reason: str
    needs: str | None = None
    objection: str | None = None
    is_short: bool = False


def prediction_verdict(
    test: DirectionalTest,
    family: FamilyJudgement,
    bars: int,
    caveats: Caveats,
    trading: Trading = "inconclusive",
) -> PredictionVerdict:
    """Judges the direction of the predictions.

    Args:
        test: on the pooled walk-forward predictions.
        family: the same, among the trials on these bars before it.
        bars: how many bars the training used in all; `needs` speaks of these.
        caveats: what else is known.
        trading: the verdict on trading the same predictions.
    """
    prediction, reason = decide_prediction(test, family, caveats, trading)
    reason = f"{reason}{caveats.notes(reason)}."
    if test.constant:
        return PredictionVerdict(prediction, reason, LIVING_MODEL)
    if prediction != "inconclusive":
        return PredictionVerdict(prediction, reason, None)
    objection = caveats.objection()
    needs = objection.needs if objection else describe_needs(test, family, bars)
    return PredictionVerdict(prediction, reason, needs)


def decide_prediction(
    test: DirectionalTest, family: FamilyJudgement, caveats: Caveats, trading: Trading
) -> tuple[Prediction, str]:
    """The verdict and the beginning of its sentence; arguments as of `prediction_verdict`."""
    blocks = test.tested_blocks
    evidence = f"T {test.statistic:z.1f} on {blocks} blocks of {test.width_bars} bars"
    if test.constant:
        return "no_skill", CONSTANT
    excluded = excluded_edges(test.edge)
    also = f"; {excluded}" if excluded else ""
    if blocks < MIN_TESTED_BLOCKS:
        return "inconclusive", f"{evidence}: a verdict needs {MIN_TESTED_BLOCKS} blocks{also}"
    adjusted = "p" if family.trials == 1 else "adjusted p"
    level = level_text(family.level)
    evidence = f"{evidence}, {adjusted} {p_text(family.adjusted_p)} (level {level})"
    if family.adjusted_p <= family.level:
        if objection := caveats.objection():
            return "inconclusive", f"{evidence}, {objection.clause}{also}"
        return "skill", f"{evidence}: direction is foreseen"
    if test.edge is None or largest_edge(test.edge) >= test.edge.break_even:
        return "inconclusive", f"{evidence}: luck not ruled out{also}"
    if trading == "survives_costs":
        return "inconclusive", f"{evidence}: luck not ruled out{also}, yet trading earns its costs"
    return "no_skill", f"{evidence}: {excluded}, and trading needs {test.edge.break_even:.1%}"


def excluded_edges(edge: EdgeScores | None) -> str:
    """Which edges are excluded, as a clause; empty where none is."""
    bound = 1.0 if edge is None else largest_edge(edge)
    return f"edges above {bound:.1%} are excluded (95 %)" if bound < 1 else ""


def largest_edge(edge: EdgeScores) -> float:
    """The upper 95 % bound of the accuracy, as if up and down came equally often."""
    return edge.high - edge.base_rate + 0.5


def describe_needs(test: DirectionalTest, family: FamilyJudgement, bars: int) -> str:
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
        return f"About {format_bars(bars * max(longer, 1))} bars for 80 % power ({bars:,} used)."
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
    timing: FamilyJudgement,
    upper_mean_net_return: float,
    bars: int,
    caveats: Caveats = NO_CAVEATS,
) -> TradingVerdict:
    """Judges the result of trading after costs.

    Args:
        blocks: how many blocks of two horizons there are.
        net_total_return: a fraction, after costs.
        timing: of what timing earns after its costs, among the trials before it.
        upper_mean_net_return: upper 95 % bound of the mean net return per bar.
        bars: how many bars the training used in all.
        caveats: what else is known.
    """
    net = f"net {net_total_return:+.1%}"
    if blocks < MIN_BLOCKS:
        short = f"{net} on {blocks} blocks: a verdict needs {MIN_BLOCKS}."
        needs = bars_for_trading(MIN_BLOCKS / max(blocks, 1), bars)
        return TradingVerdict("inconclusive", short, needs, is_short=True)
    if upper_mean_net_return < 0:
        return TradingVerdict("loses", f"{net}: the upper 95 % bound of its mean is below zero.")
    found = f"{net}, timing p {p_text(timing.adjusted_p)}"
    if timing.p >= NO_TIMING_P:
        gained = ": what it gained is drift" if net_total_return > 0 else ""
        return TradingVerdict("no_timing", f"{found}{gained}.")
    needs = bars_for_trading(times_for_timing(timing), bars)
    if timing.adjusted_p > timing.level:
        return TradingVerdict("inconclusive", f"{found}: luck not ruled out.", needs)
    if net_total_return <= 0:
        return TradingVerdict("inconclusive", f"{found}: well timed, yet nothing is left.", needs)
    if objection := caveats.trading_objection():
        withheld = f"{found}, {objection.clause}."
        return TradingVerdict("inconclusive", withheld, objection.needs, objection=objection.clause)
    return TradingVerdict("survives_costs", f"{found}.")


def times_for_timing(timing: FamilyJudgement) -> float:
    """How many times as long a series would settle the timing with a probability of 80 %.

    A good one would reach its level, a bad one be called `no_timing`; infinite where it is neither.
    """
    quantile = NormalDist().inv_cdf
    observed = quantile(1 - min(max(timing.p, 1e-9), 1 - 1e-9))
    wanted = quantile(1 - timing.level) if observed > 0 else quantile(NO_TIMING_P)
    return ((wanted + POWER_QUANTILE) / observed) ** 2 if observed else math.inf


def bars_for_trading(longer: float, bars: int) -> str:
    """How many bars would settle trading.

    Args:
        longer: how many times as many as there are.
        bars: how many the training used in all.
    """
    if longer > MOST_TIMES_LONGER:
        return f"Timing: more than {format_bars(bars * MOST_TIMES_LONGER)} bars."
    return f"Timing: about {format_bars(bars * max(longer, 1))} bars."


def leak_suspected(twin_p: list[float]) -> bool:
    """Whether too many surrogates were foreseen (p <= 0.02); there is nothing to foresee."""
    return sum(p <= CRITICAL_P for p in twin_p) >= TWINS_FOR_SUSPICION


def leak_tested(twin_p: list[float]) -> bool:
    """Whether there were twins enough for a leak to show."""
    return len(twin_p) >= TWINS_FOR_SUSPICION


def luck_line(family: FamilyJudgement, earlier: EarlierTrials) -> str:
    """One line for a reply: what luck reaches in as many trials, and what has been spent.

    Args:
        family: the trial's judgement.
        earlier: what it is judged beside.
    """
    line = f"luck T {family.luck_mean:z.1f}, level T {family.critical:.1f}"
    spent, other = [], earlier.stream.place - 1
    if before := earlier.number - 1:
        s = "s" if before > 1 else ""
        spent.append(f"{before} trial{s} on these bars{whose(before, earlier.elsewhere)}")
    if other:
        spent.append(f"{other} famil{'ies' if other > 1 else 'y'} on other bars")
    if spent:
        line += f"; spent: {', '.join(spent)}"
    if not earlier.recorded:
        line += "; only this workspace's trials are counted"
    return line


def whose(trials: int, elsewhere: int) -> str:
    """How many of some trials are of other workspaces, behind their number; empty if none is."""
    if not elsewhere:
        return ""
    if elsewhere < trials:
        return f" ({elsewhere} in other workspaces)"
    return f" ({'all ' if trials > 1 else ''}in other workspaces)"


def p_text(p: float) -> str:
    """A p as people read it: two digits, three below 0.1."""
    if p < 0.001:
        return "below 0.001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def level_text(level: float) -> str:
    """A level as people read it: two digits."""
    return f"{level:.2g}"


def format_bars(bars: float) -> str:
    """A number of bars with two significant digits, rounded up."""
    unit = 10 ** max(math.floor(math.log10(max(bars, 1))) - 1, 0)
    return f"{math.ceil(bars / unit) * unit:,}"


def verdict(
    own: TrialScores,
    earlier: EarlierTrials,
    result: TaskResult,
    labels: Mapping[str, Any],
) -> Verdict:
    """Judges one trial among those of its family that came before it.

    Args:
        own: the trial's scores.
        earlier: what had been tried when it completed.
        result: what its training measured.
        labels: its complete labels configuration.
    """
    test = DirectionalTest.of(own.direction)
    family = direction_family(own, earlier)
    caveats = caveats_of(own, result, labels)
    trading = trading_verdict(
        blocks=len(own.trading.timing_blocks.sums),
        net_total_return=own.trading.net_total_return,
        timing=timing_family(own, earlier),
        upper_mean_net_return=own.trading.mean_net_high,
        bars=result.data.bars,
        caveats=caveats,
    )
    prediction = prediction_verdict(test, family, result.data.bars, caveats, trading.trading)
    skill = prediction.prediction == "skill"
    holds = None if earlier.stream.place == 1 else family.adjusted_p <= earlier.level_across
    traded = trading.reason
    if (ground := caveats.trading_objection()) and f", {ground.clause}" in prediction.reason:
        traded = traded.replace(f", {ground.clause}", ", likewise")
    reason = f"{prediction.reason} Trading: {traded}"
    if skill and trading.trading in {"loses", "no_timing"}:
        reason += " Foreseen, but not worth the costs."
    if skill and holds is False:
        reason += f" {across_text(family, earlier)}"
    needs = dict.fromkeys(each for each in (prediction.needs, trading.needs) if each)
    return Verdict(
        prediction=prediction.prediction,
        trading=trading.trading,
        reason=reason,
        needs=" ".join(needs) or None,
        as_of_trial=family.trials,
        luck=luck_line(family, earlier),
        trials_since=earlier.since,
        level=float(f"{family.level:.2g}"),
        holds_across=holds,
        suspect=[alarm.name for alarm in own.alarms],
        rows=rows_of_verdict(result),
    )


def across_text(family: FamilyJudgement, earlier: EarlierTrials) -> str:
    """What a skill that does not hold across families is told.

    Args:
        family: the trial's judgement.
        earlier: what it is judged beside.
    """
    asked = earlier.level_across
    told = f"p {level_text(family.adjusted_p)}, level {level_text(asked)}"
    if asked < family.least_p:
        told = f"level {level_text(asked)}, and no p below {level_text(family.least_p)} is measured"
    return f"Skill as the only thing tried; {earlier.stream.place} stretches of bars were: {told}."


def rows_of_verdict(result: TaskResult) -> str:
    """Which rows verdict, edge and trading speak of."""
    walked = result.walk_forward
    first, last = (moment[:10] for moment in walked.tested)
    what = f"{walked.used} folds" if walked.used else "last part"
    return f"{what}, {first} to {last}"


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
        wandering=tuple(own.wandering),
        alarms=tuple(own.alarms),
        free=own.trading.cost_bps == 0,
        constant=own.direction.constant,
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


def direction_family(own: TrialScores, earlier: EarlierTrials) -> FamilyJudgement:
    """The trial's directional test among those of the trials before it."""
    return judge_in_family(
        blocks_of(own),
        [blocks_of(each) for each in earlier.scored],
        earlier.missing,
        level=earlier.level,
        level_across=earlier.level_across,
    )


def timing_family(own: TrialScores, earlier: EarlierTrials) -> FamilyJudgement:
    """The trial's timing after costs among that of the trials before it."""
    blocks = [BlockSums.of(scores.trading.timing_blocks) for scores in (own, *earlier.scored)]
    return judge_in_family(
        blocks[0],
        blocks[1:],
        earlier.missing,
        own_p=own.trading.timing_p,
        level=earlier.level,
    )


LONG_HORIZON: Final = 24  # bars, beyond which a shorter one is suggested
GAP: Final = 0.15  # training accuracy above validation accuracy


SUSPECT_NEXT: Final = (
    "Look at the bars first (suspect); then train on another source of the same bars.",
    "Train with control: true (suspect): a leak is foreseen in sign-flipped bars, too.",
    "Explain the model (suspect): the indicator that it lives on may hold the future.",
)
UNPROFITABLE_NEXT: Final = (
    "Trade less: a confidence_threshold or a longer labels.horizon, so that costs are earned.",
    "Set cost_bps to what you really pay, if that is below break_even_cost_bps.",
    "Try it on a longer timeframe: its moves are larger beside the same costs.",
)
CROWDED_NEXT: Final = (
    "Wait for fresh bars, and backtest it unchanged: more bars of the past only ask for more.",
    "Train once more with another seed, then backtest it unchanged on bars newer than these.",
)
SOUND_NEXT: Final = (
    "Train once more with another seed; if it holds, on other bars, then save it.",
    "Try it unchanged on other bars; if it holds there, save it and wait for fresh bars.",
    "Save it, and backtest it on bars that come after the training, as they come.",
)


def next_step(result: TaskResult, config: Mapping[str, Any], judged: Verdict) -> str:
    """What to do next; never twice the same in a row.

    Args:
        result: what a completed training measured.
        config: its effective configuration.
        judged: its verdict.
    """
    if judged.prediction == "skill":
        return after_skill(judged)
    training = result.training_metrics
    gap = training.final_train_accuracy - training.final_val_accuracy
    if any(fold.lost == "diverged" for fold in result.walk_forward.folds):
        return "Lower learning_rate, or set gradient_clip (1.0): not every fold kept its numbers."
    advice = []
    if result.validation_collapsed:
        advice.append(
            "Set class_weights to 'balanced', or finer labels (width, threshold): one takes all."
        )
    if gap > GAP:
        advice.append(
            f"Raise dropout_rate or weight_decay: training is {gap:.2f} above validation."
        )
    if training.final_val_accuracy <= result.validation_majority:
        advice.append("Try a strategy of another idea: nothing was found on the validation rows.")
    if training.best_epoch == config["epochs"]:
        advice.append("Raise epochs: validation was still improving at the last one.")
    searched = config.get("sweep") or {"vary": {}}
    horizon = config["labels"].get("horizon")  # not all methods have one
    if config["seeds"] == 1:
        advice.append("Set seeds to 5: the spread shows how much of this is the seed's luck.")
    if not searched["vary"]:
        advice.append("Set sweep to search many settings at once: it counts as one trial.")
    if horizon is not None and "labels.horizon" not in searched["vary"]:
        advice.append(
            f"Try another labels.horizon: what is not foreseen in {horizon} bars may be in"
            f" {3 * horizon if horizon <= LONG_HORIZON else horizon // 3}."
        )
    later = judged.as_of_trial + 1
    asked = f"trial {later} on these must reach p {level_text(level_of_trial(later))}"
    advice.append(f"Stop here, or use a longer range or other bars: {asked}.")
    ending = [
        f"Stop here, and backtest what you have on bars that come after these: {asked}.",
        f"Stop here, or take the idea to another symbol: {asked}.",
        advice[-1],
    ]
    beyond = judged.as_of_trial - len(advice) - 1
    return advice[judged.as_of_trial - 1] if beyond < 0 else ending[beyond % len(ending)]


def after_skill(judged: Verdict) -> str:
    """What to do with a direction that is foreseen: first what stands against it."""
    advice: tuple[str, ...]
    if judged.suspect:
        advice = SUSPECT_NEXT
    elif judged.trading in {"loses", "no_timing"}:
        advice = UNPROFITABLE_NEXT
    elif judged.holds_across is False:
        advice = CROWDED_NEXT
    else:
        advice = SOUND_NEXT
    return advice[(judged.as_of_trial - 1) % len(advice)]
