"""Runs a command: its service, its exit code, and one sentence instead of a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import click

from ktrdr_mcp.cli import output
from ktrdr_mcp.errors import (
    InvalidRequest,
    KtrdrError,
    LabUnavailable,
    TrainingFailed,
    WorkspaceLocked,
    quote,
)
from ktrdr_mcp.files import storage_errors

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from ktrdr_mcp.paths import Workspace
    from ktrdr_mcp.schemas.service import ServiceProtocol

MIN_PREFIX_CHARACTERS: Final = 4  # of an id that is not written out
MAX_NAMED: Final = 5

Request = TypeVar("Request", bound="BaseModel")

DONE: Final = 0
INTERNAL_ERROR: Final = 1
USAGE: Final = 2
LOCKED: Final = 3
REFUSED: Final = 4
TRAINING_FAILED: Final = 5
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
HELP: Final = """\b
Exit codes:
  0    done
  1    an internal error of this program
  2    wrong usage
  3    another process owns the workspace and cannot be worked through
  4    refused: bad input, not found, conflict; doctor: something is wrong
  5    the training failed or was cancelled
  130  interrupted
  141  whoever read the output closed it
"""


class Interrupted(KtrdrError):
    """The user ended the command."""

    code = output.INTERRUPTED


class InternalError(KtrdrError):
    """Something that should not have happened."""


def code_of(error: KtrdrError) -> int:
    """The exit code that an error means."""
    kinds: tuple[tuple[type[KtrdrError], int], ...] = (
        (Interrupted, INTERRUPTED),
        (InternalError, INTERNAL_ERROR),
        (WorkspaceLocked, LOCKED),
        (LabUnavailable, LOCKED),
        (TrainingFailed, TRAINING_FAILED),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), REFUSED)


def run(command: Callable[[], object], as_json: bool) -> int:
    """Runs a command and reports how it ended.

    Args:
        command: returns an exit code, or anything else for 0.
        as_json: whether errors are printed as JSON.
    Returns:
        the exit code.
    """
    try:
        return report_error(command, as_json)
    except BrokenPipeError:
        discard_output()
        return PIPE_CLOSED


def report_error(command: Callable[[], object], as_json: bool) -> int:
    """`run`, but for a closed pipe."""
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except BrokenPipeError:
        raise
    except click.ClickException as error:
        return report_misuse(error, as_json)
    except (click.Abort, KeyboardInterrupt):
        return report_refusal(Interrupted("The command did not come to its end.", hint=""), as_json)
    except Exception as error:
        meant = meaning_of(error)
        if isinstance(meant, InternalError):
            traceback.print_exc()
        return report_refusal(meant, as_json)


def report_refusal(error: KtrdrError, as_json: bool) -> int:
    """Prints an error and returns the exit code that it means."""
    output.print_error(error, as_json)
    return code_of(error)


def report_misuse(error: click.ClickException, as_json: bool) -> int:
    """Prints what was wrong with the usage."""
    if not as_json:
        error.show()
        return USAGE
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "ktrdr-mcp"
    hint = f"See `{command} --help`."
    output.print_error(InvalidRequest(error.format_message(), hint=hint), as_json)
    return USAGE


def meaning_of(error: Exception) -> KtrdrError:
    """What an exception means to the user."""
    if isinstance(error, KtrdrError):
        return error
    if isinstance(error, OSError):
        try:
            with storage_errors("running the command"):
                raise error
        except KtrdrError as meant:
            return meant
    return InternalError(
        f"This is an internal error of ktrdr-mcp: {type(error).__name__}: {quote(str(error), 200)}",
        hint="Please report it with the lines on the error stream.",
    )


def discard_output() -> None:
    """Lets the interpreter flush into nothing at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


Value = TypeVar("Value")

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the reply, or the error, as JSON."
)
in_process_option = click.option(
    "--in-process",
    is_flag=True,
    help="Run the server inside this process, unless one is running; it ends with it.",
)


def in_process() -> bool:
    """Whether the command line given for one process."""
    return bool(click.get_current_context().find_root().params["in_process"])


class WithDefault(click.Group):
    """A group whose command `list` is meant when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the default in front of its options."""
        helps = set(self.get_help_option_names(ctx))
        if not args or (args[0].startswith("-") and not helps.intersection(args)):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def with_service(
    workspace: Workspace,
    work: Callable[[ServiceProtocol], Awaitable[Value]],
    *,
    quiet: bool = False,
) -> Value:
    """Runs work with the workspace's service, wherever that is.

    Args:
        workspace: the folder.
        work: what to do with the service.
        quiet: say nothing while it starts.
    Returns:
        what the work returned.
    Raises:
        KtrdrError: what the work or the opening raised.
    """
    # Only now: the service's parts take a while to import.
    from ktrdr_mcp.daemon.connection import connect

    alone = in_process()

    async def session() -> Value:
        async with AsyncExitStack() as stack:
            with show_starting(quiet):
                service = await stack.enter_async_context(connect(workspace, in_process=alone))
            return await work(service)

    return anyio.run(session)


def answer(
    workspace: Workspace,
    name: str,
    raw: Mapping[str, Any],
    as_json: bool,
    show: Callable[[Console, Any], None],
) -> None:
    """Asks the workspace's service for an operation and prints the reply.

    Args:
        workspace: the folder.
        name: of the operation.
        raw: the request as the command line has it, unchecked.
        as_json: whether to print the reply as JSON.
        show: else prints it for people.
    Raises:
        KtrdrError: the request is not valid, or cannot be met.
    """
    from ktrdr_mcp.api.operations import OPERATIONS
    from ktrdr_mcp.schemas.parsing import parse

    operation = OPERATIONS[name]
    request = parse(operation.request, raw)

    async def work(service: ServiceProtocol) -> Any:
        return await operation(service, await complete_ids(service, request))

    output.answer(with_service(workspace, work, quiet=as_json), as_json, show)


def show_starting(quiet: bool) -> Any:
    """A line that turns while the server starts, on a terminal only."""
    console = output.console(stderr=True)
    quote = console.is_terminal and not quiet
    return console.status("Starting the server") if quote else nullcontext()


def runs_here(service: ServiceProtocol) -> bool:
    """Whether the service is this process's own, so that its trainings end with the command."""
    # Importing the module to ask would cost seconds; what is not imported has made no service.
    local = sys.modules.get("ktrdr_mcp.service.service")
    return local is not None and isinstance(service, local.Service)


async def complete_ids(service: ServiceProtocol, request: Request) -> Request:
    """The request with whole task ids in place of their beginnings. Raises InvalidRequest."""
    found: dict[str, Any] = {}
    if one := getattr(request, "task_id", None):
        found["task_id"] = await complete_id(service, one)
    if several := getattr(request, "task_ids", None):
        found["task_ids"] = [await complete_id(service, one) for one in several]
    return request.model_copy(update=found)


async def complete_id(service: ServiceProtocol, text: str) -> str:
    """The one task id that begins with a text; the text itself if none does.

    Raises:
        InvalidRequest: several do, and none is the text.
    """
    from ktrdr_mcp.api import operations
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    if len(text) < MIN_PREFIX_CHARACTERS:
        return text
    request = parse(requests.CompleteName, {"kind": "task_id", "prefix": text})
    names = (await operations.COMPLETE(service, request)).names
    if len(names) <= 1 or text in names:
        return text if text in names or not names else names[0]
    raise InvalidRequest(
        f"Several tasks begin with {text}.",
        hint=f"Write more of it: {', '.join(names[:MAX_NAMED])}"
        f"{' and more' if len(names) > MAX_NAMED else ''}.",
        field="task_id",
    )
