"""What reports draw and explain_model answers, gathered from stored results, histories and bars."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Final

import numpy as np
from pydantic import ValidationError

from ktrdr_mcp import files
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.timestamps import parse_timestamp
from ktrdr_mcp.errors import InvalidRequest, KtrdrError, StorageError
from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.direction import statistic
from ktrdr_mcp.evaluation.multiple_testing import FamilyJudgement
from ktrdr_mcp.evaluation.verdict import blocks_of, direction_family
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.report.sweep import Candidate
from ktrdr_mcp.report.training import Luck, Price, TrainingReport
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.responses import TrainingStatus
from ktrdr_mcp.schemas.results import Json, JudgedFold, TaskResult
from ktrdr_mcp.schemas.space import STRATEGY
from ktrdr_mcp.service import replies
from ktrdr_mcp.service.evaluation import ReportedTask
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.training.bundle import History, read_manifest
from ktrdr_mcp.training.candidates import value_in
from ktrdr_mcp.training.explain import LEVEL

PRICE_POINTS: Final = 400
NS: Final = 10**9
OTHER_BARS: Final = (
    "The bars cannot be read any more, so that price and buy and hold are not drawn: "
)
EXPLANATION: Final = "explanation.json"  # beside a task's bundle
MOST_EXPLANATION_BYTES: Final = 1024 * 1024
SHOWN_DIGITS: Final = 5

log = logging.getLogger(__name__)


def unfinished_report(row: TaskRow, status: TrainingStatus, epochs: History) -> TrainingReport:
    """What a report of a task without a result draws."""
    return TrainingReport(
        status=status,
        strategy=row.strategy,
        created_at=row.created_at,
        settings=replies.list_differing(row),
        epochs=epochs,
    )


def completed_report(
    reported: ReportedTask,
    status: TrainingStatus,
    epochs: History,
    sources: BarCatalog,
    workspace: Workspace,
) -> TrainingReport:
    """What a report of a completed task draws.

    Args:
        reported: its figures, and those of its family.
        status: where it stands.
        epochs: every epoch; empty where its bundle was removed.
        sources: where bars come from.
        workspace: where bundles and explanations lie.
    """
    row, result = reported.judged.row, reported.judged.result
    notes = [] if epochs else ["The task's bundle was removed, so that its epochs are gone."]
    try:
        price = price_of(row, result, sources)
    except KtrdrError as error:
        price = None
        notes.append(f"{OTHER_BARS}{error}")
    blocks = blocks_of(reported.judged.scores)
    return replace(
        unfinished_report(row, status, epochs),
        performance=reported.performance,
        result=result,
        luck=luck_of(direction_family(reported.judged.scores, reported.earlier)),
        fold_statistics=fold_statistics(result, blocks),
        price=price,
        candidates=candidates_of(row, workspace) if epochs and result.sweep else (),
        explanation=read_kept(workspace, row.task_id),
        notes=notes,
    )


def luck_of(family: FamilyJudgement) -> Luck | None:
    """What T reaches by luck, alone and in the family; None without blocks.

    The draws are those of the verdict, which are not stored: the signs are seeded, so that judging
    again gives the same ones.
    """
    if not len(family.draws):
        return None
    return Luck(family.draws, family.statistic, family.luck_upper, family.critical, family.trials)


def candidates_of(row: TaskRow, workspace: Workspace) -> list[Candidate]:
    """The candidates of a search that have a score, with every setting that varied."""
    found = read_manifest(workspace.bundle_directory(row.task_id)).candidates or []
    names = dict.fromkeys(name for each in found for name in each.settings)
    own = {name: row.strategy if name == STRATEGY else value_in(row.config, name) for name in names}
    return [
        Candidate(each.number, own | each.settings, each.score)
        for each in found
        if each.score is not None
    ]


def fold_statistics(result: TaskResult, blocks: BlockSums) -> list[float]:
    """T of each judged fold alone: of the blocks whose middle lies in the time that it tested."""
    middle = (blocks.start + blocks.stop) / 2
    found = []
    for fold in result.walk_forward.folds:
        if isinstance(fold, JudgedFold):
            first, last = (parse_timestamp(each, "test", end_of_day=False) for each in fold.test)
            inside = (middle >= first) & (middle <= last)
            found.append(statistic(blocks.sums[inside]) if inside.any() else 0.0)
    return found


def price_of(row: TaskRow, result: TaskResult, sources: BarCatalog) -> Price:
    """Closes of the bars that the training used, thinned out evenly. Raises KtrdrError."""
    bars = sources.load(row.symbol, row.timeframe).bars
    first, last = (
        int(np.searchsorted(bars.time, parse_timestamp(each, "data", end_of_day=False)))
        for each in (result.data.first_bar, result.data.last_bar)
    )
    stop = min(last + 1, len(bars))
    chosen = np.unique(np.linspace(first, stop - 1, min(PRICE_POINTS, stop - first)).astype(int))
    return Price((bars.time[chosen] / NS).tolist(), bars.close[chosen].tolist())


def require_one(request: requests.ExplainModel) -> None:
    """Refuses neither and both. Raises InvalidRequest."""
    if (request.model_name is None) == (request.task_id is None):
        raise InvalidRequest(
            "Name the model or the task.",
            hint="Send model_name or task_id, not both.",
            field="model_name",
        )


def reply(task_id: str, found: Json, readings: int) -> responses.Explanation:
    """What was found, as a reply.

    Args:
        task_id: of the task.
        found: a `training.explain.Explanation` as JSON.
        readings: how often the task's test results have been read.
    """
    groups = [
        responses.GroupImportance(
            group=each["group"],
            importance=round(each["importance"], SHOWN_DIGITS),
            error=round(each["error"], SHOWN_DIGITS),
            p=round(each["p"], SHOWN_DIGITS - 1),
        )
        for each in found["groups"]
    ]
    return responses.Explanation(
        task_id=task_id,
        summary=summary(groups, found["blocks"]),
        groups=groups,
        response=found["response"],
        rules=found["rules"],
        rows=found["rows"],
        blocks=found["blocks"],
        test_readings=readings,
        critical=None if found["critical"] is None else round(found["critical"], SHOWN_DIGITS - 1),
        details=f"explanation://{task_id}",
    )


def keep(workspace: Workspace, explained: responses.Explanation) -> None:
    """Keeps an explanation for the task's report; a disk that takes nothing refuses none."""
    path = workspace.task_directory(explained.task_id) / EXPLANATION
    try:
        files.replace(path, files.json_bytes(explained.model_dump(mode="json")))
    except StorageError as error:
        log.warning("the explanation of %s is not kept: %s", explained.task_id, error.message)


def read_kept(workspace: Workspace, task_id: str) -> responses.Explanation | None:
    """What `keep` wrote; None if it is not there or not what was written."""
    path = workspace.task_directory(task_id) / EXPLANATION
    try:
        if path.is_symlink() or path.stat().st_size > MOST_EXPLANATION_BYTES:
            return None
        return responses.Explanation.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, ValidationError):
        return None


def summary(groups: list[responses.GroupImportance], blocks: int) -> str:
    """What follows, in one sentence."""
    found = [each.group for each in groups if each.p <= LEVEL]
    tested = f"{len(groups)} indicator{'s' if len(groups) > 1 else ''}, {blocks} blocks"
    if not found:
        return f"None is distinguishable from zero at 2 % over all ({tested})."
    others = len(groups) - len(found)
    rest = "" if not others else f", {others} other{'s are' if others > 1 else ' is'} not"
    return f"{', '.join(found)}: distinguishable from zero at 2 % over all{rest} ({tested})."
