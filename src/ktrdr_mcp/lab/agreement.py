"""Whether a bundle's figures are those that its task's row has; nothing hashes its document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.learn.bundle import DOCUMENT
from ktrdr_mcp.store.task_row import TaskRow, parsed


def require(document: Mapping[str, Any], row: TaskRow, scores: str | None = None) -> None:
    """Compares a bundle's document with the row of its task.

    Args:
        document: of the bundle.
        row: the completed task.
        scores: what the ledger keeps of it, as JSON; None to leave it out.
    Raises:
        ModelCorrupted: a figure is not the one that was stored when the training ended.
        DatabaseError: what the ledger keeps is not what was written.
    """
    pairs = [
        (document.get("task_id"), row.task_id),
        (document.get("metrics"), row.result),
        (document.get("data_fingerprint"), row.data_fingerprint),
    ]
    if scores is not None:
        pairs.append((document.get("scores"), parsed(scores)))
    if any(found != stored for found, stored in pairs):
        raise ModelCorrupted(
            f"The result's file {DOCUMENT} does not have the figures that its task ended with.",
            hint="Train it again; this result is never used.",
        )
