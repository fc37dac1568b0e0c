"""The MCP tools: names, descriptions, annotations, argument checks, pages, progress."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

from mcp.server.apps import EXTENSION_ID
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import Server as LowLevelServer
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    Resource,
    ResourceTemplate,
    TextContent,
    ToolAnnotations,
)
from pydantic import AnyUrl, Field

from ktrdr_mcp import __version__, limits
from ktrdr_mcp.api.mcp import resources
from ktrdr_mcp.api.mcp.events import ServiceEvents, announce_changes
from ktrdr_mcp.api.mcp.prompts import add_completion, add_prompt
from ktrdr_mcp.api.mcp.stdio import answer_stdio
from ktrdr_mcp.api.operations import OPERATIONS, Operation, bound_pages
from ktrdr_mcp.api.schema import input_schema, output_schema
from ktrdr_mcp.errors import KtrdrError, NotFound, did_you_mean, internal_error, quote
from ktrdr_mcp.schemas.pages import fit_page
from ktrdr_mcp.schemas.responses import Reply, TrainingStatus
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)


class OperationTool(Tool):
    """An operation as an MCP tool."""

    operation: Operation[Any, Any] = Field(exclude=True)

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,
    ) -> CallToolResult:
        """Checks the raw arguments, asks the service and answers in the contract's shapes.

        The result is always converted, so `convert_result` changes nothing.
        """
        try:
            notifier = ProgressNotifier(context.report_progress)
            reply = await self.fn(arguments, notifier)
            brief, rows = self.operation.brief, self.operation.rows
            shown = brief(reply) if brief else reply
            return success_result(fit_page(shown, rows, limits.PAGE_BYTES) if rows else shown)
        except KtrdrError as error:
            return error_result(error)
        except MCPError:
            raise
        except Exception:
            logger.exception("The tool %s failed unexpectedly", self.name)
            return error_result(internal_error(self.name))


def operation_tool(service: ServiceProtocol, operation: Operation[Any, Any]) -> OperationTool:
    """The tool of an operation, which advertises flat schemas."""
    offer = operation.tool
    if offer is None:
        raise ValueError(f"{operation.name} is no tool")
    # The protocol gives the other hints a meaning only for tools that change something.
    annotations = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    if offer.changes:
        annotations = ToolAnnotations(
            read_only_hint=False,
            destructive_hint=offer.destructive,
            idempotent_hint=offer.idempotent,
            open_world_hint=offer.open_world,
        )
    outputs = output_schema(operation.reply)
    return OperationTool(
        fn=partial(operation.answer, service),
        name=operation.name,
        title=offer.title,
        description=offer.description,
        parameters=input_schema(operation.request),
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=outputs),
        is_async=True,
        annotations=annotations,
        meta=offer.view and {"ui": {"resourceUri": offer.view}},
        operation=operation,
    )


def success_result(reply: Reply) -> CallToolResult:
    """A reply as structured content and as the same data in text: clients read one or the other."""
    text = reply.model_dump_json()
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=json.loads(text)
    )


def error_result(error: KtrdrError) -> CallToolResult:
    """An error that the model reads, with what to do next."""
    return CallToolResult(
        content=[TextContent(type="text", text=f"{error.message} {error.hint}")],
        structured_content=error.to_dict(),
        is_error=True,
    )


class Server(MCPServer[Any]):
    """An MCP server whose tools and resources come from the table of operations.

    Args:
        service: knows which resources there are.
        settings: those of the SDK's server.
    """

    def __init__(self, service: ServiceProtocol, **settings: Any) -> None:
        super().__init__(**settings)
        self._service = service

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


NOTIFICATION_INTERVAL_S: Final = 1.0

Report = Callable[[float, float | None, str | None], Awaitable[None]]


class ProgressNotifier:
    """Passes a task's progress on, about once a second and never backwards.

    Args:
        report: sends one notification: progress, total, message.
        clock: seconds since any fixed moment.
    """

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self.report = report
        self.clock = clock
        self.last_epoch = -1
        self.last_time: float | None = None

    async def __call__(self, status: TrainingStatus) -> None:
        """Sends the status, unless it is no news or comes too soon."""
        now = self.clock()
        too_soon = self.last_time is not None and now - self.last_time < NOTIFICATION_INTERVAL_S
        if too_soon or status.current_epoch <= self.last_epoch:
            return
        self.last_epoch, self.last_time = status.current_epoch, now
        await self.report(status.current_epoch, status.total_epochs, progress_message(status))


def progress_message(status: TrainingStatus) -> str:
    """Where a task stands, in a few words."""
    if status.status != "training":
        ahead = status.queue_position
        return status.status if ahead is None else f"{status.status}, tasks ahead: {ahead}"
    metrics = status.newest
    parts = [f"epoch {status.current_epoch}/{status.total_epochs}"]
    if metrics.val_loss is not None:
        parts.append(f"val loss {metrics.val_loss:.3g}")
    if metrics.val_accuracy is not None:
        parts.append(f"val accuracy {metrics.val_accuracy:.2f}")
    if status.alarm is not None:
        parts.append(status.alarm)
    return ", ".join(parts)


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
    tools: list[Tool] = [
        operation_tool(service, bound_pages(each, limits.MCP_PAGE_ROWS, limits.PAGE_BYTES))
        for each in OPERATIONS.values()
        if each.tool is not None
    ]
    hour = CacheHint(ttl_ms=3_600_000, scope="public")  # of what lasts as long as the process
    events = ServiceEvents(service)
    server = Server(
        service,
        name="ktrdr-mcp",
        version=__version__,
        instructions=INSTRUCTIONS,
        tools=tools,
        subscriptions=events,
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
