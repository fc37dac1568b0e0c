"""An MCP client that follows a training as a task of the protocol, from the call to the verdict.

    python examples/follow_task.py [WORKSPACE] [EPOCHS]

The client declares the tasks extension, so start_training answers with a task, and the extension
below asks where it stands until it has ended. Whoever calls the tool waits for its result, as for
that of any other. The workspace is a temporary one if none is named.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Literal

from mcp.client.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult, Request, RequestParams, Result
from pydantic import ConfigDict, Field

SHOWN = ("resultType", "taskId", "status", "statusMessage", "ttlMs", "pollIntervalMs")


class Answer(Result):
    """An answer with whatever fields it has."""

    model_config = ConfigDict(extra="allow")


class Begun(Answer):
    """The answer to a call that has become a task."""

    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")


class TaskId(RequestParams):
    """Names a task."""

    task_id: str = Field(alias="taskId")


class GetTask(Request[TaskId, Literal["tasks/get"]]):
    """Asks where a task stands; over HTTP a header names it, too."""

    method: Literal["tasks/get"] = "tasks/get"
    params: TaskId
    name_param = "taskId"


class Tasks(ClientExtension):
    """Follows tasks, and shows what is said on the way."""

    identifier = "io.modelcontextprotocol/tasks"

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Answers to tool calls that this extension understands."""
        return [ResultClaim(result_type="task", model=Begun, resolve=self.follow)]

    async def follow(self, begun: Begun, context: ClaimContext) -> CallToolResult:
        """The tool's own result, once the task has it. Raises RuntimeError if it was cancelled."""
        seen = show("tools/call", begun)
        while True:
            request = GetTask(params=TaskId(taskId=begun.task_id))
            answer = await context.session.send_request(request, Answer)
            seen = state = show("tasks/get", answer, seen)
            if "result" in state:
                return CallToolResult.model_validate(state["result"])
            if state["status"] != "working":
                raise RuntimeError(f"The task is {state['status']}.")
            await asyncio.sleep(state["pollIntervalMs"] / 1_000)


def show(method: str, answer: Result, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Prints the fields that say where a task stands, if that is news, and returns all."""
    state: dict[str, Any] = answer.model_dump(by_alias=True, mode="json")
    if before is None or state.get("statusMessage") != before.get("statusMessage"):
        print(method, json.dumps({name: state[name] for name in SHOWN if name in state}))
    return state


async def train(workspace: str, epochs: int) -> None:
    """One training on the built-in hourly AAPL bars."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "ktrdr_mcp", "--workspace", workspace]
    )
    config = {"epochs": epochs, "early_stopping": None}
    async with Client(server, extensions=[Tasks()]) as client:
        result = await client.call_tool(
            "start_training", {"symbol": "AAPL", "timeframe": "1h", "config": config}
        )
    reply = result.structured_content or {}
    if result.is_error:
        raise RuntimeError(reply.get("error"))
    verdict = reply["performance"]["verdict"]
    print(f"verdict {verdict['prediction']}: {verdict['reason']}")


def main() -> None:
    """Trains in the named workspace, or in one that is removed afterwards."""
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    if len(sys.argv) > 1:
        asyncio.run(train(sys.argv[1], epochs))
    else:
        # What a workspace's server still writes after its last client must not raise here.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            asyncio.run(train(folder, epochs))


if __name__ == "__main__":
    main()
