"""Launches a workspace's daemon as a detached process, and reads why one could not start."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import KtrdrError, LabUnavailable, StorageError, StorageFull, kinds_by_code
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.ownership import lock
from ktrdr_mcp.paths import Workspace

LEAST_FREE_BYTES: Final = 1024**2  # less is not enough to open a database


def find_write_error(workspace: Workspace) -> StorageError | None:
    """Why nothing can be written in a workspace; None if that is not to be seen from outside."""
    try:
        with storage_errors("looking at the workspace"):
            if is_full(workspace):
                return StorageFull(
                    "The disk of the workspace is full.", hint="Free disk space, then call again."
                )
    except KtrdrError as error:
        return error if isinstance(error, StorageError) else None
    files = [path for path in workspace.internal.glob("ktrdr.db*") if path.is_file()]
    for path in (workspace.internal, *files):
        if not os.access(path, os.W_OK):
            return StorageError(
                f"{path.name} in the workspace cannot be written.",
                hint="Make the workspace writable for this user, then call again.",
            )
    return None


def is_full(workspace: Workspace) -> bool:
    """Whether the disk has no room for another file. Raises OSError."""
    if shutil.disk_usage(workspace.internal).free < LEAST_FREE_BYTES:
        return True
    if not hasattr(os, "statvfs"):
        return False
    counts = os.statvfs(workspace.internal)
    return counts.f_files > 0 and counts.f_favail == 0


NAME: Final = "lab-refusal.json"
MAX_BYTES: Final = 16 * 1024


def file_of(workspace: Workspace) -> Path:
    """Where the refusal is written."""
    return workspace.internal / NAME


def write(workspace: Workspace, error: KtrdrError) -> None:
    """Tells whoever started this process why it ends. Raises StorageError."""
    document = files.json_bytes(error.to_dict()["error"])
    files.replace(file_of(workspace), document, mode=0o600)


def read(workspace: Workspace) -> KtrdrError | None:
    """Why the last laboratory could not start; None if it did not say."""
    try:
        with file_of(workspace).open("rb") as file:
            document = json.loads(file.read(MAX_BYTES))
        texts = (document["message"], document["hint"], document["field"] or "")
        if not all(isinstance(text, str) for text in texts):
            return None
        kind = kinds_by_code().get(document["code"], KtrdrError)
        return kind(document["message"], hint=document["hint"], field=document["field"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def remove(workspace: Workspace) -> None:
    """Forgets it; before the next try. Raises StorageError."""
    with files.storage_errors("removing an old refusal"):
        file_of(workspace).unlink(missing_ok=True)


LOG: Final = "lab.log"
MAX_LOG_BYTES: Final = 1024**2
TAIL_BYTES: Final = 64 * 1024
LOCKED: Final = 3  # the exit code of `lab run` when another process was first
ERROR_LINE: Final = re.compile(r"\S+ \S+ (ERROR|CRITICAL) |Error: |[A-Za-z_.]*(Error|Exception)\b")
LOG_HINT: Final = "See `ktrdr-mcp lab logs`, or .ktrdr/lab.log in the workspace."


def log_file(workspace: Workspace) -> Path:
    """Where a detached laboratory writes what happens."""
    return workspace.internal / LOG


def older_log_file(workspace: Workspace) -> Path:
    """Where its log is kept from before the present file was begun."""
    return workspace.internal / f"{LOG}.1"


def launch(workspace: Workspace) -> subprocess.Popen[bytes]:
    """Starts a laboratory that shares nothing with this process but the log file.

    Args:
        workspace: its folder; made if it is missing.
    Raises:
        StorageError: the workspace cannot be written.
        LabUnavailable: the system gives no process.
    """
    # -P: the folder that it runs in must not provide its modules
    command = [sys.executable, "-P", "-m", "ktrdr_mcp", "--workspace", str(workspace.root)]
    with files.storage_errors("starting the laboratory"):
        workspace.internal.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove(workspace)
        log = os.open(log_file(workspace), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 (our own program)
            [*command, "lab", "run"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=workspace.root,
            **detached(),
        )
    except OSError as error:
        raise LabUnavailable(
            f"The laboratory of this workspace cannot be started: {error.strerror}.",
            hint="Free memory or processes, then call again.",
        ) from error
    finally:
        os.close(log)
    threading.Thread(target=process.wait, name="laboratory-reaper", daemon=True).start()
    return process


def detached() -> dict[str, Any]:
    """What keeps a process alive when its starter, its group or its terminal end."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags | subprocess.CREATE_BREAKAWAY_FROM_JOB}
    return {"start_new_session": True}


def reason_of(workspace: Workspace, code: int, logged: int = 0) -> KtrdrError | None:
    """Why a laboratory ended while it was starting.

    Args:
        workspace: its folder.
        code: its exit code.
        logged: how large the log was before it was started.
    Returns:
        the reason; None if another process was first.
    """
    if code == LOCKED:
        return None
    told = read(workspace) or find_write_error(workspace)
    return told or LabUnavailable(
        f"The laboratory of this workspace ended while it started, with exit code {code}.",
        hint=f"{LOG_HINT} It says: {complaint(workspace, logged)}",
    )


def complaint(workspace: Workspace, logged: int) -> str:
    """The first line of an error after a place in the log, else the last line, else 'nothing'."""
    lines = [line for line in log_text(workspace, logged).splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.match(line)]
    return (errors[:1] or lines[-1:] or ["nothing"])[0]


def log_size(workspace: Workspace) -> int:
    """How many bytes the log has; 0 if there is none."""
    try:
        return log_file(workspace).stat().st_size
    except OSError:
        return 0


def log_text(workspace: Workspace, begin: int = 0) -> str:
    """The log from a byte on, at most the end of it; from its start if it was begun anew."""
    try:
        with log_file(workspace).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin if begin <= size else 0, size - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def log_lines(workspace: Workspace, count: int) -> list[str]:
    """The last lines of the log, oldest first, with those of the older file if it has fewer."""
    lines: list[str] = []
    for path in (log_file(workspace), older_log_file(workspace)):
        lines = [*last_lines(path, count - len(lines)), *lines]
    return lines


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file, oldest first; none if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.removesuffix("\n") for line in deque(file, maxlen=count)]
    except OSError:
        return []


def bound_log(workspace: Workspace) -> None:
    """Begins a new log file when this process's has grown large; one older file is kept."""
    path = log_file(workspace)
    with contextlib.suppress(OSError):  # a log that cannot be bounded must not end a laboratory
        ours = os.fstat(sys.stderr.fileno())
        if ours.st_size <= MAX_LOG_BYTES or (ours.st_dev, ours.st_ino) != lock.identity(path):
            return
        path.replace(older_log_file(workspace))
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(fresh, stream)
        os.close(fresh)
