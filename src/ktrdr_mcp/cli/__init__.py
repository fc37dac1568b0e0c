"""The command line: none is MCP over stdio; `demo` walks every tool.

Exit codes: 0 done, 1 a defect, 2 wrong usage, 3 the workspace is owned by another process,
4 the request or the workspace was refused.
"""

from __future__ import annotations

import sys

import anyio
import click

from ktrdr_mcp import __version__
from ktrdr_mcp.errors import KtrdrError, WorkspaceLocked
from ktrdr_mcp.paths import Workspace, find_workspace

EXIT_LOCKED = 3
EXIT_REFUSED = 4


@click.group(invoke_without_command=True)
@click.version_option(__version__)
@click.option("--workspace", "folder", help="Folder of data, strategies and models.")
@click.pass_context
def cli(context: click.Context, folder: str | None) -> None:
    """Train, judge, save and use neural networks on market data.

    Without a command: MCP over standard input and output.
    """
    context.obj = find_workspace(folder)
    if context.invoked_subcommand is None:
        stdio(context.obj)


def stdio(workspace: Workspace) -> None:
    """Serves MCP over stdio; the process ends with it."""
    from ktrdr_mcp.app import serve_stdio

    anyio.run(serve_stdio, workspace)


@cli.command()
@click.pass_obj
def demo(workspace: Workspace) -> None:
    """Walk every tool over MCP stdio on real AAPL bars."""
    from ktrdr_mcp.cli.demo import walk

    anyio.run(walk, workspace)


def main() -> None:
    """Runs the command line; a refusal is one sentence and an exit code, never a traceback."""
    try:
        cli(prog_name="ktrdr-mcp")
    except KtrdrError as error:
        click.echo(f"{error.message} {error.hint}", err=True)
        sys.exit(EXIT_LOCKED if isinstance(error, WorkspaceLocked) else EXIT_REFUSED)
