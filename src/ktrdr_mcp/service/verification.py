"""Checks that every row has its files and every file is what was written; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import DatabaseError, KtrdrError, ModelCorrupted, shown
from ktrdr_mcp.jobs.model import TERMINAL
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service import models
from ktrdr_mcp.service.diagnosis import Finding
from ktrdr_mcp.service.models import published, read_card
from ktrdr_mcp.service.recovery import places_of_staging, tasks_with_bundles
from ktrdr_mcp.store import repair
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.spec import TrainingSpec

COPY: Final = "The model itself is whole; save its task under another model_name for KTRDR."
REBUILD: Final = "'ktrdr-mcp doctor --rebuild' makes the registry anew from the folders."


def verify(workspace: Workspace) -> Iterator[Finding]:
    """Compares the database with the folders and every file with its hash.

    Args:
        workspace: the folder; it need not be owned, and a laboratory may be running on it.
    Yields:
        what is wrong or worth knowing, then one finding that counts what is whole.
    """
    results = tasks_with_bundles(workspace)  # first: what ends meanwhile has a row by then
    try:
        content = content_of(workspace)
    except KtrdrError as error:
        yield Finding("database", "wrong", error.message, error.hint)
        return
    wrong = 0
    for finding in chain(findings(workspace, content), unknown_results(content, results)):
        wrong += finding.state == "wrong"
        yield finding
    if not wrong:
        counts = f"{len(content.tasks)} tasks and {len(content.models)} models"
        yield Finding("hashes", "ok", f"{counts}, every file is what was written")


def content_of(workspace: Workspace) -> repair.Content:
    """What the database holds; nothing where there has been none yet. Raises KtrdrError."""
    if workspace.database.exists():
        return repair.read(workspace.database)
    repair.check(workspace.database)
    return repair.Content([], [], {})


def findings(workspace: Workspace, content: repair.Content) -> Iterator[Finding]:
    """Everything that is not as it should be."""
    for row in content.tasks:
        yield from specification(row)
        yield from result(workspace, row, content.scores[row.task_id])
        yield from earlier_results(workspace, row.task_id)
    for model in content.models:
        yield from version(workspace, model)
    yield from unregistered(workspace, {row.path for row in content.models})
    for folder in places_of_staging(workspace):
        for leftover in folder.glob(".staging-*"):
            name = workspace.relative(leftover)
            remedy = "A process is writing it now, or the next start removes it."
            yield Finding("staging", "note", f"{name} is unfinished", remedy)


def specification(row: TaskRow) -> Iterator[Finding]:
    """What a task is to train, which only this version's own form can be run from."""
    try:
        TrainingSpec.from_dict(row.spec)
    except KtrdrError as error:
        text = f"Task {row.task_id}: {error.message}"
        yield Finding("tasks", "note" if row.status in TERMINAL else "wrong", text, error.hint)


def result(workspace: Workspace, row: TaskRow, scores: str | None) -> Iterator[Finding]:
    """A completed task's bundle."""
    directory = workspace.bundle_directory(row.task_id)
    if row.status != "completed":
        return
    if not directory.exists():
        yield Finding("tasks", "note", f"The bundle of task {row.task_id} is not kept any more.")
        return
    try:
        models.require(bundle.read(directory).document, row, scores)
    except ModelCorrupted as error:
        text = f"The bundle of task {row.task_id}: {error.message}"
        yield Finding("tasks", "wrong", text, "Start the same training again to have its result.")
    except DatabaseError as error:
        yield Finding("tasks", "wrong", f"Task {row.task_id}: {error.message}", REBUILD)


def earlier_results(workspace: Workspace, task_id: str) -> Iterator[Finding]:
    """What lay in the place of a task's result before, of a training that had the same id."""
    directory = workspace.bundle_directory(task_id)
    for folder in files.folders_set_aside(directory):
        text = f"{workspace.relative(folder)} is another training's result, or a damaged one."
        remedy = (
            f"As {workspace.relative(directory)} of another workspace, 'ktrdr-mcp doctor --rebuild'"
            " there brings it back; 'ktrdr-mcp clean' here removes it."
        )
        yield Finding("tasks", "note", text, remedy)


def version(workspace: Workspace, row: ModelRow) -> Iterator[Finding]:
    """A registered version's folder."""
    try:
        directory = workspace.inside(row.path)
        if not directory.is_dir():
            yield Finding("models", "wrong", f"{row.path} is missing.", REBUILD)
            return
        bundle.read(directory, row.bundle_sha256)
        card = read_card(directory)
    except KtrdrError as error:
        yield Finding("models", "wrong", f"{row.path}: {error.message}", error.hint)
        return
    yield from copy(directory, row, card.get("sha256", {}))


def copy(directory: Path, row: ModelRow, hashes: Mapping[str, str]) -> Iterator[Finding]:
    """KTRDR's files of a version; those of versions saved before they were hashed pass."""
    for name, expected in hashes.items():
        try:
            bundle.verify(directory, name, expected)
        except ModelCorrupted as error:
            text = f"{row.path}, KTRDR's copy: {error.message}"
            yield Finding("models", "wrong", text, COPY)


def unregistered(workspace: Workspace, known: set[str]) -> Iterator[Finding]:
    """Published versions that the registry does not have."""
    for directory in published(workspace):
        name = workspace.relative(directory)
        if name in known:
            continue
        try:
            read_card(directory)
            bundle.read(directory)
        except ModelCorrupted as error:
            yield Finding("models", "wrong", f"{name}: {error.message}", error.hint)
        else:
            remedy = "The next start registers it, or its log says why it cannot."
            yield Finding("models", "note", f"{name} is not registered.", remedy)


def unknown_results(content: repair.Content, results: set[str]) -> Iterator[Finding]:
    """Results of tasks that the database does not have.

    Args:
        content: of the database.
        results: the ids of all tasks with a result.
    """
    for name in sorted(results - {row.task_id for row in content.tasks}):
        text = f"The database does not know the result of task {shown(name)}."
        yield Finding("tasks", "wrong", text, "'ktrdr-mcp doctor --rebuild' takes it in.")
