"""The reply to explain_model: what a completed task's networks learned, in words and figures."""

from __future__ import annotations

import json
import logging
from typing import Final

from pydantic import ValidationError

from ktrdr_mcp import files
from ktrdr_mcp.errors import InvalidRequest, StorageError
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.results import Json
from ktrdr_mcp.training.explain import LEVEL

KEPT: Final = "explanation.json"  # beside a task's bundle
LARGEST_BYTES: Final = 1024 * 1024
SHOWN_DIGITS: Final = 5

log = logging.getLogger(__name__)


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
    path = workspace.task_directory(explained.task_id) / KEPT
    try:
        files.replace(path, files.json_bytes(explained.model_dump(mode="json")))
    except StorageError as error:
        log.warning("the explanation of %s is not kept: %s", explained.task_id, error.message)


def read_kept(workspace: Workspace, task_id: str) -> responses.Explanation | None:
    """What `keep` wrote; None if it is not there or not what was written."""
    path = workspace.task_directory(task_id) / KEPT
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST_BYTES:
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
