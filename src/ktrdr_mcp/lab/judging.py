"""A completed task's figures with their verdict, judged anew at each reading."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import anyio.to_thread

from ktrdr_mcp.contract import responses
from ktrdr_mcp.lab import replies
from ktrdr_mcp.learn.judge.verdict import leak_suspected, leak_tested
from ktrdr_mcp.research.advice import next_step
from ktrdr_mcp.research.overfitting import overfitting
from ktrdr_mcp.research.verdict import verdict
from ktrdr_mcp.store.ledger import Ledger, Trial
from ktrdr_mcp.store.task_row import TaskRow

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

    def __init__(self, ledger: Ledger) -> None:
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
