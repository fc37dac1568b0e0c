"""The tools that the conformance suite wants for its tasks scenarios, under our tasks extension.

`python -m tests.clients.fixture_server` prints its address and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import uvicorn
from mcp.server.context import CallNext, HandlerResult
from mcp.server.mcpserver import (
    AcceptedElicitation,
    Context,
    Elicit,
    ElicitationResult,
    MCPServer,
    Resolve,
    require_client_extension,
)
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, CallToolRequestParams, CallToolResult
from pydantic import BaseModel

from ktrdr_mcp.api.mcp.tasks import EXTENSION_ID, RequestContext, Task, Tasks
from ktrdr_mcp.errors import NotFound

AT_ONCE = "greet"
ASKS_FIRST = "test_tool_with_task"


def now() -> str:
    """The time as the protocol writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Run:
    """A tool call that became a task.

    Attributes:
        state: what a client sees.
        work: calls the tool.
        answered: set when the client has answered everything.
    """

    state: Task
    work: asyncio.Task[None] | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self, **changes: Any) -> None:
        self.state = replace(self.state, updated_at=now(), **changes)

    async def ask(self, **questions: str) -> dict[str, Any]:
        """Waits for the client's answers to questions, by their names."""
        self.change(
            status="input_required",
            input_requests={name: elicitation(text) for name, text in questions.items()},
        )
        await self.answered.wait()
        self.change(status="working", input_requests=None)
        return self.answers

    def answer(self, answers: Mapping[str, Any]) -> None:
        """Takes answers to what is still asked."""
        asked = dict(self.state.input_requests or {})
        self.answers |= {name: answers[name] for name in asked.keys() & answers}
        left = {name: each for name, each in asked.items() if name not in self.answers}
        if asked and left != asked:
            self.change(input_requests=left)
        if asked and not left:
            self.answered.set()

    async def finish(self, call: CallNext, context: RequestContext) -> None:
        """Calls the tool and keeps what comes of it."""
        RUNNING.set(self)
        try:
            result = await call(context)
            assert isinstance(result, CallToolResult)
            self.change(status="completed", result=result)
        except asyncio.CancelledError:
            self.change(status="cancelled", input_requests=None)
        except MCPError as error:
            self.change(status="failed", message=error.error.message, error=error.error)


RUNNING: ContextVar[Run] = ContextVar("running")


class Runs:
    """Tasks in memory; see TaskSource."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    async def begin(
        self, params: CallToolRequestParams, context: RequestContext, call: CallNext
    ) -> Task | HandlerResult:
        if params.name == AT_ONCE or (params.name == ASKS_FIRST and not params.input_responses):
            return await call(context)
        task_id, begun = secrets.token_hex(16), now()
        run = Run(Task(task_id=task_id, status="working", created_at=begun, updated_at=begun))
        self.runs[task_id] = run
        run.work = asyncio.create_task(run.finish(call, context))
        return run.state

    async def get(self, task_id: str) -> Task:
        return self.run(task_id).state

    async def update(self, task_id: str, answers: Mapping[str, Any]) -> None:
        self.run(task_id).answer(answers)

    async def cancel(self, task_id: str) -> None:
        work = self.run(task_id).work
        if work is not None:
            work.cancel()

    def run(self, task_id: str) -> Run:
        if task_id not in self.runs:
            raise NotFound("There is no such task.", hint="Call the tool again.")
        return self.runs[task_id]


def elicitation(text: str) -> dict[str, Any]:
    """A question to the user."""
    schema = {"type": "object", "properties": {"confirm": {"type": "boolean"}}}
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": text, "requestedSchema": schema},
    }


class Name(BaseModel):
    """What the tool wants to know before it becomes a task."""

    name: str


async def user_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


def build() -> MCPServer[Any]:
    """The server."""
    server: MCPServer[Any] = MCPServer("tasks", log_level="WARNING", extensions=[Tasks(Runs())])

    @server.tool()
    async def greet(name: str) -> str:
        return f"Hello, {name}!"

    @server.tool()
    async def slow_compute(seconds: float, label: str = "") -> str:
        await asyncio.sleep(seconds)
        return f"{label} took {seconds} s"

    @server.tool()
    async def failing_job(context: Context[Any, Any]) -> str:
        require_client_extension(context.request_context, EXTENSION_ID)
        raise ToolError("It never works.")

    @server.tool()
    async def protocol_error_job() -> str:
        raise MCPError(INTERNAL_ERROR, "The server broke.")

    @server.tool()
    async def confirm_delete(filename: str) -> str:
        answers = await RUNNING.get().ask(confirm=f"Delete {filename}?")
        return f"{filename}: {answers['confirm']}"

    @server.tool()
    async def multi_input() -> str:
        return str(await RUNNING.get().ask(first="The first?", second="The second?"))

    @server.tool()
    async def test_tool_with_task(
        user_name: Annotated[ElicitationResult[Name], Resolve(user_name)],
    ) -> str:
        assert isinstance(user_name, AcceptedElicitation)
        return f"Hello, {user_name.data.name}!"

    return server


def main() -> None:
    """Serves on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)  # noqa: T201
    app = build().streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


@contextmanager
def serving() -> Iterator[str]:
    """The server as a process; gives its address."""
    line = [sys.executable, "-m", "tests.clients.fixture_server"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
