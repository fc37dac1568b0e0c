"""Whether a workspace can be written, asked without writing."""

from __future__ import annotations

import os
import shutil
from typing import Final

from ktrdr_mcp.durable import storage_errors
from ktrdr_mcp.errors import KtrdrError, StorageError, StorageFull
from ktrdr_mcp.paths import Workspace

LEAST_FREE_BYTES: Final = 1024**2  # less is not enough to open a database


def trouble_of(workspace: Workspace) -> StorageError | None:
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
