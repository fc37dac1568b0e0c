"""Comparing completed tasks: ranked by validation only, tested in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ktrdr_mcp.contract import responses
from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.lab import replies
from ktrdr_mcp.lab.admission import digest
from ktrdr_mcp.lab.judging import Judged
from ktrdr_mcp.research.comparison import Difference, difference, differing_settings, meaning
from ktrdr_mcp.store.task_row import TaskRow

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
