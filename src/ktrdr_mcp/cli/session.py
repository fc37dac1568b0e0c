"""The laboratory for one command: opened, worked with, closed."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click

from ktrdr_mcp.cli import output

if TYPE_CHECKING:
    from ktrdr_mcp.contract import Lab
    from ktrdr_mcp.paths import Workspace

Value = TypeVar("Value")

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the reply, or the error, as JSON."
)
in_process_option = click.option(
    "--in-process",
    is_flag=True,
    help="Run the laboratory inside this process, and end it with it, unless one is running.",
)


def in_process() -> bool:
    """Whether the command line asked for one process."""
    return bool(click.get_current_context().find_root().params["in_process"])


class WithDefault(click.Group):
    """A group whose command `list` is meant when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the default in front of its options."""
        helps = set(self.get_help_option_names(ctx))
        if not args or (args[0].startswith("-") and not helps.intersection(args)):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def with_lab(
    workspace: Workspace, work: Callable[[Lab], Awaitable[Value]], *, quiet: bool = False
) -> Value:
    """Runs work with the workspace's laboratory, wherever that is.

    Args:
        workspace: the folder.
        work: what to do with the laboratory.
        quiet: say nothing while it starts.
    Returns:
        what the work returned.
    Raises:
        KtrdrError: what the work or the opening raised.
    """
    # Only now: the laboratory's parts take a while to import.
    from ktrdr_mcp.app import connect

    alone = in_process()

    async def session() -> Value:
        async with AsyncExitStack() as stack:
            with starting(quiet):
                lab = await stack.enter_async_context(connect(workspace, in_process=alone))
            return await work(lab)

    return anyio.run(session)


def starting(quiet: bool) -> Any:
    """A line that turns while the laboratory starts, on a terminal only."""
    console = output.console(stderr=True)
    shown = console.is_terminal and not quiet
    return console.status("Starting the laboratory") if shown else nullcontext()


def runs_here(lab: Lab) -> bool:
    """Whether the laboratory is this process's own, so that its trainings end with the command."""
    # Importing the module to ask would cost seconds; if it is not imported, no lab is made of it.
    local = sys.modules.get("ktrdr_mcp.lab.local")
    return local is not None and isinstance(lab, local.LocalLab)
