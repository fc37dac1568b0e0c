"""The log of the daemon: its standard error, a file in the workspace that keeps a bound."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections import deque
from pathlib import Path
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.ownership.lock import identity
from ktrdr_mcp.paths import Workspace

LOG: Final = "lab.log"
MAX_LOG_BYTES: Final = 1024**2
TAIL_BYTES: Final = 64 * 1024
APPENDING: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND
ERROR_LINE: Final = re.compile(r"\S+ \S+ (ERROR|CRITICAL) |Error: |[A-Za-z_.]*(Error|Exception)\b")
LOG_HINT: Final = "See `ktrdr-mcp lab logs`, or .ktrdr/lab.log in the workspace."


def log_file(workspace: Workspace) -> Path:
    """Where a detached daemon writes what happens."""
    return workspace.internal / LOG


def older_log_file(workspace: Workspace) -> Path:
    """Where its log is kept from before the present file was begun."""
    return workspace.internal / f"{LOG}.1"


def open_log(workspace: Workspace) -> int:
    """A descriptor to write the log with. Raises StorageError, OSError."""
    return files.open_private(log_file(workspace), APPENDING)


class BoundedLog:
    """Keeps the log of this process from growing without end.

    Args:
        workspace: whose daemon this process is; if its standard error is not the log, it is left
            alone.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._ours = False
        with contextlib.suppress(OSError, ValueError):
            status = os.fstat(sys.stderr.fileno())
            self._ours = (status.st_dev, status.st_ino) == identity(log_file(workspace))

    def bound(self) -> None:
        """Begins a new file when this one has grown large; one older file is kept."""
        with contextlib.suppress(OSError, ValueError):  # it must not end a daemon
            descriptor = sys.stderr.fileno()
            if not self._ours or os.fstat(descriptor).st_size <= MAX_LOG_BYTES:
                return
            try:
                self._begin_anew()
            except (OSError, StorageError):  # no descriptor, no space, no workspace any more
                os.ftruncate(descriptor, 0)

    def _begin_anew(self) -> None:
        """Moves the present file aside and goes on in a new one. Raises StorageError, OSError."""
        path = log_file(self._workspace)
        staged = path.with_name(f"{files.STAGING_PREFIX}{LOG}")
        staged.unlink(missing_ok=True)
        # First, because without it there would be no log to go on with.
        fresh = files.open_private(staged, APPENDING | os.O_EXCL)
        try:
            path.replace(older_log_file(self._workspace))
            staged.replace(path)
            for stream in (1, 2):
                os.dup2(fresh, stream)
        finally:
            os.close(fresh)


def log_size(workspace: Workspace) -> int:
    """How many bytes the log has; 0 if there is none."""
    try:
        return log_file(workspace).lstat().st_size
    except OSError:
        return 0


def complaint(workspace: Workspace, logged: int) -> str:
    """The first line of an error after a place in the log, else the last line, else 'nothing'."""
    lines = [line for line in log_text(workspace, logged).splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.match(line)]
    return (errors[:1] or lines[-1:] or ["nothing"])[0]


def log_text(workspace: Workspace, begin: int = 0) -> str:
    """The log from a byte on, at most the end of it; from its start if it was begun anew."""
    try:
        with os.fdopen(files.open_private(log_file(workspace), os.O_RDONLY), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin if begin <= size else 0, size - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except (OSError, StorageError):
        return ""


def log_lines(workspace: Workspace, count: int) -> list[str]:
    """The last lines of the log, oldest first, with those of the older file if it has fewer."""
    lines: list[str] = []
    for path in (log_file(workspace), older_log_file(workspace)):
        lines = [*last_lines(path, count - len(lines)), *lines]
    return lines


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log file, oldest first; none if it cannot be read."""
    try:
        descriptor = files.open_private(path, os.O_RDONLY)
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            return [line.removesuffix("\n") for line in deque(file, maxlen=count)]
    except (OSError, StorageError):
        return []
