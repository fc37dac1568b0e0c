"""Saving: from a completed task to a version in the registry."""

from __future__ import annotations

from typing import Any, Final

from ktrdr_mcp.contract.requests import SaveModel
from ktrdr_mcp.lab import agreement, ktrdr_models
from ktrdr_mcp.learn import bundle
from ktrdr_mcp.learn.ktrdr import conventions
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.research import ktrdr_copy
from ktrdr_mcp.research import publish as publishing
from ktrdr_mcp.store.clock import utc_now_text
from ktrdr_mcp.store.registry import ModelRegistry, ModelRow, Owner, name_taken
from ktrdr_mcp.store.task_row import TaskRow

KTRDR_DETAILS: Final = "ktrdr"  # the key in a row's details
SAVED_BEFORE: Final = (
    "This version was saved before KTRDR's files were written; save its task under another"
    " model_name to have them."
)
CARD_FIELDS = ("strategy", "feature_names", "network", "classes", "periods", "metrics", "versions")


async def require_owner(registry: ModelRegistry, model_name: str, task: TaskRow) -> None:
    """Refuses a name of another strategy, symbol or timeframe. Raises ModelNameTaken."""
    owner = await registry.owner(model_name)
    if owner is not None and owner != Owner(task.strategy, task.symbol, task.timeframe):
        raise name_taken(model_name, owner)


def publish(workspace: Workspace, request: SaveModel, task: TaskRow, version: int) -> ModelRow:
    """Publishes a task's bundle with KTRDR's files, and makes its row.

    Args:
        workspace: where models lie.
        request: name and description.
        task: the completed task.
        version: the lowest version that may be free.
    Raises:
        ModelCorrupted: the task's bundle is not what was written.
        ModelNameTaken: KTRDR keeps a model of its own under this name.
        StorageError: the disk failed; saving again goes on from there.
    """
    ktrdr_models.refuse_shared_folder(workspace, request.model_name)
    source = workspace.bundle_directory(task.task_id)
    agreement.require(bundle.read_document(source), task)
    name, card = request.model_name, card_of(request, task)
    published = publishing.publish(
        source,
        lambda number: workspace.model_directory(name, task.symbol, task.timeframe, number),
        version,
        card,
    )
    reasons = ktrdr_copy.place(workspace, published.directory, name, published.copy)
    metrics = published.document["metrics"]
    return ModelRow(
        model_id=card["model_id"],
        model_name=name,
        version=published.version,
        task_id=task.task_id,
        symbol=task.symbol,
        timeframe=task.timeframe,
        strategy=task.strategy,
        created_at=card["created_at"],
        description=request.description,
        path=workspace.relative(published.directory),
        training_accuracy=metrics["training_metrics"]["final_train_accuracy"],
        test_accuracy=metrics["test_metrics"]["test_accuracy"],
        model_size_mb=round(metrics["model_info"]["model_size_mb"], 6),
        architecture=metrics["model_info"]["architecture"],
        bundle_sha256=published.sha256,
        details={KTRDR_DETAILS: {"incompatibilities": reasons}},
    )


def card_of(request: SaveModel, task: TaskRow) -> dict[str, str]:
    """What is said of a version beside its bundle."""
    return {
        "model_id": publishing.model_id(task.task_id, request.model_name),
        "model_name": request.model_name,
        "task_id": task.task_id,
        "symbol": task.symbol,
        "timeframe": task.timeframe,
        "description": request.description,
        "created_at": utc_now_text(),
    }


def ktrdr_incompatibilities(row: ModelRow) -> list[str]:
    """Why KTRDR's backtester could not use a version when it was saved; empty if it could."""
    kept = row.details.get(KTRDR_DETAILS)
    return [SAVED_BEFORE] if kept is None else list(kept["incompatibilities"])


def card(workspace: Workspace, row: ModelRow) -> dict[str, Any]:
    """What a model is, was trained on and measured. Raises ModelCorrupted."""
    if ktrdr_models.is_ktrdrs(row):
        return ktrdr_models.card(workspace, row)
    document = bundle.read_document(workspace.inside(row.path), row.bundle_sha256)
    return {
        "model_id": row.model_id,
        "model_name": row.model_name,
        "version": row.version,
        "description": row.description,
        "created_at": row.created_at,
        "symbol": row.symbol,
        "timeframe": row.timeframe,
        "model_path": row.path,
        "task_id": row.task_id,
        **{name: document[name] for name in CARD_FIELDS},
        "config": document["spec"]["config"],
        "files": [*publishing.BUNDLE, *(conventions.FILES if KTRDR_DETAILS in row.details else ())],
        "ktrdr_backtest_compatible": not ktrdr_incompatibilities(row),
        "ktrdr_incompatibilities": ktrdr_incompatibilities(row),
    }
