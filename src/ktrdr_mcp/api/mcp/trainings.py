"""Trainings as tasks of the protocol: start_training is the tool that begins one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcp.server.context import CallNext, HandlerResult
from mcp.types import CallToolRequestParams, CallToolResult

from ktrdr_mcp.api.mcp.tasks import RequestContext, Task
from ktrdr_mcp.api.mcp.tools import progress_message, success_result
from ktrdr_mcp.api.operations import (
    CANCEL_TRAINING,
    CREATE_TASK_HANDLE,
    READ_TASK_HANDLE,
    START_TRAINING,
    TERMINAL,
    drop_defaults,
)
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas.responses import FollowedTask
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)


class Trainings:
    """The trainings of a service, each under a handle of its own.

    Nobody who knows a training's task_id, which clients choose and lists show, knows its handle.

    Args:
        service: in this process or in another.
    """

    def __init__(self, service: ServiceProtocol) -> None:
        self._service = service

    async def begin(
        self, params: CallToolRequestParams, context: RequestContext, call: CallNext
    ) -> Task | HandlerResult:
        """A task for a training that is under way; every other call is as it was. See TaskSource.

        A training that cannot get a handle runs all the same, and its acknowledgement says how to
        follow it.
        """
        answer = await call(context)
        if params.name != START_TRAINING.name or not isinstance(answer, CallToolResult):
            return answer
        started = answer.structured_content or {}
        if answer.is_error or started.get("status") in TERMINAL:
            return answer
        try:
            raw = {"task_id": started["task_id"]}
            new = await CREATE_TASK_HANDLE.answer(self._service, raw)
        except KtrdrError as error:
            logger.warning("task %s: no handle: %s", started["task_id"], error.message)
            return answer
        return Task(
            task_id=new.handle,
            status="working",
            created_at=new.created_at,
            updated_at=new.created_at,
            message=f"Task {new.task_id} is submitted.",
        )

    async def get(self, task_id: str) -> Task:
        """The training of a handle. See TaskSource."""
        raw = {"handle": task_id, "outcome": True}
        return to_task(await READ_TASK_HANDLE.answer(self._service, raw))

    async def update(self, task_id: str, answers: Mapping[str, Any]) -> None:
        """Changes nothing, since no training asks for anything. See TaskSource."""
        await READ_TASK_HANDLE.answer(self._service, {"handle": task_id})

    async def cancel(self, task_id: str) -> None:
        """Cancels the training of a handle. See TaskSource."""
        followed = await READ_TASK_HANDLE.answer(self._service, {"handle": task_id})
        await CANCEL_TRAINING.answer(self._service, {"task_id": followed.task_id})


def to_task(followed: FollowedTask) -> Task:
    """A training as the protocol shows it: a failed one is a completed call with an error."""
    state, outcome = followed.now.status, followed.outcome
    shown = Task(
        task_id=followed.handle,
        status="working",
        created_at=followed.created_at,
        updated_at=followed.changed_at,
        message=progress_message(followed.now) if outcome is None else outcome.message,
    )
    if outcome is None:
        return shown
    if state == "cancelled":
        return replace(shown, status="cancelled")
    result = success_result(drop_defaults(outcome))
    result = result.model_copy(update={"is_error": state == "failed"})
    return replace(shown, status="completed", result=result)
