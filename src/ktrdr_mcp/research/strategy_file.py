"""Strategy files that this program writes for KTRDR, told apart from those that a user wrote.

The first line carries the hash of what follows; a file without it, or changed since, is the user's.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from ktrdr_mcp import durable
from ktrdr_mcp.limits import MAX_STRATEGY_BYTES
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.strategy.library import built_in

STAMP: Final = re.compile(rb"# Written by ktrdr-mcp [^\n]* sha256:([0-9a-f]{64})\n")


def stamped(text: str, model_name: str, version: int) -> bytes:
    """A strategy file that says who wrote it.

    Args:
        text: the file's YAML.
        model_name: the model that it is for.
        version: of the model.
    """
    body = text.encode()
    first = (
        f"# Written by ktrdr-mcp for model {model_name}, version {version}; a later version"
        f" replaces it, unless it was edited. sha256:{hashlib.sha256(body).hexdigest()}\n"
    )
    return first.encode() + body


def is_ours(path: Path) -> bool:
    """Whether a file is exactly what this program wrote."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_STRATEGY_BYTES:
        return False
    data = path.read_bytes()
    stamp = STAMP.match(data)
    if stamp is None:
        return False
    return hashlib.sha256(data[stamp.end() :]).hexdigest() == stamp[1].decode()


def place(workspace: Workspace, model_name: str, content: bytes | None) -> str | None:
    """Puts a model's strategy file in place, unless the name is the user's or a built-in one.

    Args:
        workspace: where strategies lie.
        model_name: the model, whose name the file has.
        content: what `stamped` made; None removes the file of an earlier version.
    Returns:
        why it could not be written, or None.
    Raises:
        StorageError: the disk failed.
    """
    path = workspace.strategy_file(model_name)
    shown = f"strategies/{path.name}"
    with durable.storage_errors(f"reading {path.name}"):
        taken = path.is_symlink() or path.exists()
        ours = taken and is_ours(path)
        if content is None:
            if ours:
                path.unlink()
            return None
    if taken and not ours:
        return (
            f"{shown} was not written by this program, or was edited since, so it was left as it"
            " is; save under another model_name for a strategy file that KTRDR can use."
        )
    if built_in(model_name) is not None:
        return (
            f"{shown} would hide the built-in strategy of that name, so it was not written; save"
            " under another model_name for a strategy file that KTRDR can use."
        )
    durable.replace(path, content)
    return None
