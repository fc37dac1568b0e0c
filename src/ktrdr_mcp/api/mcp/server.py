"""The MCP server: tools and resources of the table of operations, prompts, events, extensions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

from mcp.server.apps import EXTENSION_ID
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import Server as LowLevelServer
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool, ToolManager
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    Resource,
    ResourceTemplate,
)
from pydantic import AnyUrl

from ktrdr_mcp import __version__, limits
from ktrdr_mcp.api.mcp import resources
from ktrdr_mcp.api.mcp.events import ServiceEvents, announce_changes
from ktrdr_mcp.api.mcp.prompts import add_completion, add_prompt
from ktrdr_mcp.api.mcp.stdio import answer_stdio
from ktrdr_mcp.api.mcp.tasks import Tasks
from ktrdr_mcp.api.mcp.tools import error_result, operation_tool
from ktrdr_mcp.api.mcp.trainings import Trainings
from ktrdr_mcp.api.operations import OPERATIONS, bound_pages
from ktrdr_mcp.errors import NotFound, did_you_mean, quote
from ktrdr_mcp.schemas.service import ServiceProtocol


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
