"""Performance and comparison of completed tasks, judged anew at each reading."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio.to_thread

from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.evaluation.compare import Difference, difference, differing_settings, meaning
from ktrdr_mcp.evaluation.multiple_testing import overfitting
from ktrdr_mcp.evaluation.verdict import leak_suspected, leak_tested, next_step, verdict
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.service import replies
from ktrdr_mcp.service.training import digest
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.trials import Trial, TrialLog

REMEMBERED = 256  # verdicts; a family that has grown is judged anew
MEASURED_DIGITS = 6  # of what others recompute
SHOWN_DIGITS = 4  # of what only a reader compares

FamilyState = tuple[str, int, int]


@dataclass(frozen=True)
class Judged:
    """A task's verdict and what the ledger keeps of it."""

    verdict: dict[str, Any]
    scores: dict[str, Any]


class Judge:
    """Judges completed tasks among all trials of their family.

    Args:
        ledger: what was tried on which test window.
    """

    def __init__(self, ledger: TrialLog) -> None:
        self._ledger = ledger
        self._verdicts: OrderedDict[FamilyState, dict[str, Any]] = OrderedDict()

    async def performance(self, row: TaskRow) -> responses.ModelPerformance:
        """A task's figures; counts as a reading of its test results.

        Args:
            row: the task.
        Raises:
            TaskNotCompleted: it has none.
        """
        if row.status != "completed" or row.result is None:
            raise replies.not_completed(row)
        family = await self._family(row)
        judged = await self._judged(row, family)
        readings = await self._ledger.count_reading(row.task_id)
        return performance_reply(row, family, judged, readings)

    async def comparable(self, row: TaskRow) -> Judged:
        """A completed task's verdict and scores; counts as a reading of its test results."""
        family = await self._family(row)
        judged = await self._judged(row, family)
        await self._ledger.count_reading(row.task_id)
        return Judged(judged, await anyio.to_thread.run_sync(own_scores, row, family))

    async def whole(self, row: TaskRow) -> dict[str, Any]:
        """All that is said of a completed task's worth; counts as a reading of its results."""
        family = await self._family(row)
        return {
            "verdict": await self._judged(row, family),
            "overfitting": await anyio.to_thread.run_sync(overfitting_of, row, family),
            "test_readings": await self._ledger.count_reading(row.task_id),
        }

    async def _family(self, row: TaskRow) -> list[Trial]:
        """Every trial on the task's test window, its own included."""
        if row.test_start is None or row.test_end is None:
            return []
        return await self._ledger.family(row.symbol, row.test_start, row.test_end)

    async def _judged(self, row: TaskRow, family: list[Trial]) -> dict[str, Any]:
        """The verdict, from memory if the family has not changed."""
        scored = sum(trial.stored_scores is not None for trial in family)
        state = (row.task_id, len(family), scored)
        if state not in self._verdicts:
            judged = await anyio.to_thread.run_sync(judge, row, family)
            self._verdicts[state] = judged
            while len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
        return self._verdicts[state]


def judge(row: TaskRow, family: list[Trial]) -> dict[str, Any]:
    """One task's verdict among its family."""
    number = next(index for index, trial in enumerate(family) if trial.task_id == row.task_id)
    own = family[number]
    others = [trial.scores() for trial in family if trial is not own]
    labels = row.config["labels"]
    return verdict(own.scores() or {}, others, number + 1, row.result or {}, labels)


def overfitting_of(row: TaskRow, family: list[Trial]) -> dict[str, Any]:
    """What choosing among its family does to one task's Sharpe ratio."""
    others = [trial.scores() for trial in family if trial.task_id != row.task_id]
    return overfitting(own_scores(row, family), others)


def own_scores(row: TaskRow, family: list[Trial]) -> dict[str, Any]:
    """What the ledger keeps of a completed task."""
    return next(trial.scores() for trial in family if trial.task_id == row.task_id) or {}


def performance_reply(
    row: TaskRow, family: list[Trial], judged: dict[str, Any], readings: int
) -> responses.ModelPerformance:
    """What an agent decides by; the rest is in the resource."""
    metrics = row.result or {}
    shown = rounded_all(
        {name: metrics[name] for name in ("baselines", "trading", "seeds")}, SHOWN_DIGITS
    )
    twins = own_scores(row, family)["twins"]
    return responses.ModelPerformance(
        task_id=row.task_id,
        verdict=responses.Verdict(**judged),
        training_metrics=rounded_all(metrics["training_metrics"], MEASURED_DIGITS),
        test_metrics=rounded_all(metrics["test_metrics"], MEASURED_DIGITS),
        baselines=shown["baselines"],
        beats_linear=metrics["beats_linear"],
        trading=shown["trading"],
        model_info=metrics["model_info"],
        collapsed=metrics["collapsed"],
        leak_suspected=leak_suspected(twins) if leak_tested(twins) else None,
        seeds=shown["seeds"],
        test_readings=readings,
        next=next_step(metrics, row.config),
        details=metrics["details"],
    )


def rounded_all(value: Any, digits: int) -> Any:
    """A tree of figures, each number with as many digits as a reply needs."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {name: rounded_all(each, digits) for name, each in value.items()}
    return value


HASH_CHARACTERS: Final = 12  # enough to tell a few contents apart


def require_comparable(rows: Sequence[TaskRow]) -> None:
    """Refuses tasks without a result, named twice, or on different symbols.

    Raises:
        TaskNotCompleted: names the task.
        InvalidRequest: names what differs.
    """
    for row in rows:
        if row.status != "completed":
            raise replies.not_completed(row)
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


def comparison(rows: Sequence[TaskRow], judged: Sequence[Judged]) -> responses.Comparison:
    """The reply.

    Args:
        rows: the tasks.
        judged: each one's verdict and scores, in the same order.
    """
    verdicts, scores = [each.verdict for each in judged], [each.scores for each in judged]
    order = sorted(range(len(rows)), key=lambda index: -gain(rows[index]))
    tasks = [
        compared(rows[index], verdicts[index], scores[index], rank)
        for rank, index in enumerate(order, start=1)
    ]
    best, *rest = order
    found = [difference(scores[best], scores[index]) for index in rest]
    tests = [paired(rows[best], rows[index], one) for index, one in zip(rest, found, strict=True)]
    differences = differing_settings([settings_of(rows[index]) for index in order])
    if "strategy" in differences:
        differences.pop("strategy_sha256", None)
    return responses.Comparison(
        tasks=tasks,
        differences=differences,
        tests=tests,
        summary=summary(tasks, found, differences),
    )


def settings_of(row: TaskRow) -> dict[str, Any]:
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


def gain(row: TaskRow) -> float:
    """Validation accuracy above that of always answering the validation rows' majority class."""
    result = row.result or {}
    accuracy: float = result["training_metrics"]["final_val_accuracy"]
    majority: float = result["validation_majority"]
    return accuracy - majority


def compared(
    row: TaskRow, verdict: dict[str, Any], scores: dict[str, Any], rank: int
) -> responses.ComparedTask:
    """One task of the reply."""
    result = row.result or {}
    return responses.ComparedTask(
        task_id=row.task_id,
        rank=rank,
        val_gain=replies.rounded(gain(row)),
        val_accuracy=replies.rounded(result["training_metrics"]["final_val_accuracy"]),
        val_loss=replies.rounded(result["training_metrics"]["final_val_loss"]),
        test_accuracy=replies.rounded(result["test_metrics"]["test_accuracy"]),
        prediction=verdict["prediction"],
        statistic=replies.rounded(scores["direction"]["statistic"]),
    )


def paired(first: TaskRow, second: TaskRow, found: Difference | None) -> responses.PairedDifference:
    """The first-ranked task against another."""
    return responses.PairedDifference(
        first=first.task_id,
        second=second.task_id,
        difference=0.0 if found is None else replies.rounded(found.statistic),
        p=1.0 if found is None else replies.rounded(found.p),
        meaning=meaning(found),
    )


def summary(
    tasks: Sequence[responses.ComparedTask],
    found: Sequence[Difference | None],
    differences: Mapping[str, Any],
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
