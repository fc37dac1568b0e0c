"""How a command ends: its exit code, and one sentence instead of a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Final

import click

from ktrdr_mcp.cli import output
from ktrdr_mcp.durable import storage_errors
from ktrdr_mcp.errors import (
    InvalidRequest,
    KtrdrError,
    LabUnavailable,
    TrainingFailed,
    WorkspaceLocked,
    shown,
)

DONE: Final = 0
DEFECT: Final = 1
USAGE: Final = 2
LOCKED: Final = 3
REFUSED: Final = 4
TRAINING_FAILED: Final = 5
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
HELP: Final = """\b
Exit codes:
  0    done
  1    a defect of this program
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


class Defect(KtrdrError):
    """Something that should not have happened."""


def code_of(error: KtrdrError) -> int:
    """The exit code that an error means."""
    kinds: tuple[tuple[type[KtrdrError], int], ...] = (
        (Interrupted, INTERRUPTED),
        (Defect, DEFECT),
        (WorkspaceLocked, LOCKED),
        (LabUnavailable, LOCKED),
        (TrainingFailed, TRAINING_FAILED),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), REFUSED)


def run(command: Callable[[], object], as_json: bool) -> int:
    """Runs a command and tells how it ended.

    Args:
        command: returns an exit code, or anything else for 0.
        as_json: whether errors are told as JSON.
    Returns:
        the exit code.
    """
    try:
        return told(command, as_json)
    except BrokenPipeError:
        discard_output()
        return PIPE_CLOSED


def told(command: Callable[[], object], as_json: bool) -> int:
    """`run`, but for a closed pipe."""
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except BrokenPipeError:
        raise
    except click.ClickException as error:
        return misused(error, as_json)
    except (click.Abort, KeyboardInterrupt):
        return refused(Interrupted("The command did not come to its end.", hint=""), as_json)
    except Exception as error:
        meant = meaning_of(error)
        if isinstance(meant, Defect):
            traceback.print_exc()
        return refused(meant, as_json)


def refused(error: KtrdrError, as_json: bool) -> int:
    """Tells of an error and returns the exit code that it means."""
    output.print_error(error, as_json)
    return code_of(error)


def misused(error: click.ClickException, as_json: bool) -> int:
    """Tells of wrong usage."""
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
    return Defect(
        f"This is a defect of ktrdr-mcp: {type(error).__name__}: {shown(str(error), 200)}",
        hint="Please report it with the lines on the error stream.",
    )


def discard_output() -> None:
    """Lets the interpreter flush into nothing at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
