"""One process owns a workspace: it holds the lock, and the system frees it however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import filelock

from ktrdr_mcp import files
from ktrdr_mcp.errors import WorkspaceLocked
from ktrdr_mcp.ownership import address, trust
from ktrdr_mcp.paths import Workspace

LOCK: Final = "lab.lock"
PROBES_END_S: Final = 0.3  # whoever only looks whether the lock is held, holds it a moment
PROBES_END_POLL_S: Final = 0.02


def lock_file(workspace: Workspace) -> Path:
    """What the owner holds."""
    return workspace.internal / LOCK


@dataclass(frozen=True)
class Ownership:
    """A lock that this process holds, and which file it was."""

    path: Path
    identity: tuple[int, int]

    def lasts(self) -> bool:
        """Whether that file still has its name; without it, another process may own as well."""
        try:
            return identity(self.path) == self.identity
        except OSError:
            return False


def identity(path: Path) -> tuple[int, int]:
    """What tells a file from another that has its name later."""
    status = path.lstat()
    return status.st_dev, status.st_ino


@contextmanager
def ownership(workspace: Workspace) -> Iterator[Ownership]:
    """Holds the workspace's lock.

    Args:
        workspace: the folder to own; made if it is missing.
    Raises:
        WorkspaceLocked: another process owns it.
        WorkspaceNotTrusted: somebody else may have made it.
        StorageError: it cannot be read or written, or has links where the program's files lie.
    """
    with files.storage_errors("opening the workspace"):
        files.make_private_folder(workspace.internal)
    lock = filelock.FileLock(lock_file(workspace))
    with files.storage_errors("locking the workspace"):
        try:
            lock.acquire(timeout=PROBES_END_S, poll_interval=PROBES_END_POLL_S)
        except filelock.Timeout:
            raise workspace_locked(workspace) from None
    try:
        with files.storage_errors("locking the workspace"):
            held = Ownership(lock_file(workspace), identity(lock_file(workspace)))
        trust.establish(workspace)
        address.remove(workspace)  # what a process that was killed left
        yield held
    finally:
        lock.release()


def is_owned(workspace: Workspace) -> bool:
    """Whether some process holds the workspace's lock. Raises StorageError."""
    path = lock_file(workspace)
    with files.storage_errors("looking at the workspace's lock"):
        if not path.exists():
            return False
        files.check_private_entries(workspace.internal)
        if not os.access(path, os.W_OK):  # nor could this process use the owner's token
            return False
        probe = filelock.FileLock(path, blocking=False)
        try:
            probe.acquire()
        except filelock.Timeout:
            return True
        probe.release()
    return False


def workspace_locked(workspace: Workspace) -> WorkspaceLocked:
    """The refusal that names the owner, if it has said who it is."""
    owner = address.read(workspace)
    who = f" (process {owner.pid}, since {owner.started_at})" if owner else ""
    detached = owner is not None and owner.kind == "detached"
    end = "End it with `ktrdr-mcp lab stop`" if detached else "End that process"
    return WorkspaceLocked(
        f"Another ktrdr-mcp process{who} owns this workspace.",
        hint=f"{end}, or choose another folder with --workspace.",
    )
