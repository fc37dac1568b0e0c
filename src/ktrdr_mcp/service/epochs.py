"""The epochs of tasks without a result: kept beside their other files when a run ends."""

from __future__ import annotations

import json
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.jobs.epochs import EpochCurve
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.training.bundle import History

EPOCHS: Final = "epochs.json"  # beside a task's bundle
LARGEST_BYTES: Final = 256 * 1024  # ten times what is ever written


def keep_epochs(workspace: Workspace, task_id: str, epochs: EpochCurve) -> None:
    """Writes them. Raises StorageError."""
    files.replace(
        workspace.task_directory(task_id) / EPOCHS, files.json_bytes({"epochs": epochs.to_json()})
    )


def read_epochs(workspace: Workspace, task_id: str) -> History:
    """What `keep_epochs` wrote; none if it is not there or not what was written."""
    path = workspace.task_directory(task_id) / EPOCHS
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST_BYTES:
            return []
        kept = json.loads(path.read_bytes())["epochs"]
        figures = all(isinstance(value, int | float) for each in kept for value in each.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return list(kept) if figures else []
