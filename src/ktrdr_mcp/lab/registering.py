"""The row of a published model, made from its folder alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ktrdr_mcp import durable, limits
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.lab.ktrdr_models import folders
from ktrdr_mcp.lab.models import KTRDR_DETAILS
from ktrdr_mcp.learn import bundle
from ktrdr_mcp.learn.ktrdr import conventions
from ktrdr_mcp.learn.ktrdr.documents import Identity
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.research import ktrdr_copy
from ktrdr_mcp.research.publish import CARD, model_id
from ktrdr_mcp.store.registry import ModelRow


def published(workspace: Workspace) -> Iterator[Path]:
    """The folders of all versions that this program published."""
    for folder in folders(workspace.models):
        for directory in sorted(folder.iterdir()):
            if not directory.is_symlink() and (directory / CARD).is_file():
                yield directory


def row_of(workspace: Workspace, directory: Path) -> ModelRow:
    """Verifies a published version, makes it reachable for KTRDR, and describes it.

    Args:
        workspace: where it lies.
        directory: its folder.
    Raises:
        ModelCorrupted: a file is not what was written.
        StorageError: the disk failed.
    """
    verified, card = bundle.read(directory), card_of(directory)
    with bundle.understood():
        return described(workspace, directory, verified, card)


def described(
    workspace: Workspace, directory: Path, verified: bundle.Bundle, card: dict[str, Any]
) -> ModelRow:
    """The row of a version that was read, once KTRDR can reach it. Raises StorageError."""
    document = verified.document
    series = document["spec"]["series"][0]
    identity = Identity(
        card["model_name"],
        card["version"],
        series["symbol"],
        series["timeframe"],
        card["created_at"],
    )
    copy = ktrdr_copy.render(verified, bundle.read_history(directory, document), identity)
    reasons = ktrdr_copy.place(workspace, directory, identity.model_name, copy)
    metrics = document["metrics"]
    return ModelRow(
        model_id=card["model_id"],
        model_name=identity.model_name,
        version=identity.version,
        task_id=card["task_id"],
        symbol=identity.symbol,
        timeframe=identity.timeframe,
        strategy=document["strategy"]["name"],
        created_at=identity.created_at,
        description=card["description"],
        path=workspace.relative(directory),
        training_accuracy=metrics["training_metrics"]["final_train_accuracy"],
        test_accuracy=metrics["test_metrics"]["test_accuracy"],
        model_size_mb=round(metrics["model_info"]["model_size_mb"], 6),
        architecture=metrics["model_info"]["architecture"],
        bundle_sha256=durable.sha256_of_file(directory / bundle.DOCUMENT),
        details={KTRDR_DETAILS: {"incompatibilities": reasons}},
    )


def card_of(directory: Path) -> dict[str, Any]:
    """The card beside a published bundle. Raises ModelCorrupted."""
    path = bundle.regular_file(directory, CARD, limits.MAX_BUNDLE_JSON_BYTES)
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        named = model_id(card["task_id"], card["model_name"])
        texts = isinstance(card["description"], str) and isinstance(card["created_at"], str)
        series = f"{card['symbol']}_{card['timeframe']}_v{card['version']}"
        here = (directory.parent.name, directory.name) == (card["model_name"], series)
        known = card.get("sha256", {}).keys() <= set(conventions.FILES)
        if texts and here and known and card["model_id"] == named:
            return card
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ModelCorrupted(
        f"The model's file {CARD} is not what was written.",
        hint="Save the model again from its task; this copy is not registered.",
    )
