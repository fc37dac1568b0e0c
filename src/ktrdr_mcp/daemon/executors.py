"""Which executor runs the tasks of a workspace, and its making."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from ktrdr_mcp.errors import InvalidRequest, did_you_mean, shown
from ktrdr_mcp.paths import Workspace

if TYPE_CHECKING:
    from ktrdr_mcp.jobs.executors.base import Executor

ExecutorName: TypeAlias = Literal["processes", "threads"]
NAMES: Final[tuple[ExecutorName, ...]] = get_args(ExecutorName)
VARIABLE: Final = "KTRDR_EXECUTOR"
ENTRY: Final = "ktrdr_mcp.training.work:open_work"


def executor_name(
    default: ExecutorName, environment: Mapping[str, str] = os.environ
) -> ExecutorName:
    """The executor that KTRDR_EXECUTOR names.

    Args:
        default: where it names none.
        environment: of this process.
    Raises:
        InvalidRequest: there is none of this name.
    """
    text = environment.get(VARIABLE, "").strip()
    for name in NAMES:
        if text == name:
            return name
    if text:
        raise InvalidRequest(
            f"{VARIABLE} is {shown(text)}; there is no such executor.{did_you_mean(text, NAMES)}",
            hint=f"Set it to one of {', '.join(NAMES)}, or leave it out.",
        )
    # A socket cannot be handed to a process there.
    return "threads" if sys.platform == "win32" else default


def make_executor(name: ExecutorName, workspace: Workspace) -> Executor:
    """An executor for the trainings of a workspace. With threads it imports torch: blocks."""
    if name == "processes":
        from ktrdr_mcp.jobs.executors.processes import Pool, ProcessExecutor, available_cores

        return ProcessExecutor(Pool(ENTRY, str(workspace.root)), available_cores())
    from ktrdr_mcp.jobs.executors.threads import ThreadExecutor, load_torch

    load_torch()
    from ktrdr_mcp.training.work import open_work

    return ThreadExecutor(open_work(str(workspace.root)).run)
