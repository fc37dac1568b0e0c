"""The MCP tools: names, descriptions, annotations, argument checks, pages, progress."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CallToolResult,
    TextContent,
    ToolAnnotations,
)
from pydantic import Field

from ktrdr_mcp import limits
from ktrdr_mcp.api.operations import Operation
from ktrdr_mcp.api.schema import input_schema, output_schema
from ktrdr_mcp.errors import KtrdrError, internal_error
from ktrdr_mcp.schemas.responses import Reply, TrainingStatus, fit_page
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
