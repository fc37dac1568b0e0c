"""The reply to explain_model: what a completed task's networks learned, in words and figures."""

from __future__ import annotations

from typing import Final

from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.results import Json

LEVEL: Final = 0.02  # of all groups together
SHOWN_DIGITS: Final = 5


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
        details=f"explanation://{task_id}",
    )


def summary(groups: list[responses.GroupImportance], blocks: int) -> str:
    """What follows, in one sentence."""
    found = [each.group for each in groups if each.p <= LEVEL]
    tested = f"{len(groups)} indicator{'s' if len(groups) > 1 else ''}, {blocks} blocks"
    if not found:
        return f"None is distinguishable from zero at 2 % over all ({tested})."
    others = len(groups) - len(found)
    rest = "" if not others else f", {others} other{'s are' if others > 1 else ' is'} not"
    return f"{', '.join(found)}: distinguishable from zero at 2 % over all{rest} ({tested})."
