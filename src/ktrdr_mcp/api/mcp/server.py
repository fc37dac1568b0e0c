"""The MCP server: tools and resources of the table of operations, prompts, events, extensions.

Over standard input and output, every line with an id is answered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

import anyio
from mcp.server.apps import EXTENSION_ID
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import Server as LowLevelServer
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool, ToolManager
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    CallToolResult,
    ErrorData,
    GetPromptResult,
    InputRequiredResult,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    Resource,
    ResourceTemplate,
    jsonrpc_message_adapter,
)
from pydantic import AnyUrl, ValidationError
from pydantic_core import ErrorDetails

from ktrdr_mcp import __version__, limits
from ktrdr_mcp.api.mcp import resources
from ktrdr_mcp.api.mcp.events import ServiceEvents, announce_changes
from ktrdr_mcp.api.mcp.resources import add_completion, add_prompt
from ktrdr_mcp.api.mcp.tasks import Tasks
from ktrdr_mcp.api.mcp.tools import error_result, operation_tool
from ktrdr_mcp.api.mcp.trainings import Trainings
from ktrdr_mcp.api.operations import OPERATIONS, bound_pages
from ktrdr_mcp.errors import NotFound, did_you_mean, quote
from ktrdr_mcp.schemas.service import ServiceProtocol

ANSWER_TIMEOUT_S: Final = 5.0  # for what is not answered yet when the input ends
CANCELLED: Final = "notifications/cancelled"
LISTEN: Final = "subscriptions/listen"  # is answered when the client leaves, and not before


class LateTools(ToolManager):
    """The table's tools, made when they are first asked for: after initialize has been answered.

    Args:
        service: answers every tool.
    """

    def __init__(self, service: ServiceProtocol) -> None:
        super().__init__()
        self._service = service

    @cached_property
    def by_name(self) -> dict[str, Tool]:
        """Every tool, in the order of the table."""
        return {
            each.name: operation_tool(
                self._service, bound_pages(each, limits.MCP_PAGE_ROWS, limits.PAGE_BYTES)
            )
            for each in OPERATIONS.values()
            if each.tool is not None
        }

    def get_tool(self, name: str) -> Tool | None:
        """A tool, if there is one of the name."""
        return self.by_name.get(name)

    def list_tools(self) -> list[Tool]:
        """Every tool."""
        return list(self.by_name.values())


class Server(MCPServer[Any]):
    """An MCP server whose tools and resources come from the table of operations.

    Args:
        service: answers every tool and resource.
        settings: those of the SDK's server.
    """

    def __init__(self, service: ServiceProtocol, **settings: Any) -> None:
        super().__init__(**settings)
        self._service = service
        self._tool_manager = LateTools(service)

    @property
    def low_level(self) -> LowLevelServer[Any]:
        """What the SDK's server is made of."""
        return self._lowlevel_server

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool; an unknown one is an error of our shape."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError:  # ours raise none, so there is no such tool
            names = [tool.name for tool in await self.list_tools()]
            unknown = NotFound(
                f"{quote(name)} is not a tool.{did_you_mean(name[:64], names)}",
                hint=f"Call one of {', '.join(names)}.",
            )
            return error_result(unknown)

    async def run_stdio_async(self) -> None:
        """Serves a client on standard input and output until it leaves."""
        async with answer_stdio() as (reader, writer):
            options = self._lowlevel_server.create_initialization_options()
            await self._lowlevel_server.run(reader, writer, options)

    async def list_resources(self) -> list[Resource]:
        """The resources that are worth naming, as they are now: the SDK knows no changing ones."""
        return await resources.list_resources(self._service)

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """The forms of the addresses that can be read."""
        return resources.resource_templates()

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Reads a resource; an address of no known form is answered with the forms there are."""
        text, mime_type = await resources.read(self._service, str(uri))
        return [ReadResourceContents(content=text, mime_type=mime_type)]

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[Any, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Renders a prompt; unknown prompts and arguments are the caller's mistake."""
        prompts = {prompt.name: prompt for prompt in await self.list_prompts()}
        if name not in prompts:
            known = ", ".join(prompts)
            raise MCPError(INVALID_PARAMS, f"{quote(name)} is not a prompt. Prompts are {known}.")
        accepted = [argument.name for argument in prompts[name].arguments or []]
        for given in arguments or {}:
            if given not in accepted:
                raise MCPError(
                    INVALID_PARAMS,
                    f"{quote(given)} is not an argument of {name}. It takes {', '.join(accepted)}.",
                )
        return await super().get_prompt(name, arguments, context)


INSTRUCTIONS: Final = (
    "ktrdr-mcp trains and judges small neural networks on market bars and says whether a result is "
    "more than luck. To train one, look at get_market_data_summary, call start_training, "
    "which answers at once with a task_id, and then get_training_status with wait_s=50 until "
    "status is completed, failed or cancelled; never send start_training again meanwhile. "
    "Believe a model only as far as the verdict of get_model_performance goes, which counts every "
    "training on the same bars; then use save_trained_model and test_model_prediction. "
    "Every error says what was wrong and, in its hint, what to do next."
)


def build_server(service: ServiceProtocol) -> Server:
    """The service as an MCP server, for any transport.

    Call `api.logs.configure_logging` before, or the SDK sets up logging its own way.

    Args:
        service: answers every tool and resource.
    """
    hour = CacheHint(ttl_ms=3_600_000, scope="public")  # of what lasts as long as the process
    events = ServiceEvents(service)
    server = Server(
        service,
        name="ktrdr-mcp",
        version=__version__,
        instructions=INSTRUCTIONS,
        subscriptions=events,
        extensions=[Tasks(Trainings(service))],
        cache_hints={
            "tools/list": hour,
            "prompts/list": hour,
            "resources/templates/list": hour,
        },
    )
    server.low_level.extensions[EXTENSION_ID] = {}
    announce_changes(server.low_level, events)
    add_prompt(server)
    add_completion(server, service)
    return server


@asynccontextmanager
async def answer_stdio() -> AsyncIterator[tuple[Messages, Answers]]:
    """The SDK's stdio transport, with an answer to every line that has an id."""
    async with stdio_server() as (reader, writer):
        yield answer_all(reader, writer)


def answer_all(reader: Any, writer: Any) -> tuple[Messages, Answers]:
    """A client's messages and the answers to them, in the SDK's forms of a stream.

    Args:
        reader: gives messages, and an exception for each line that is none.
        writer: takes answers.
    """
    answers = Answers(writer)
    return Messages(reader, answers), answers


class Stream:
    """A stream of the SDK that is passed on.

    Args:
        inner: the stream itself.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def aclose(self) -> None:
        """Closes the stream."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class Answers(Stream):
    """What is sent to a client; knows which of its requests have no answer yet.

    Args:
        inner: takes answers.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._awaited: list[str | int] = []
        self._ended = False
        self._complete = anyio.Event()

    async def send(self, item: SessionMessage) -> None:
        """Sends an answer or a notification."""
        await self._inner.send(item)
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._settle([each for each in self._awaited if each == item.message.id])

    def expect(self, message: JSONRPCMessage) -> None:
        """Notes that a request waits for its answer; one that is cancelled gets none."""
        if isinstance(message, JSONRPCRequest) and message.method != LISTEN:
            self._awaited.append(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == CANCELLED:
            cancelled = (message.params or {}).get("requestId")
            self._settle([each for each in self._awaited if str(each) == str(cancelled)])

    def _settle(self, identifiers: list[str | int]) -> None:
        """Takes the first of these requests off those that wait."""
        if identifiers:
            self._awaited.remove(identifiers[0])
        if self._ended and not self._awaited:
            self._complete.set()

    async def complete(self) -> None:
        """Waits until all requests are answered; what takes too long is left."""
        self._ended = True
        self._settle([])
        with anyio.move_on_after(ANSWER_TIMEOUT_S):
            await self._complete.wait()


class Messages(Stream):
    """The messages of a client; they end when those that were read are answered.

    The SDK cancels what still runs at the end.

    Args:
        inner: gives messages, and an exception for each line that is none.
        answers: takes answers.
    """

    def __init__(self, inner: Any, answers: Answers) -> None:
        super().__init__(inner)
        self._answers = answers

    async def receive(self) -> SessionMessage:
        """The next message; what is none is answered on the way."""
        while True:
            try:
                item = await self._inner.receive()
            except anyio.EndOfStream:
                await self._answers.complete()
                raise
            if isinstance(item, SessionMessage):
                self._answers.expect(item.message)
            if not isinstance(item, ValidationError):
                return item  # type: ignore[no-any-return]
            message = message_or_refusal(item)
            if isinstance(message, JSONRPCError):
                await self._answers.send(SessionMessage(message))
            elif message is not None:
                self._answers.expect(message)
                return SessionMessage(message)

    async def __anext__(self) -> SessionMessage:
        """The next message."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def __aiter__(self) -> Self:
        return self

    @property
    def last_context(self) -> Any:
        """The context in which the last message was sent."""
        return getattr(self._inner, "last_context", None)


def message_or_refusal(error: ValidationError) -> JSONRPCMessage | None:
    """What a line that the SDK could not read is: a message after all, or the refusal to send.

    Half of a surrogate pair is no Unicode; Python reads what pydantic refuses, and it is replaced.

    Returns:
        None for an empty line.
    """
    details = error.errors(include_url=False)
    lines = [each["input"] for each in details if each["type"] == "json_invalid"]
    if lines and not lines[0].strip():
        return None
    try:
        value = json.loads(lines[0]) if lines else decode_input(details)
    except (ValueError, RecursionError):
        return refusal(PARSE_ERROR, "The line is not JSON.", None)
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace")
    try:
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValidationError:
        identifier = value.get("id") if isinstance(value, dict) else None
        known = isinstance(identifier, str | int) and not isinstance(identifier, bool)
        form = "a batch, which is not supported" if isinstance(value, list) else "no request"
        return refusal(
            INVALID_REQUEST,
            f"The line is {form}: send one JSON-RPC 2.0 object with jsonrpc, id and method.",
            identifier if known else None,
        )


def decode_input(details: list[ErrorDetails]) -> object:
    """The JSON value about which pydantic complains: the whole, not a part of it."""
    whole = [each["input"] for each in details if each["type"] == "missing"]
    return whole[0] if whole else details[0]["input"]


def refusal(code: int, message: str, identifier: str | int | None) -> JSONRPCError:
    """An error to answer a line with."""
    return JSONRPCError(jsonrpc="2.0", id=identifier, error=ErrorData(code=code, message=message))
