"""A client of the tasks extension on the Python SDK, which follows no tasks by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import anyio
from mcp.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.types import CallToolResult, Request, RequestParams, Result
from pydantic import ConfigDict, Field

EXTENSION: Final = "io.modelcontextprotocol/tasks"


class Handle(Result):
    """The answer to a tool call that became a task."""

    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")
    status: str
    created_at: str = Field(alias="createdAt")
    last_updated_at: str = Field(alias="lastUpdatedAt")
    ttl_ms: int | None = Field(alias="ttlMs")  # must be there
    poll_interval_ms: int = Field(alias="pollIntervalMs")
    status_message: str | None = Field(None, alias="statusMessage")


class Detailed(Result):
    """The answer to a tasks method, whatever it holds."""

    model_config = ConfigDict(extra="allow")


class TaskParams(RequestParams):
    task_id: str = Field(alias="taskId")
    input_responses: dict[str, Any] | None = Field(None, alias="inputResponses")


class GetTask(Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class UpdateTask(Request[TaskParams, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: TaskParams
    name_param = "taskId"


class CancelTask(Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams
    name_param = "taskId"


class ListenParams(RequestParams):
    notifications: dict[str, Any]


class Listen(Request[ListenParams, Literal["subscriptions/listen"]]):
    method: Literal["subscriptions/listen"] = "subscriptions/listen"
    params: ListenParams


METHODS: Final = {"get": GetTask, "update": UpdateTask, "cancel": CancelTask}


async def ask(client: Client, method: str, task_id: str, **more: Any) -> dict[str, Any]:
    """The answer to a tasks method, as it came. Raises MCPError."""
    request = METHODS[method](params=TaskParams(taskId=task_id, **more))
    answer = await client.session.send_request(request, Detailed)
    return answer.model_dump(by_alias=True, mode="json")


@dataclass
class FollowTasks(ClientExtension):
    """Follows each task to its end, so that a caller gets the tool's result.

    Attributes:
        seen: the states on the way.
        most_s: between two looks, where the server allows longer ones.
    """

    most_s: float = 10.0
    seen: list[dict[str, Any]] = field(default_factory=list)
    identifier = EXTENSION

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Handle, resolve=self.follow)]

    async def follow(self, handle: Handle, context: ClaimContext) -> CallToolResult:
        self.seen.append(handle.model_dump(by_alias=True, mode="json"))
        request = GetTask(params=TaskParams(taskId=handle.task_id))
        while True:
            answer = await context.session.send_request(request, Detailed)
            state = answer.model_dump(by_alias=True, mode="json")
            self.seen.append(state)
            if "result" in state:
                return CallToolResult.model_validate(state["result"])
            if state["status"] == "cancelled":
                raise RuntimeError(state["statusMessage"])
            await anyio.sleep(min(self.most_s, state["pollIntervalMs"] / 1_000))


async def begin(client: Client, name: str, **arguments: Any) -> Handle:
    """Calls a tool and returns its task, which is left to itself."""
    answer = await client.session.call_tool(name, arguments, allow_claimed=True)
    assert isinstance(answer, Handle), answer
    return answer
