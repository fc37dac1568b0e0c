"""Performance and comparison of completed tasks, judged anew at each reading."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, TypeVar

import anyio.to_thread

from ktrdr_mcp import limits
from ktrdr_mcp.errors import DatabaseError, InvalidRequest, StorageError, TaskNotCompleted
from ktrdr_mcp.evaluation.compare import Difference, difference, differing_settings, meaning
from ktrdr_mcp.evaluation.multiple_testing import (
    EarlierTrials,
    Overfitting,
    level_of_trial,
    overfitting,
)
from ktrdr_mcp.evaluation.verdict import (
    caveats_of,
    direction_family,
    leak_suspected,
    leak_tested,
    level_text,
    next_step,
    verdict,
)
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.results import CandidateResult, TaskResult, TrialScores
from ktrdr_mcp.service import replies
from ktrdr_mcp.service.families import Families, Family
from ktrdr_mcp.service.training import digest
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.trials import AddedTrials, Standing, TrialLog, parse_scores

REMEMBERED: Final = 256  # verdicts, which are fixed when their tasks complete
MEASURED_DIGITS: Final = 6  # of what others recompute
SHOWN_DIGITS: Final = 4  # of what only a reader compares
EDGE_DIGITS: Final = 3
T_DIGITS: Final = 2
BPS_DIGITS: Final = 1
LEFT_TO_RESOURCE: Final = (
    ("seeds", "val_accuracy"),
    ("seeds", "test_accuracy"),
    ("test_metrics", "rows"),
    *(("trading", name) for name in ("gross_bps", "bars", "exposure", "cost_bps")),
    ("verdict", "rows"),
    ("verdict", "trials_since"),
    ("trading", "net_bps"),
)

log = logging.getLogger(__name__)

Figures = TypeVar("Figures", bound=responses.Reply)


@dataclass(frozen=True)
class Judged:
    """A completed task with its verdict and what the trial log keeps of it."""

    row: TaskRow
    result: TaskResult
    verdict: responses.Verdict
    scores: TrialScores
    trial: int  # its number on its test window
    added: int = 0  # trials before it that candidates of other tasks count as
    critical: float | None = None  # the T that skill needs; None where nothing is compared with it
    counts_as: int = 1  # trials, with those that reading or repeating its candidates added

    @property
    def seeds(self) -> responses.SeedFigures | None:
        """The figures over its seeds, and whether its claim depends on them."""
        return self.result.seeds and judge_seeds(self.result.seeds, self.critical)


@dataclass(frozen=True)
class ReportedTask:
    """A completed task with its performance reply and the trials that its verdict counts."""

    judged: Judged
    performance: responses.ModelPerformance
    earlier: EarlierTrials


class Judge:
    """Judges completed tasks among all trials of their family.

    Args:
        trial_log: what was tried on which test window.
        families: which trials are related.
    """

    def __init__(self, trial_log: TrialLog, families: Families) -> None:
        self._trial_log = trial_log
        self._families = families
        self._verdicts: OrderedDict[str, FixedVerdict] = OrderedDict()
        self._unstored: dict[str, tuple[Standing, Mapping[str, str]]] = {}  # by task
        self._settling = asyncio.Lock()

    async def performance(self, row: TaskRow) -> responses.ModelPerformance:
        """A task's figures; counts as a reading of its test results.

        Args:
            row: the task.
        Raises:
            TaskNotCompleted: it has none.
        """
        judged = await self._judge_task(row, await self._families.of(row))
        readings = await self._trial_log.count_reading(row.task_id)
        return performance_reply(judged, readings)

    async def report(self, row: TaskRow) -> ReportedTask:
        """All that a report draws of a completed task; counts as a reading of its results."""
        family = await self._families.of(row)
        scores = await self._families.scores(family.scored)
        judged = await self._judge_task(row, family, scores)
        earlier = await anyio.to_thread.run_sync(earlier_trials, family, scores, judged.added)
        readings = await self._trial_log.count_reading(row.task_id)
        return ReportedTask(judged, performance_reply(judged, readings), earlier)

    async def comparable(self, row: TaskRow) -> Judged:
        """A completed task's verdict and scores; counts as a reading of its test results."""
        judged = await self.unread(row)
        await self._trial_log.count_reading(row.task_id)
        return judged

    async def unread(self, row: TaskRow) -> Judged:
        """The same for a caller that counts what it shows."""
        return await self._judge_task(row, await self._families.of(row))

    async def candidate_test(
        self, row: TaskRow, one: CandidateResult, candidates: int
    ) -> responses.CandidateFigures:
        """A candidate's own walk-forward; all candidates of its task are trials from now on.

        Args:
            row: the completed search.
            one: the candidate.
            candidates: how many the search had.
        Raises:
            StorageError: that it was asked for cannot be stored, so nothing is shown.
        """
        judged = await self.unread(row)
        await self._trial_log.add_trials(row.group_id or row.task_id, candidates)
        await self._trial_log.count_reading(row.task_id)
        return candidate_figures(judged, one, candidates)

    async def count_readings(self, rows: Iterable[TaskRow]) -> None:
        """Counts a reading of the test results of each."""
        await self._trial_log.count_readings(*(row.task_id for row in rows))

    async def read_whole(self, row: TaskRow) -> dict[str, object]:
        """All that is said of a completed task's worth; counts as a reading of its results."""
        family = await self._families.of(row)
        others = [*family.before, *family.later]
        scores = await self._families.scores(others)
        judged = await self._judge_task(row, family, scores)
        caveats = caveats_of(judged.scores, judged.result, row.config["labels"])
        return {
            "verdict": judged.verdict.model_dump(),
            "alarms": [alarm.to_json() for alarm in caveats.alarms],
            "notes": caveats.conditions(),
            "overfitting": asdict(
                await anyio.to_thread.run_sync(overfitting_of, judged.scores, others, scores)
            ),
            "test_readings": await self._trial_log.count_reading(row.task_id),
            **with_seeds(judged),
        }

    async def counts_as(self, row: TaskRow) -> int:
        """How many trials a task with several candidates is; no reading."""
        origin = row.group_id or row.task_id
        return trials_of(origin, await self._trial_log.added_trials(origin))

    async def settle(self, row: TaskRow) -> None:
        """Fixes a completed task's verdict; no reading. Raises KtrdrError."""
        await self._judge_task(row, await self._families.of(row))

    async def _judge_task(
        self, row: TaskRow, family: Family, known: Mapping[str, str] | None = None
    ) -> Judged:
        """The verdict, from memory if it has been read before.

        Args:
            row: the task.
            family: the trials that are related to it.
            known: scores of these, as JSON by name, where they have been read.
        Raises:
            TaskNotCompleted: it has no result.
        """
        if row.status != "completed" or row.result is None:
            raise replies.not_completed(row)
        own = await self._trial_log.find_scores([row.task_id])
        scores = await anyio.to_thread.run_sync(scores_of, row.task_id, own)
        origin = row.group_id or row.task_id  # a reproduction is the same trial
        names = {*family.before, origin, *family.later}
        added = [
            each for each in await self._trial_log.added_trials(origin) if each.set_id in names
        ]
        own_before = sum(each.trials for each in added if each.before)
        since = len(family.later) + sum(each.trials for each in added) - own_before
        before = own_before + family.added
        async with self._settling:  # two readers of a new result fix one verdict
            if row.task_id not in self._verdicts:
                if known is None:
                    known = await self._families.scores(family.scored)
                counted = {name: known[name] for name in family.scored if name in known}
                told = await anyio.to_thread.run_sync(judge, row, scores, family, counted, before)
                if not family.is_settled and row.group_id is None:
                    claimed = told.is_claim
                    standing = family.standing(claimed, counted)
                    self._unstored[row.task_id] = (standing, counted)
                self._verdicts[row.task_id] = told
                while len(self._verdicts) > REMEMBERED:
                    self._verdicts.popitem(last=False)
            await self._store_standing(row.task_id)
        fixed = self._verdicts[row.task_id]
        return Judged(
            row,
            row.result,
            fixed.verdict.model_copy(update={"trials_since": since}),
            scores,
            trial=len(family.before) + 1,
            added=before,
            critical=fixed.critical,
            counts_as=trials_of(origin, added),
        )

    async def _store_standing(self, task_id: str) -> None:
        """Keeps what a verdict counted, so that it never changes; tries again at each reading."""
        if task_id not in self._unstored:
            return
        try:
            await self._families.settle(task_id, *self._unstored[task_id])
        except StorageError as error:
            log.warning("the standing of task %s is not stored yet: %s", task_id, error.message)
        else:
            del self._unstored[task_id]


def trials_of(task_id: str, added: Iterable[AddedTrials]) -> int:
    """How many trials a task is, with those that its candidates have added."""
    return 1 + sum(each.trials for each in added if each.set_id == task_id)


@dataclass(frozen=True)
class FixedVerdict:
    """A verdict as it was when its task completed.

    Args:
        verdict: of the task.
        critical: the T that its `skill` needs; None where no seeds are compared with it.
    """

    verdict: responses.Verdict
    critical: float | None

    @property
    def is_claim(self) -> bool:
        """Whether the trial is called skill, also across families."""
        return self.verdict.prediction == "skill" and self.verdict.holds_across is not False


def judge(
    row: TaskRow, own: TrialScores, family: Family, counted: Mapping[str, str], added: int = 0
) -> FixedVerdict:
    """One completed task's verdict.

    Args:
        row: the task.
        own: its scores.
        family: the trials that are related to it.
        counted: scores of those before it, as JSON by name.
        added: trials before it that candidates of other tasks count as.
    Raises:
        DatabaseError: stored scores are not what was written.
    """
    if row.result is None:
        raise replies.not_completed(row)
    earlier = earlier_trials(family, counted, added)
    seeds = row.result.seeds
    spread = seeds is not None and seeds.t_min is not None
    return FixedVerdict(
        verdict(own, earlier, row.result, row.config["labels"]),
        direction_family(own, earlier).critical if spread else None,
    )


def judge_seeds(seeds: responses.SeedFigures, critical: float | None) -> responses.SeedFigures:
    """Figures over seeds, and whether some of these alone reach the T that skill needs."""
    if seeds.t_min is None or seeds.t_max is None or critical is None:
        return seeds
    depends = seeds.t_min < critical <= seeds.t_max
    return seeds.model_copy(update={"depends_on_seed": depends})


def earlier_trials(family: Family, counted: Mapping[str, str], added: int = 0) -> EarlierTrials:
    """The trials that a task's verdict counts beside its own; arguments as of `judge`."""
    scored = [parse_scores(counted[name]) for name in family.scored if name in counted]
    return EarlierTrials(
        scored,
        len(family.before) - len(scored) + added,
        stream=family.stream,
        elsewhere=family.elsewhere,
        recorded=family.recorded,
    )


def candidate_figures(
    judged: Judged, one: CandidateResult, candidates: int
) -> responses.CandidateFigures:
    """A candidate's own walk-forward beside all that it was one of.

    Its block sums are not kept, so the trials before its search and the other candidates count as
    independent (Z. Sidak, 1967), which asks for more, not less.

    Args:
        judged: its search.
        one: the candidate.
        candidates: how many the search had.
    """
    test, number = one.test, judged.verdict.as_of_trial - 1 + candidates
    known = judged.counts_as > 1
    counts = "count them as trials already" if known else f"now count {candidates} trials more"
    told = (
        f"One of {candidates} candidates, chosen after their tests: trainings on these bars"
        f" {counts}."
    )
    return responses.CandidateFigures(
        task_id=judged.row.task_id,
        candidate=one.number,
        settings=one.settings,
        seed=one.seed,
        state=one.state,
        statistic=None if test is None else round(test.statistic, SHOWN_DIGITS),
        p=None if test is None else round(test.p, SHOWN_DIGITS),
        adjusted_p=None if test is None else round(1 - (1 - test.p) ** number, SHOWN_DIGITS),
        level=float(level_text(level_of_trial(number))),
        accuracy=None if test is None else test.accuracy,
        accuracy_error=None if test is None else test.accuracy_error,
        rows=None if test is None else test.rows,
        adds_trials=0 if known else candidates,
        note=told,
    )


def overfitting_of(
    own: TrialScores, others: Sequence[str], scores: Mapping[str, str]
) -> Overfitting:
    """What choosing among its family does to one task's Sharpe ratio. Raises DatabaseError.

    Args:
        own: the task's scores.
        others: names of the other trials of its family.
        scores: what those came to, as JSON by name.
    """
    return overfitting(
        own, [parse_scores(scores[name]) if name in scores else None for name in others]
    )


def scores_of(task_id: str, stored: Mapping[str, str]) -> TrialScores:
    """What the trial log keeps of a completed task. Raises DatabaseError."""
    if task_id not in stored:
        raise DatabaseError(
            f"The scores of task {task_id} are missing in the database.",
            hint="'ktrdr-mcp doctor --verify' says what else is missing.",
        )
    return parse_scores(stored[task_id])


def performance_reply(judged: Judged, readings: int) -> responses.ModelPerformance:
    """What an agent decides by; the rest is in the resource."""
    row, result, surrogate_p = judged.row, judged.result, judged.scores.twins
    trading = responses.TradingFigures.model_validate(result.trading.model_dump())
    return fit_reply(
        responses.ModelPerformance(
            task_id=row.task_id,
            verdict=judged.verdict,
            training_metrics=round_figure(result.training_metrics, SHOWN_DIGITS),
            test_metrics=round_figure(result.test_metrics, SHOWN_DIGITS).model_copy(
                update={"rows": rows_of_tests(result)}
            ),
            baselines=round_figure(result.baselines, EDGE_DIGITS),
            beats_linear=result.beats_linear and not result.collapsed,
            edge=edge_figures(judged.scores),
            trading=round_figure(trading, EDGE_DIGITS).model_copy(
                update={
                    name: None if ends is None else [round(end, BPS_DIGITS) for end in ends]
                    for name, ends in (
                        ("gross_bps", trading.gross_bps),
                        ("net_bps", trading.net_bps),
                    )
                }
            ),
            model_info=result.model_info,
            collapsed=result.collapsed,
            leak_suspected=leak_suspected(surrogate_p) if leak_tested(surrogate_p) else None,
            seeds=judged.seeds and round_seeds(judged.seeds),
            sweep=result.sweep
            and shorten_sweep(result.sweep.model_copy(update={"counts_as": judged.counts_as})),
            test_readings=readings,
            next=next_step(result, row.config, judged.verdict),
            details=result.details,
            report=f"/training/{row.task_id}/report",
        )
    )


def rows_of_tests(result: TaskResult) -> str:
    """Which rows test metrics and baselines speak of, beside those of the verdict."""
    first, last = (moment[:10] for moment in result.test_period)
    return f"kept network, last part, {first} to {last}"


def fit_reply(reply: responses.ModelPerformance) -> responses.ModelPerformance:
    """A reply of bearable length: what does not fit is in the resource that it names."""
    for part, name in LEFT_TO_RESOURCE:
        rest = reply.model_copy(update={"sweep": None})
        if len(rest.model_dump_json().encode()) <= limits.PERFORMANCE_BYTES:
            break
        if (whole := getattr(reply, part)) is not None:
            reply = reply.model_copy(update={part: whole.model_copy(update={name: None})})
    return reply


def edge_figures(scores: TrialScores) -> responses.EdgeFigures | None:
    """How large the directional edge is; None for a trial from before it was measured."""
    edge = scores.direction.edge
    if edge is None:
        return None
    return responses.EdgeFigures(
        accuracy=round(edge.accuracy, EDGE_DIGITS),
        low=round(edge.low, EDGE_DIGITS),
        high=round(edge.high, EDGE_DIGITS),
        base_rate=round(edge.base_rate, EDGE_DIGITS),
    )


def round_figure(figures: Figures, digits: int) -> Figures:
    """Figures with as many digits as a reply needs."""
    return figures.model_validate(round_all(figures.model_dump(), digits))


def round_seeds(seeds: responses.SeedFigures) -> responses.SeedFigures:
    """Figures over seeds with as many digits as a reply needs."""
    found = round_figure(seeds, SHOWN_DIGITS)
    spread = {name: getattr(found, name) for name in ("t_median", "t_min", "t_max")}
    return found.model_copy(update={name: t and round(t, T_DIGITS) for name, t in spread.items()})


def round_all(value: object, digits: int) -> object:
    """A tree of figures, each number with as many digits as a reply needs."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {name: round_all(each, digits) for name, each in value.items()}
    if isinstance(value, list):
        return [round_all(each, digits) for each in value]
    return value


def with_seeds(judged: Judged) -> dict[str, object]:
    """A task's stored figures with those over its seeds as they are judged; empty without any."""
    if judged.seeds is None:
        return {}
    seeds = judged.seeds.model_dump(mode="json")
    return {"performance": {**(judged.row.stored_result or {}), "seeds": seeds}}


def shorten_sweep(sweep: responses.SweepFigures) -> responses.SweepFigures:
    """What a search came to, with the settings of as many of its best as a reply has room for."""
    shown = len(sweep.best)
    while shown and is_long(sweep):
        shown -= 1
        bare = sweep.best[shown].model_copy(update={"settings": None})
        best = [*sweep.best[:shown], bare, *sweep.best[shown + 1 :]]
        cut = f"settings of {len(best) - shown} of the best"
        sweep = sweep.model_copy(update={"best": best, "cut": cut})
    while sweep.matters and is_long(sweep):
        least = min(sweep.matters, key=lambda name: sweep.matters[name])
        matters = {name: share for name, share in sweep.matters.items() if name != least}
        cut = "settings of the best, and some that matter"
        sweep = sweep.model_copy(update={"matters": matters, "cut": cut})
    return sweep


def is_long(sweep: responses.SweepFigures) -> bool:
    """Whether what is said of a search has more bytes than it may have in a reply."""
    return len(sweep.model_dump_json().encode()) > limits.SWEEP_BYTES


HASH_CHARACTERS: Final = 12  # enough to tell a few contents apart


def require_comparable(rows: Sequence[TaskRow]) -> None:
    """Refuses tasks without a result, named twice, or on different symbols.

    Raises:
        TaskNotCompleted: names the task.
        InvalidRequest: names what differs.
    """
    for row in rows:
        if row.status != "completed":
            error = replies.not_completed(row)
            remedy = f"Leave it out of task_ids: only completed tasks compare. {error.hint}"
            raise TaskNotCompleted(error.message, hint=remedy, field="task_ids")
    if len({row.task_id for row in rows}) < len(rows):
        raise InvalidRequest(
            "task_ids names a task twice.", hint="Name each task once.", field="task_ids"
        )
    symbols = sorted({row.symbol for row in rows})
    if len(symbols) > 1:
        raise InvalidRequest(
            f"The tasks are on different symbols: {', '.join(symbols)}.",
            hint="Compare tasks on one symbol.",
            field="task_ids",
        )


def comparison(tasks: Sequence[Judged]) -> responses.Comparison:
    """The reply."""
    ranked = sorted(tasks, key=lambda task: -gain(task.result))
    best, *rest = ranked
    found = [difference(best.scores, other.scores) for other in rest]
    differences = differing_settings([settings_of(task.row) for task in ranked])
    if "strategy" in differences:
        differences.pop("strategy_sha256", None)
    shown = [compare_one(task, rank) for rank, task in enumerate(ranked, start=1)]
    return responses.Comparison(
        tasks=shown,
        differences=differences,
        tests=[
            compare_pair(best.row, other.row, one) for other, one in zip(rest, found, strict=True)
        ],
        summary=summary(shown, found, differences),
    )


def settings_of(row: TaskRow) -> dict[str, object]:
    """Everything that a request decides; a strategy's file may have changed under its name."""
    series = row.spec["series"][0]
    return {
        "strategy": row.strategy,
        "strategy_sha256": digest(row.spec["strategy"])[:HASH_CHARACTERS],
        "timeframe": row.timeframe,
        "start_date": series["start_date"],
        "end_date": series["end_date"],
        **row.config,
    }


def gain(result: TaskResult) -> float:
    """Validation accuracy above that of always answering the validation rows' majority class."""
    return result.training_metrics.final_val_accuracy - result.validation_majority


def compare_one(task: Judged, rank: int) -> responses.ComparedTask:
    """One task of the reply."""
    training = task.result.training_metrics
    return responses.ComparedTask(
        task_id=task.row.task_id,
        rank=rank,
        val_gain=replies.round_figure(gain(task.result)),
        val_accuracy=replies.round_figure(training.final_val_accuracy),
        val_loss=replies.round_figure(training.final_val_loss),
        test_accuracy=replies.round_figure(task.result.test_metrics.test_accuracy),
        prediction=task.verdict.prediction,
        statistic=replies.round_figure(task.scores.direction.statistic),
    )


def compare_pair(
    first: TaskRow, second: TaskRow, found: Difference | None
) -> responses.PairedDifference:
    """The first-ranked task against another."""
    return responses.PairedDifference(
        first=first.task_id,
        second=second.task_id,
        difference=0.0 if found is None else replies.round_figure(found.statistic),
        p=1.0 if found is None else replies.round_figure(found.p),
        meaning=meaning(found),
    )


def summary(
    tasks: Sequence[responses.ComparedTask],
    found: Sequence[Difference | None],
    differences: Mapping[str, object],
) -> str:
    """What follows, in one sentence.

    Args:
        tasks: best validation first.
        found: the first of them against each other one.
        differences: settings that are not the same everywhere.
    """
    best = tasks[0]
    if any(name.startswith("labels.") for name in differences):
        return "Their labels differ, so neither accuracies nor gains compare; see the tests."
    if best.val_gain <= 0:
        return "None beats the majority class on its validation rows; none is worth choosing."
    better = [one.better if one else None for one in found]
    more, less = better.count("first"), better.count("second")
    if more == len(found):
        return f"{best.task_id} is best on validation and foresees more than every other."
    if less:
        return (
            f"{best.task_id} is best on validation, but foresees significantly less than {less} of"
            f" {len(found)} others on the time that both tested, and more than {more}."
        )
    return (
        f"{best.task_id} is best on validation, but not significantly better than"
        f" {len(found) - more} of {len(found)} others."
    )
