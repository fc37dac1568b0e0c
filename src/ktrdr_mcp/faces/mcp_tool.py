"""A tool whose arguments, results and errors are the contract's, not the SDK's."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from ktrdr_mcp.contract import parse
from ktrdr_mcp.contract.responses import Reply
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.faces.defects import internal_error
from ktrdr_mcp.faces.schema_inlining import input_schema, output_schema

logger = logging.getLogger(__name__)

Call = Callable[[Any, Context[Any, Any]], Awaitable[Reply]]


class LabTool(Tool):
    """One use case of the laboratory as an MCP tool."""

    request_model: type[BaseModel] = Field(exclude=True)

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,
    ) -> CallToolResult:
        """Checks the raw arguments, asks the laboratory and answers in the contract's shapes.

        The result is always converted, so `convert_result` changes nothing.
        """
        try:
            request = parse(self.request_model, arguments)
            return success_result(await self.fn(request, context))
        except KtrdrError as error:
            return error_result(error)
        except MCPError:
            raise
        except Exception:
            logger.exception("The tool %s failed unexpectedly", self.name)
            return error_result(internal_error(self.name))


def lab_tool(
    name: str,
    call: Call,
    request: type[BaseModel],
    reply: type[Reply],
    description: str,
    annotations: ToolAnnotations,
) -> LabTool:
    """A tool that advertises flat schemas.

    Args:
        name: what clients call it.
        call: takes the parsed request and the SDK's context, and returns the reply.
        request: the model of its arguments.
        reply: the model of its result.
        description: when and how to use it.
        annotations: what it changes.
    """
    return LabTool(
        fn=call,
        name=name,
        description=description,
        parameters=input_schema(request),
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=output_schema(reply)),
        is_async=True,
        annotations=annotations,
        request_model=request,
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
