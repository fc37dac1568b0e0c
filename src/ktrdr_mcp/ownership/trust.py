"""Whether a workspace's own folder, `.ktrdr`, was made by this user on this machine.

A workspace may be cloned or unpacked from anywhere, and its database then holds somebody else's
tasks. So the folder has a marker with a random key, and the user's data folder has the other half,
under a hash of that key. Nobody else can make the other half, and no copy of a workspace has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError, WorkspaceNotTrusted
from ktrdr_mcp.paths import USER_FOLDER_VARIABLE, Workspace, user_folder

FORMAT: Final = 1
MARKER: Final = "owner.json"
MAX_BYTES: Final = 4096
KEY: Final = re.compile(r"[0-9a-f]{64}")
OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
CONTENT: Final = ("ktrdr.db", "workspace.json", "tasks")  # what another's program could have left


def marker_file(workspace: Workspace) -> Path:
    """The half that lies in the workspace."""
    return workspace.internal / MARKER


def other_halves(key: str) -> list[Path]:
    """Where the half in the user's data folder may lie, the first place first."""
    folders = [user_folder()]
    if os.environ.get("XDG_DATA_HOME") and not os.environ.get(USER_FOLDER_VARIABLE):
        # clients start servers without most variables of a shell, and both must find it
        with contextlib.suppress(RuntimeError):
            folders.append(Path.home() / ".local" / "share" / folders[0].name)
    name = f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    return [folder / "workspaces" / name for folder in folders]


def is_trusted(workspace: Workspace) -> bool:
    """Whether tasks that its database holds may run, and its address be used.

    Raises:
        StorageError: the folder or the marker is a link, or not this user's own.
    """
    if files.trusts_any_workspace():
        return True
    key = read_key(workspace)
    return key is not None and any(half.is_file() for half in other_halves(key))


def read_key(workspace: Workspace) -> str | None:
    """The key in the marker; None if there is no marker or nothing of ours in it."""
    try:
        document = json.loads(files.read_private(marker_file(workspace), MAX_BYTES))
        key = document["key"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return key if isinstance(key, str) and KEY.fullmatch(key) else None


def has_content(workspace: Workspace) -> bool:
    """Whether there is anything that would have to be trusted."""
    return any(os.path.lexists(workspace.internal / name) for name in CONTENT)


def is_foreign(workspace: Workspace) -> bool:
    """Whether there is something to trust and no reason to. Raises StorageError."""
    if is_trusted(workspace) or not has_content(workspace):
        return False
    # no clone or archive lies in the user's data folder by accident
    return workspace.root.resolve() != user_folder().resolve()


def adopt(workspace: Workspace) -> None:
    """Marks a workspace as this user's on this machine; both halves are made anew.

    Raises:
        StorageError: the folder has links or entries of other users, or a half cannot be written.
    """
    with files.storage_errors("marking the workspace as yours"):
        files.close_to_others(workspace.internal)
        files.make_private_folder(workspace.internal)
        files.refuse_links(workspace.internal)
    key = secrets.token_hex(32)
    half = {"format": FORMAT, "workspace": str(workspace.root)}
    first, *others = other_halves(key)
    files.replace(first, files.json_bytes(half), mode=0o600)
    for other in others:
        with contextlib.suppress(StorageError):
            files.replace(other, files.json_bytes(half), mode=0o600)
    marker = {"format": FORMAT, "key": key}
    files.replace(marker_file(workspace), files.json_bytes(marker), mode=0o600)


def require_closed(workspace: Workspace) -> None:
    """Refuses a workspace whose lock another user could hold. Raises WorkspaceNotTrusted."""
    if os.name != "nt" and stat.S_IMODE(workspace.internal.lstat().st_mode) & OPEN_TO_OTHERS:
        raise not_trusted()


def establish(workspace: Workspace) -> None:
    """Marks a new workspace; refuses one that somebody else may have made.

    Args:
        workspace: owned by this process, its database not open yet.
    Raises:
        WorkspaceNotTrusted: it has content and its marker has no other half.
        StorageError: a half cannot be written.
    """
    if is_foreign(workspace):
        raise not_trusted()
    if not is_trusted(workspace):
        adopt(workspace)


def not_trusted() -> WorkspaceNotTrusted:
    """The refusal of what a workspace of unknown origin asks for."""
    return WorkspaceNotTrusted(
        "Nothing shows that this workspace was made by this user on this machine: its .ktrdr folder"
        " may be a copy, or older than the mark that newer versions leave. So it is only read.",
        hint="If it is yours, run `ktrdr-mcp doctor --adopt` once. In a container, start"
        " ktrdr-mcp with --trust-workspace or KTRDR_TRUST_WORKSPACE=1.",
    )
