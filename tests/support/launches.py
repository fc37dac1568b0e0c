"""The servers that the proxies of a test start in the background."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from typing import Any

from ktrdr_mcp.daemon import log
from ktrdr_mcp.paths import Workspace
from tests.support import programs

ENDS_S = 60


class Launches:
    """Takes the place of the module subprocess in `launching`.

    Attributes:
        processes: what was started, oldest first.
        held: the stage at which the next one is held; it is the only one that makes marks.
    """

    DEVNULL = subprocess.DEVNULL

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.held: str | None = None

    def Popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:  # noqa: N802
        """Starts a server."""
        if self.held is not None:
            line = command[command.index("ktrdr_mcp") + 1 :]
            command = [*programs.command("marked_program"), self.held, *line]
            options["cwd"] = programs.ROOT
            self.held = None
        self.processes.append(subprocess.Popen(command, **options))
        return self.processes[-1]

    def kill(self) -> None:
        """However the test ended, so do they."""
        for process in self.processes:
            process.kill()
            process.wait()


async def exit_code(process: subprocess.Popen[bytes]) -> int:
    """How a server ended, which must be soon."""
    return await asyncio.to_thread(process.wait, ENDS_S)


def log_of(workspace: Workspace) -> str:
    """What the servers of a workspace have logged."""
    return "\n".join(log.log_lines(workspace, 1_000))


def has_mark(workspace: Workspace, stage: str) -> bool:
    """Whether a server has come to a stage."""
    return f"MARK {stage}" in log_of(workspace)
