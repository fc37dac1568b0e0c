"""The official clients behind one interface; those for TypeScript by a driver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, ResourceTemplateReference, ResourceUpdatedNotification

from tests.clients import node
from tests.support import mcp_tasks

DRIVER: Final = Path(__file__).parent / "driver.mjs"
ANSWER_LIMIT_S: Final = 120
LONGEST_LINE_BYTES: Final = 16 * 2**20
MODES: Final = {"modern": "auto", "legacy": "legacy"}
VERSIONS: Final = {"modern": "2026-07-28", "legacy": "2025-11-25"}


class Refused(Exception):
    """The server answered with a protocol error."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Called:
    """What came of a tool call."""

    content: dict[str, Any] = field(default_factory=dict)
    is_error: bool = False
    aborted: bool = False
    progress: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)  # the states that were seen


class Session(Protocol):
    """A connected client."""

    async def about(self) -> dict[str, Any]: ...

    async def names(self, kind: str) -> list[str]: ...

    async def call(
        self, name: str, *, progress: bool = False, abort: bool = False, **arguments: Any
    ) -> Called: ...

    async def follow(self, name: str, **arguments: Any) -> Called: ...

    async def begin(self, name: str, **arguments: Any) -> str: ...

    async def task(self, method: str, task_id: str) -> dict[str, Any]: ...

    async def read(self, uri: str) -> str: ...

    async def prompt(self, name: str, **arguments: str) -> str: ...

    async def complete(self, reference: dict[str, str], name: str, value: str) -> list[str]: ...

    async def watch(self, uri: str) -> None: ...

    async def update(self) -> str: ...


@dataclass(frozen=True)
class Target:
    """Where a server is: a command to start, or the URL of one that runs."""

    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    url: str | None = None


@asynccontextmanager
async def opened(
    client: str, era: str, target: Target, home: Path, tasks: bool = False
) -> AsyncIterator[Session]:
    """Connects a client.

    Args:
        client: "python", or "typescript" and the SDK's major version.
        era: "modern" or "legacy".
        target: where the server is.
        home: a folder for the settings of programs.
        tasks: whether the client takes tasks, which one of the modern era can.
    """
    opener = python_session if client == "python" else typescript_session
    async with opener(client, era, target, home, tasks) as session:
        yield session


class PythonSession:
    """The client of the Python SDK."""

    def __init__(
        self, client: Client, tasks: anyio.abc.TaskGroup, follower: mcp_tasks.FollowTasks
    ) -> None:
        self.client = client
        self.follower = follower
        self.tasks = tasks
        self.send, self.receive = anyio.create_memory_object_stream[str](1_000)

    async def heard(self, message: Any) -> None:
        """Takes a notification of the older era."""
        if isinstance(message, ResourceUpdatedNotification):
            await self.send.send(str(message.params.uri))

    async def about(self) -> dict[str, Any]:
        client = self.client
        told = client.server_info
        return {
            "version": client.protocol_version,
            "server": None if told is None else told.model_dump(by_alias=True),
            "capabilities": client.server_capabilities.model_dump(by_alias=True, exclude_none=True),
        }

    async def names(self, kind: str) -> list[str]:
        client = self.client
        if kind == "tools":
            return [each.name for each in (await client.list_tools()).tools]
        if kind == "prompts":
            return [each.name for each in (await client.list_prompts()).prompts]
        if kind == "resources":
            return [str(each.uri) for each in (await client.list_resources()).resources]
        listed = await client.list_resource_templates()
        return [each.uri_template for each in listed.resource_templates]

    async def call(
        self, name: str, *, progress: bool = False, abort: bool = False, **arguments: Any
    ) -> Called:
        called = Called(aborted=True)
        with anyio.CancelScope() as scope:

            async def follow(done: float, total: float | None, message: str | None) -> None:
                called.progress.append({"progress": done, "total": total, "message": message})
                if abort:
                    scope.cancel()

            more = {"progress_callback": follow} if progress or abort else {}
            result = await self.client.call_tool(name, arguments, **more)
            called.content = dict(result.structured_content or {})
            called.is_error = bool(result.is_error)
            called.aborted = False
        return called

    async def follow(self, name: str, **arguments: Any) -> Called:
        self.follower.seen.clear()
        called = await self.call(name, **arguments)
        called.tasks = list(self.follower.seen)
        return called

    async def begin(self, name: str, **arguments: Any) -> str:
        return (await mcp_tasks.begin(self.client, name, **arguments)).task_id

    async def task(self, method: str, task_id: str) -> dict[str, Any]:
        more = {"inputResponses": {}} if method == "update" else {}
        try:
            return await mcp_tasks.ask(self.client, method, task_id, **more)
        except MCPError as error:
            raise Refused(error.error.code, error.error.message) from None

    async def read(self, uri: str) -> str:
        try:
            return str((await self.client.read_resource(uri)).contents[0].text)
        except MCPError as error:
            raise Refused(error.error.code, error.error.message) from None

    async def prompt(self, name: str, **arguments: str) -> str:
        try:
            return str((await self.client.get_prompt(name, arguments)).messages[0].content.text)
        except MCPError as error:
            raise Refused(error.error.code, error.error.message) from None

    async def complete(self, reference: dict[str, str], name: str, value: str) -> list[str]:
        kinds = {"ref/prompt": PromptReference, "ref/resource": ResourceTemplateReference}
        ref = kinds[reference["type"]](**reference)
        found = await self.client.complete(ref, {"name": name, "value": value})
        return list(found.completion.values)

    async def watch(self, uri: str) -> None:
        if self.client.protocol_version == VERSIONS["modern"]:
            await self.tasks.start(self.listen, uri)
        else:
            await self.client.subscribe_resource(uri)

    async def listen(self, uri: str, *, task_status: Any) -> None:
        """Keeps a stream of changes open."""
        async with self.client.listen(resource_subscriptions=[uri]) as changes:
            task_status.started()
            async for change in changes:
                await self.send.send(str(change.uri))

    async def update(self) -> str:
        with anyio.fail_after(ANSWER_LIMIT_S):
            return await self.receive.receive()


@asynccontextmanager
async def python_session(
    client: str, era: str, target: Target, home: Path, takes_tasks: bool
) -> AsyncIterator[Session]:
    """Connects the client of the Python SDK."""
    follower = mcp_tasks.FollowTasks()
    extensions = [follower] if takes_tasks else []
    server = target.url or StdioServerParameters(
        command=target.command[0], args=list(target.command[1:]), env=target.environment
    )
    box: list[PythonSession] = []

    async def heard(message: Any) -> None:
        await box[0].heard(message)

    async with (
        anyio.create_task_group() as tasks,
        Client(server, mode=MODES[era], message_handler=heard, extensions=extensions) as connected,
    ):
        box.append(PythonSession(connected, tasks, follower))
        with box[0].send, box[0].receive:
            yield box[0]
        tasks.cancel_scope.cancel()


class TypescriptSession:
    """A client of a TypeScript SDK in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, operation: str, **parameters: Any) -> Any:
        """Sends a request to the driver and returns its answer. Raises Refused."""
        line = json.dumps({"operation": operation, **parameters})
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()
        said = await asyncio.wait_for(self.process.stdout.readline(), ANSWER_LIMIT_S)
        if not said:
            raise AssertionError((await self.process.stderr.read()).decode())
        answer = json.loads(said)
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer["value"]

    async def about(self) -> dict[str, Any]:
        return await self.ask("about")

    async def names(self, kind: str) -> list[str]:
        return await self.ask(kind)

    async def call(
        self, name: str, *, progress: bool = False, abort: bool = False, **arguments: Any
    ) -> Called:
        answer = await self.ask(
            "call", name=name, arguments=arguments, progress=progress, abort=abort
        )
        return Called(
            content=answer.get("content") or {},
            is_error=answer.get("isError", False),
            aborted=answer.get("aborted", False),
            progress=answer["progress"],
        )

    async def follow(self, name: str, **arguments: Any) -> Called:
        answer = await self.ask("follow", name=name, arguments=arguments)
        return Called(
            content=answer.get("content") or {}, is_error=answer["isError"], tasks=answer["seen"]
        )

    async def begin(self, name: str, **arguments: Any) -> str:
        call = {"name": name, "arguments": arguments}
        return str((await self.ask("task", method="tools/call", parameters=call))["taskId"])

    async def task(self, method: str, task_id: str) -> dict[str, Any]:
        parameters = {"taskId": task_id} | ({"inputResponses": {}} if method == "update" else {})
        return await self.ask("task", method=f"tasks/{method}", parameters=parameters)

    async def read(self, uri: str) -> str:
        return await self.ask("read", uri=uri)

    async def prompt(self, name: str, **arguments: str) -> str:
        return await self.ask("prompt", name=name, arguments=arguments)

    async def complete(self, reference: dict[str, str], name: str, value: str) -> list[str]:
        return await self.ask("complete", reference=reference, name=name, value=value)

    async def watch(self, uri: str) -> None:
        await self.ask("watch", uri=uri)

    async def update(self) -> str:
        return await self.ask("update")


@asynccontextmanager
async def typescript_session(
    client: str, era: str, target: Target, home: Path, takes_tasks: bool
) -> AsyncIterator[Session]:
    """Starts the driver with a client of a TypeScript SDK."""
    where: dict[str, Any] = {"url": target.url}
    if target.url is None:
        where = {"command": target.command[0], "args": target.command[1:]}
        where["env"] = {**node.environment(home), **target.environment}
    process = await asyncio.create_subprocess_exec(
        *(node.node(), str(DRIVER), client.removeprefix("typescript "), era, json.dumps(where)),
        *(["tasks"] if takes_tasks else []),
        cwd=DRIVER.parent,
        env=node.environment(home),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE_BYTES,
    )
    try:
        yield TypescriptSession(process)
        process.stdin.close()
        await asyncio.wait_for(process.communicate(), ANSWER_LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
