"""The tasks extension: a client gets a task for a long tool call and follows it by itself.

What the tasks are made of is behind TaskSource. A client that does not declare the extension, or
speaks an older version of the protocol, notices nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp.types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    ErrorData,
    RequestParams,
)
from pydantic import Field

from ktrdr_mcp.errors import InvalidName, KtrdrError, NotFound

EXTENSION_ID: Final = "io.modelcontextprotocol/tasks"
VERSIONS: Final = frozenset({"2026-07-28"})  # of the protocol, that the extension is for
POLL_INTERVAL_MS: Final = 1_000

RequestContext = ServerRequestContext[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task as a client sees it. Times are ISO 8601 UTC text with Z.

    Attributes:
        message: where it stands, for people and models.
        result: that of the tool call, once it is completed.
        error: which ended a failed one; a tool's own error is a result.
        input_requests: what it wants to know of the client, while it waits for that.
    """

    task_id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    created_at: str
    updated_at: str
    message: str | None = None
    result: CallToolResult | None = None
    error: ErrorData | None = None
    input_requests: Mapping[str, Any] | None = None

    def to_created(self) -> dict[str, Any]:
        """The answer to the tool call; `ttlMs` must be there, and null is for ever."""
        fields = {
            "resultType": "task",
            "taskId": self.task_id,
            "status": self.status,
            "createdAt": self.created_at,
            "lastUpdatedAt": self.updated_at,
            "ttlMs": None,
            "pollIntervalMs": POLL_INTERVAL_MS,
        }
        return fields if self.message is None else {**fields, "statusMessage": self.message}

    def to_detailed(self) -> dict[str, Any]:
        """The answer to tasks/get."""
        fields = {**self.to_created(), "resultType": "complete"}
        for name, part in (("result", self.result), ("error", self.error)):
            if part is not None:
                fields[name] = part.model_dump(by_alias=True, mode="json", exclude_none=True)
        if self.input_requests is not None:
            fields["inputRequests"] = dict(self.input_requests)
        return fields


class TaskSource(Protocol):
    """Begins tasks and knows them by ids that nobody guesses, whoever asks."""

    async def begin(
        self, params: CallToolRequestParams, context: RequestContext, call: CallNext
    ) -> Task | HandlerResult:
        """Answers a tool call of a client that takes tasks.

        Args:
            params: the call.
            context: of the request.
            call: calls the tool as for any other client.
        Returns:
            a task that is stored for good, or the tool's own result.
        """

    async def get(self, task_id: str) -> Task:
        """A task as it is now. Raises KtrdrError; NotFound or InvalidName if there is none."""

    async def update(self, task_id: str, answers: Mapping[str, Any]) -> None:
        """Takes the client's answers by their keys; others are ignored. Raises as `get`."""

    async def cancel(self, task_id: str) -> None:
        """Asks a task to stop; one that has ended stays as it is. Raises as `get`."""


class TaskParams(RequestParams):
    """The parameters of every tasks method."""

    task_id: str = Field(alias="taskId")


class UpdateParams(TaskParams):
    """The parameters of tasks/update."""

    input_responses: dict[str, Any] = Field(alias="inputResponses")


class Tasks(Extension):
    """Adds tasks to a server.

    Args:
        source: what they are made of.
    """

    identifier = EXTENSION_ID

    def __init__(self, source: TaskSource) -> None:
        self._source = source

    def methods(self) -> Sequence[MethodBinding]:
        """See Extension."""
        return (
            MethodBinding("tasks/get", TaskParams, self._get, VERSIONS),
            MethodBinding("tasks/update", UpdateParams, self._update, VERSIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, VERSIONS),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> HandlerResult:
        """Answers with a task where the client takes one and the source begins one."""
        if not takes_tasks(ctx):
            return await call_next(ctx)
        answer = await self._source.begin(params, ctx, call_next)
        return answer.to_created() if isinstance(answer, Task) else answer

    async def _get(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        """Answers tasks/get."""
        require_same_name(ctx, params)
        try:
            return (await self._source.get(params.task_id)).to_detailed()
        except KtrdrError as error:
            raise protocol_error(error) from None

    async def _update(self, ctx: RequestContext, params: UpdateParams) -> HandlerResult:
        """Answers tasks/update."""
        require_same_name(ctx, params)
        try:
            await self._source.update(params.task_id, params.input_responses)
        except KtrdrError as error:
            raise protocol_error(error) from None
        return EmptyResult()

    async def _cancel(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        """Answers tasks/cancel."""
        require_same_name(ctx, params)
        try:
            await self._source.cancel(params.task_id)
        except KtrdrError as error:
            raise protocol_error(error) from None
        return EmptyResult()


def takes_tasks(context: RequestContext) -> bool:
    """Whether this very request declares the extension, in a version that has it."""
    capabilities = context.session.client_capabilities
    declared = capabilities.extensions if capabilities else None
    return context.protocol_version in VERSIONS and EXTENSION_ID in (declared or {})


def require_declared_listening(context: RequestContext) -> None:
    """Checks a request to listen to tasks, which the SDK drops: none of them is pushed.

    Args:
        context: of a subscriptions/listen.
    Raises:
        MCPError: it names tasks, and the extension is not declared.
    """
    wanted = (context.params or {}).get("notifications")
    if isinstance(wanted, Mapping) and wanted.get("taskIds"):
        require_client_extension(context, EXTENSION_ID)


def require_same_name(context: RequestContext, params: TaskParams) -> None:
    """Checks what the SDK checks of its own methods alone: the header by which proxies route.

    Args:
        context: of the request; over stdio there are no headers.
        params: its parameters.
    Raises:
        MCPError: the header is missing or names another task, or the extension is not declared.
    """
    headers = None if context.request is None else context.request.headers
    if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != params.task_id:
        raise MCPError(
            HEADER_MISMATCH, f"The {MCP_NAME_HEADER} header must be the taskId of the request."
        )
    require_client_extension(context, EXTENSION_ID)


def protocol_error(error: KtrdrError) -> MCPError:
    """What the protocol says of an error of the service."""
    if isinstance(error, NotFound | InvalidName):
        code = INVALID_PARAMS
    else:
        code = INVALID_REQUEST if error.http_status < 500 else INTERNAL_ERROR
    return MCPError(code, f"{error.message} {error.hint}")
