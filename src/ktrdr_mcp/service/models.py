"""Saving models: from a completed task to a registered version, and the list of all models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from anyio import to_thread

from ktrdr_mcp import files
from ktrdr_mcp.errors import ModelCorrupted, ModelNotFound
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.requests import SaveModel
from ktrdr_mcp.schemas.results import TrialScores
from ktrdr_mcp.service import published as folders
from ktrdr_mcp.store.db import utc_now_text
from ktrdr_mcp.store.models import ModelRegistry, ModelRow, Owner, name_taken
from ktrdr_mcp.store.task_row import TaskRow, parse_column, read_stored
from ktrdr_mcp.training import bundle, formats
from ktrdr_mcp.training import publish as publishing
from ktrdr_mcp.training.bundle import DOCUMENT
from ktrdr_mcp.training.formats import Identity, model_formats


def require(manifest: bundle.BundleManifest, row: TaskRow, scores: str | None = None) -> None:
    """Compares a bundle's manifest with the row of its task.

    Args:
        manifest: of the bundle.
        row: the completed task.
        scores: what the trial log keeps of it, as JSON; None to leave it out.
    Raises:
        ModelCorrupted: a figure is not the one that was stored when the training ended.
        DatabaseError: what the trial log keeps is not what was written.
    """
    pairs: list[tuple[object, object]] = [
        (manifest.task_id, row.task_id),
        (manifest.metrics, row.result),
        (manifest.data_fingerprint, row.data_fingerprint),
    ]
    if scores is not None:
        pairs.append((manifest.scores, read_stored(TrialScores, parse_column(scores))))
    if any(found != stored for found, stored in pairs):
        raise ModelCorrupted(
            f"The result's file {DOCUMENT} does not have the figures that its task ended with.",
            hint="Train it again; this result is never used.",
        )


class ModelCatalog:
    """The registry, and beside it what lies in the models folder.

    Args:
        workspace: where models lie.
        registry: the models that were saved here.
    """

    def __init__(self, workspace: Workspace, registry: ModelRegistry) -> None:
        self._workspace = workspace
        self._registry = registry

    async def newest(self, name: str) -> ModelRow:
        """The version of a model that was made last.

        Raises:
            ModelNotFound: nothing has this name; names the models that exist.
            ModelCorrupted: KTRDR wrote a model of this name, and no version of it is whole; or the
                version's folder is gone.
        """
        theirs = await to_thread.run_sync(formats.newest_foreign, self._workspace, name)
        try:
            ours = await self._registry.newest(name)
        except ModelNotFound as error:
            if theirs is not None:
                return theirs
            raise await self._not_found(error, name) from None
        if theirs is not None and theirs.created_at > ours.created_at:
            return theirs
        await to_thread.run_sync(folders.require_folder, self._workspace, ours)
        return ours

    async def _not_found(self, error: ModelNotFound, name: str) -> ModelNotFound:
        """The registry's error, with KTRDR's models, and what a folder of this name is."""
        names = await to_thread.run_sync(formats.foreign_names, self._workspace)
        renamed = await to_thread.run_sync(folders.explain_renamed, self._workspace, name)
        theirs = f"Written by KTRDR: {', '.join(names[:10])}." if names else ""
        hint = " ".join(filter(None, [renamed, error.hint, theirs]))
        return ModelNotFound(error.message, hint=hint, field=error.field)

    async def page(self, request: requests.ListModels) -> tuple[list[ModelRow], bool]:
        """A page of models, newest first, whoever wrote them.

        Returns:
            the rows, and whether there are more.
        """
        limit, offset, symbol = request.limit, request.offset, request.symbol
        foreign = await to_thread.run_sync(formats.foreign_rows, self._workspace, symbol)
        if not foreign:
            saved = await self._registry.page(limit, offset, symbol)
            return await self._mark_missing(saved.rows), saved.has_more
        saved = await self._registry.page(offset + limit, 0, symbol)
        merged = sorted([*saved.rows, *foreign], key=lambda row: row.created_at, reverse=True)
        page = merged[offset : offset + limit]
        return await self._mark_missing(page), saved.has_more or len(merged) > offset + limit

    async def _mark_missing(self, rows: list[ModelRow]) -> list[ModelRow]:
        """Rows for a list: what is said of a version whose folder is gone is that."""
        return await to_thread.run_sync(folders.mark_missing, self._workspace, rows)

    async def names(self, prefix: str, limit: int) -> list[str]:
        """Names that begin with the prefix: those saved here first."""
        names = await self._registry.names(prefix, limit)
        found = await to_thread.run_sync(formats.foreign_names, self._workspace, prefix)
        return [*names, *(name for name in found if name not in names)][:limit]


KTRDR_DETAILS: Final = "ktrdr"  # the key in a row's details
SAVED_BEFORE: Final = (
    "This version was saved before KTRDR's files were written; save its task under another"
    " model_name to have them."
)
CARD_FIELDS: Final = (
    "strategy",
    "feature_names",
    "network",
    "classes",
    "periods",
    "metrics",
    "versions",
)


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
        StorageError: models/ or strategies/ is a link, or the disk failed; saving again goes on
            from there.
    """
    workspace.refuse_links(workspace.models / request.model_name)
    workspace.refuse_links(workspace.strategies)
    for each in model_formats().values():
        each.refuse_shared_folder(workspace, request.model_name)
    source = workspace.bundle_directory(task.task_id)
    require(bundle.read_manifest(source), task)
    name, card = request.model_name, new_card(request, task)
    published = publishing.publish(
        source,
        lambda number: workspace.model_directory(name, task.symbol, task.timeframe, number),
        version,
        card,
    )
    identity = Identity(name, published.version, task.symbol, task.timeframe, card["created_at"])
    reasons = publishing.link_copies(workspace, published.directory, identity, published.copies)
    return model_row(workspace, published.directory, published.manifest, identity, card, reasons)


def model_row(
    workspace: Workspace,
    directory: Path,
    manifest: bundle.BundleManifest,
    identity: Identity,
    card: Mapping[str, Any],
    reasons: Mapping[str, list[str]],
) -> ModelRow:
    """The row of a published version.

    Args:
        workspace: where it lies.
        directory: its folder.
        manifest: of its bundle.
        identity: what it is called.
        card: what is said of it beside its bundle.
        reasons: by format, why another program cannot use its copy in full.
    """
    metrics = manifest.metrics
    return ModelRow(
        model_id=card["model_id"],
        model_name=identity.model_name,
        version=identity.version,
        task_id=card["task_id"],
        symbol=identity.symbol,
        timeframe=identity.timeframe,
        strategy=manifest.strategy["name"],
        created_at=identity.created_at,
        description=card["description"],
        path=workspace.relative(directory),
        training_accuracy=metrics.training_metrics.final_train_accuracy,
        test_accuracy=metrics.test_metrics.test_accuracy,
        model_size_mb=round(metrics.model_info.model_size_mb, 6),
        architecture=metrics.model_info.architecture,
        bundle_sha256=files.sha256_of_file(directory / bundle.DOCUMENT),
        details={name: {"incompatibilities": found} for name, found in reasons.items()},
    )


def new_card(request: SaveModel, task: TaskRow) -> dict[str, str]:
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
    foreign = formats.foreign_format(row)
    if foreign is not None:
        return foreign.card(workspace, row)
    manifest = bundle.read_manifest(workspace.inside(row.path), row.bundle_sha256)
    stated = manifest.to_json()
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
        **{name: stated[name] for name in CARD_FIELDS},
        "config": manifest.config,
        "files": [*manifest.files, *copied_files(row)],
        "ktrdr_backtest_compatible": not ktrdr_incompatibilities(row),
        "ktrdr_incompatibilities": ktrdr_incompatibilities(row),
    }


def copied_files(row: ModelRow) -> list[str]:
    """The files of other programs that a version was saved with."""
    return [
        file
        for name, each in model_formats().items()
        if name in row.details
        for file in each.file_names
    ]


def row_of(workspace: Workspace, directory: Path) -> ModelRow:
    """Verifies a published version, makes it reachable for KTRDR, and describes it.

    Args:
        workspace: where it lies.
        directory: its folder.
    Raises:
        ModelCorrupted: a file is not what was written.
        StorageError: the disk failed.
    """
    verified, card = bundle.read(directory), folders.read_card(directory)
    with bundle.understood():
        return describe(workspace, directory, verified, card)


def describe(
    workspace: Workspace, directory: Path, verified: bundle.Bundle, card: dict[str, Any]
) -> ModelRow:
    """The row of a version that was read, once KTRDR can reach it. Raises StorageError."""
    manifest = verified.manifest
    series = manifest.spec["series"][0]
    identity = Identity(
        card["model_name"],
        card["version"],
        series["symbol"],
        series["timeframe"],
        card["created_at"],
    )
    copies = publishing.render_copies(verified, bundle.read_history(directory, manifest), identity)
    reasons = publishing.link_copies(workspace, directory, identity, copies)
    return model_row(workspace, directory, manifest, identity, card, reasons)
