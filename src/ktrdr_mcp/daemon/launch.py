"""Launches a workspace's daemon as a detached process, and reads why one could not start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

from ktrdr_mcp import files
from ktrdr_mcp.daemon import log
from ktrdr_mcp.errors import KtrdrError, LabUnavailable, StorageError, StorageFull, error_of
from ktrdr_mcp.files import storage_errors
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
    databases = [path for path in workspace.internal.glob("ktrdr.db*") if path.is_file()]
    for path in (workspace.internal, *databases):
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
    document = files.json_bytes(error.to_json())
    files.replace(file_of(workspace), document, mode=0o600)


def read(workspace: Workspace) -> KtrdrError | None:
    """Why the last daemon could not start; None if it did not say."""
    try:
        document = json.loads(files.read_private(file_of(workspace), MAX_BYTES))
        texts = (document["message"], document["hint"], document["field"] or "")
        if not all(isinstance(text, str) for text in texts):
            return None
        return error_of(document)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, StorageError):
        return None


def remove(workspace: Workspace) -> None:
    """Forgets it; before the next try. Raises StorageError."""
    with files.storage_errors("removing an old refusal"):
        file_of(workspace).unlink(missing_ok=True)


LOCKED: Final = 3  # the exit code of `lab run` when another process was first


def launch(workspace: Workspace) -> subprocess.Popen[bytes]:
    """Starts a daemon that shares nothing with this process but the log file.

    Args:
        workspace: its folder; made if it is missing.
    Raises:
        StorageError: the workspace cannot be written.
        LabUnavailable: the system gives no process.
    """
    # -P: the folder that it runs in must not provide its modules
    command = [sys.executable, "-P", "-m", "ktrdr_mcp", "--workspace", str(workspace.root)]
    with files.storage_errors("starting the service"):
        files.make_private_folder(workspace.internal)
        remove(workspace)
        output = log.open_log(workspace)
    try:
        process = subprocess.Popen(  # noqa: S603 (our own program)
            [*command, "lab", "run"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=workspace.root,
            **detach(),
        )
    except OSError as error:
        raise LabUnavailable(
            f"The service of this workspace cannot be started: {error.strerror}.",
            hint="Free memory or processes, then call again.",
        ) from error
    finally:
        os.close(output)
    threading.Thread(target=process.wait, name="daemon-reaper", daemon=True).start()
    return process


def detach() -> dict[str, Any]:
    """What keeps a process alive when its starter, its group or its terminal end."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags | subprocess.CREATE_BREAKAWAY_FROM_JOB}
    return {"start_new_session": True}


def reason_of(workspace: Workspace, code: int, logged: int = 0) -> KtrdrError | None:
    """Why a daemon ended while it was starting.

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
        f"The service of this workspace ended while it started, with exit code {code}.",
        hint=f"{log.LOG_HINT} It says: {log.complaint(workspace, logged)}",
    )
