"""The command line; `endings` documents its exit codes."""

from __future__ import annotations

import logging
import os
import pathlib
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import click

from ktrdr_mcp import __version__
from ktrdr_mcp.cli import bars, session
from ktrdr_mcp.cli.files import data, strategies
from ktrdr_mcp.cli.init import init
from ktrdr_mcp.cli.maintenance import clean, doctor, lab
from ktrdr_mcp.cli.models import backtest, compare, models, predict, reproduce
from ktrdr_mcp.cli.reports import open_page, report
from ktrdr_mcp.cli.research import explain, research
from ktrdr_mcp.cli.serve import serve
from ktrdr_mcp.cli.session import in_process, in_process_option, json_option
from ktrdr_mcp.cli.training import cancel, performance, status, tasks, train
from ktrdr_mcp.errors import InvalidRequest, NotFound, unwrap
from ktrdr_mcp.files import TRUST_VARIABLE
from ktrdr_mcp.paths import Workspace, find_workspace


class Program(click.Group):
    """The whole command line; reports every error in one way, never by a traceback."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> NoReturn:
        """Runs a command line and exits with its code."""
        arguments = list(sys.argv[1:] if args is None else args)
        named |= {"standalone_mode": False}
        command = super().main
        as_json = "--json" in arguments
        sys.exit(session.run(lambda: command(arguments, *more, **named), as_json))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the named command; a closed pipe must not reach click, which exits with 1."""
        try:
            return self.invoke_unwrapped(ctx)
        except BrokenPipeError:
            session.discard_output()
            ctx.exit(session.PIPE_CLOSED)
        except NotFound as error:
            if ctx.obj is not None:
                error.add_note(f"The workspace is {ctx.obj.root}.")
            raise

    def invoke_unwrapped(self, ctx: click.Context) -> Any:
        """Runs the named command; task groups wrap whatever leaves them."""
        try:
            return super().invoke(ctx)
        except BaseExceptionGroup as group:
            raise unwrap(group) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which one meets them."""
        return list(self.commands)


@click.group(
    cls=Program,
    invoke_without_command=True,
    epilog=session.HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
@click.option("--workspace", "folder", help="Folder of data, strategies and models.")
@in_process_option
@click.option(
    "--trust-workspace",
    is_flag=True,
    help="Vouch for the workspace, whoever made it: for containers, whose user's folder is new.",
)
@click.pass_context
def cli(
    context: click.Context, folder: str | None, in_process: bool, trust_workspace: bool
) -> None:
    """Train, judge, save and use neural networks on market data.

    Without a command: MCP over standard input and output. The work is done by a server in the
    background, which all commands and clients of a workspace share; it goes on when they end, and
    ends by itself when nobody needs it.
    """
    if trust_workspace:
        os.environ[TRUST_VARIABLE] = "1"  # the daemon that is started gets it too
    context.obj = open_workspace(folder)
    if context.invoked_subcommand is None:
        stdio(context.obj, in_process)


def open_workspace(folder: str | None) -> Workspace:
    """The workspace to open. Raises InvalidRequest if no folder can have such a name."""
    try:
        return find_workspace(folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidRequest(
            f"The workspace cannot be found: {error}.",
            hint="Name an existing folder with --workspace.",
        ) from None


def stdio(workspace: Workspace, in_process: bool) -> None:
    """Serves MCP over stdio; the process ends with it."""
    import anyio

    from ktrdr_mcp.daemon.stdio import serve_stdio

    anyio.run(partial(serve_stdio, workspace, in_process=in_process))


@click.command()
@json_option
@click.pass_obj
def demo(workspace: Workspace, as_json: bool) -> None:
    """Walk every tool over MCP stdio on real AAPL bars."""
    import anyio

    from ktrdr_mcp.cli.demo import run_demo

    anyio.run(run_demo, workspace, as_json, in_process())


for command in (
    bars.import_files,
    bars.fetch,
    bars.update,
    bars.list_versions,
    bars.remove,
):
    data.add_command(command)
for command in (
    train,
    tasks,
    status,
    performance,
    report,
    cancel,
    compare,
    reproduce,
    models,
    predict,
    backtest,
    data,
    strategies,
    research,
    explain,
    init,
    demo,
    doctor,
    clean,
    serve,
    open_page,
    lab,
):
    cli.add_command(command)


def main() -> NoReturn:
    """The program `ktrdr-mcp`."""
    from ktrdr_mcp.api.logs import configure_logging

    if sys.stdout is None:  # closed at start: nobody reads what would be said
        sys.exit(session.PIPE_CLOSED)
    if sys.stderr is None:
        sys.stderr = pathlib.Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    configure_logging(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a letter still gets the rest
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(prog_name="ktrdr-mcp")
    except SystemExit as ended:
        leave(ended.code if isinstance(ended.code, int) else session.INTERNAL_ERROR)


def leave(code: int) -> NoReturn:
    """Ends the process; at once if a thread is left, which would hold up or abort its exit."""
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
