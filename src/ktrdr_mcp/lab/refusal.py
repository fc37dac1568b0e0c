"""Why a laboratory could not start: the process that could not writes it, its starter reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ktrdr_mcp import durable
from ktrdr_mcp.errors import KtrdrError, kinds_by_code
from ktrdr_mcp.paths import Workspace

NAME: Final = "lab-refusal.json"
MAX_BYTES: Final = 16 * 1024


def file_of(workspace: Workspace) -> Path:
    """Where the refusal is written."""
    return workspace.internal / NAME


def write(workspace: Workspace, error: KtrdrError) -> None:
    """Tells whoever started this process why it ends. Raises StorageError."""
    document = durable.json_bytes(error.to_dict()["error"])
    durable.replace(file_of(workspace), document, mode=0o600)


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
    with durable.storage_errors("removing an old refusal"):
        file_of(workspace).unlink(missing_ok=True)
