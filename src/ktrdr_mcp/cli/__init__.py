"""The command line; `endings` documents its exit codes."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pathlib
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

import click

from ktrdr_mcp import __version__
from ktrdr_mcp.cli import session
from ktrdr_mcp.cli.session import in_process_option
from ktrdr_mcp.errors import InvalidRequest, NotFound, unwrap
from ktrdr_mcp.files import TRUST_VARIABLE
from ktrdr_mcp.paths import Workspace, find_workspace

# Where the commands are, in the order in which one meets them.
COMMANDS: Final[Mapping[str, str]] = {
    "train": "training.train",
    "tasks": "training.tasks",
    "status": "training.status",
    "performance": "training.performance",
    "report": "reports.report",
    "cancel": "training.cancel",
    "compare": "models.compare",
    "reproduce": "models.reproduce",
    "models": "models.models",
    "predict": "models.predict",
    "backtest": "models.backtest",
    "data": "files.data",
    "strategies": "files.strategies",
    "research": "research.research",
    "explain": "research.explain",
    "init": "init.init",
    "demo": "init.demo",
    "doctor": "maintenance.doctor",
    "clean": "maintenance.clean",
    "serve": "serve.serve",
    "open": "reports.open_page",
    "lab": "maintenance.lab",
}


class Program(click.Group):
    """The whole command line; reports every error in one way, never by a traceback.

    A command is imported when it is asked for, so that MCP over stdio starts without any.
    """

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
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name, if there is one."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, attribute = COMMANDS[cmd_name].partition(".")
            found = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
            self.add_command(found, cmd_name)
        return super().get_command(ctx, cmd_name)


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
    gc.disable()  # until `settle`: looking through what is imported takes a tenth of the start

    import anyio

    from ktrdr_mcp.daemon.stdio import serve_stdio

    anyio.run(partial(serve_stdio, workspace, in_process=in_process))


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
