"""The SDK's server, answering in our sentences where it would have used its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    Resource,
)
from pydantic import AnyUrl

from ktrdr_mcp.contract import Lab
from ktrdr_mcp.errors import NotFound, did_you_mean, shown
from ktrdr_mcp.faces.mcp_tool import error_result
from ktrdr_mcp.faces.resources import TEMPLATES, NameNotFound, listed_resources


class LabServer(MCPServer[Any]):
    """An MCP server whose every tool is a LabTool.

    Args:
        lab: knows which resources there are.
        settings: those of the SDK's server.
    """

    def __init__(self, lab: Lab, **settings: Any) -> None:
        super().__init__(**settings)
        self._lab = lab

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool; an unknown one is an error of our shape."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError:  # a LabTool raises none, so there is no such tool
            names = [tool.name for tool in await self.list_tools()]
            unknown = NotFound(
                f"{shown(name)} is not a tool.{did_you_mean(name[:64], names)}",
                hint=f"Call one of {', '.join(names)}.",
            )
            return error_result(unknown)

    async def list_resources(self) -> list[Resource]:
        """The resources that are worth naming, as they are now: the SDK knows no changing ones."""
        return await listed_resources(self._lab)

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Reads a resource; an address of no known form is told which forms there are."""
        try:
            return await super().read_resource(uri, context)
        except NameNotFound:
            raise
        except ResourceNotFoundError:
            forms = ", ".join(TEMPLATES)
            raise ResourceNotFoundError(
                f"{shown(str(uri))} is not a resource. Resources are {forms}."
            ) from None

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
            raise MCPError(INVALID_PARAMS, f"{shown(name)} is not a prompt. Prompts are {known}.")
        accepted = [argument.name for argument in prompts[name].arguments or []]
        for given in arguments or {}:
            if given not in accepted:
                raise MCPError(
                    INVALID_PARAMS,
                    f"{shown(given)} is not an argument of {name}. It takes {', '.join(accepted)}.",
                )
        return await super().get_prompt(name, arguments, context)
