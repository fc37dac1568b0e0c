"""What a start does about what an interrupted process left: sweeps, adopts, reports.

Nothing here is needed for answering, so whatever fails is logged and left for the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread

from ktrdr_mcp import files
from ktrdr_mcp.errors import InvalidName, KtrdrError, shown
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import TERMINAL, sources_of
from ktrdr_mcp.jobs.outcome import outcome_of
from ktrdr_mcp.jobs.threads import Ended
from ktrdr_mcp.paths import Workspace, task_id
from ktrdr_mcp.service.models import published, row_of
from ktrdr_mcp.store.models import ModelRegistry
from ktrdr_mcp.store.stores import Stores
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.tasks import TaskStore
from ktrdr_mcp.training.pipeline import earlier_result
from ktrdr_mcp.training.spec import TrainingSpec

log = logging.getLogger(__name__)


async def recover(workspace: Workspace, stores: Stores) -> None:
    """Puts a workspace in order before any task runs; this process owns it.

    Args:
        workspace: the folder.
        stores: its database.
    """
    steps = (
        sweep_staging(workspace),
        adopt_results(workspace, stores.tasks),
        adopt_models(workspace, stores.registry),
        report_orphans(workspace, stores.registry),
        report_strangers(workspace, stores.tasks),
        drop_checkpoints(workspace, stores.tasks),
    )
    for step in steps:
        try:
            await step
        except Exception:
            log.exception("the workspace could not be put in order; the next start tries again")


async def sweep_staging(workspace: Workspace) -> None:
    """Removes what interrupted writers left, and says so."""
    if count := await anyio.to_thread.run_sync(sweep, workspace):
        log.warning("%d unfinished files or folders were removed", count)


def sweep(workspace: Workspace) -> int:
    """Removes what interrupted writers left.

    Returns:
        how many files and folders there were.
    """
    return sum(files.sweep(parent) for parent in places_of_staging(workspace))


def places_of_staging(workspace: Workspace) -> Iterator[Path]:
    """Every folder in which this program writes."""
    yield from (workspace.internal, workspace.strategies, workspace.models)
    tasks = workspace.internal / "tasks"
    for parent in (tasks, workspace.models):
        for folder in parent.iterdir() if parent.is_dir() else ():
            if folder.is_dir() and not folder.is_symlink():
                yield folder
    yield from checkpoint_folders(workspace)


def checkpoint_folders(workspace: Workspace) -> list[Path]:
    """The folders of all checkpoints that there are."""
    return sorted((workspace.internal / "tasks").glob("*/checkpoints"))


async def adopt_results(workspace: Workspace, tasks: TaskStore) -> None:
    """Completes the tasks whose bundle was published just before their process died."""
    for row in await tasks.left_running(""):
        try:
            result = await anyio.to_thread.run_sync(published_result, workspace, row)
        except KtrdrError as error:
            log.warning("task %s: %s", row.task_id, error.message)
            continue
        if result is None:
            continue
        outcome = outcome_of(row.task_id, result, Live(0.0), stop_requested=False)
        if outcome is not None:
            allowed = sources_of(outcome.status)
            columns = {**outcome.columns, "resumed_from": row.resumed_from}
            await tasks.move(row.task_id, allowed, outcome.status, row.fence, columns)
            log.warning("task %s had finished; now it is %s", row.task_id, outcome.status)


def published_result(workspace: Workspace, row: TaskRow) -> Ended | None:
    """The end of a run that published its bundle, if it did."""
    directory = workspace.bundle_directory(row.task_id)
    result = earlier_result(directory, TrainingSpec.from_dict(row.spec))
    return None if result is None else Ended(result=result)


async def adopt_models(workspace: Workspace, registry: ModelRegistry) -> None:
    """Registers the versions that were published just before their process died."""
    known = {row.path for row in await registry.everything()}
    for directory in await anyio.to_thread.run_sync(lambda: list(published(workspace))):
        if workspace.relative(directory) in known:
            continue
        try:
            row = await anyio.to_thread.run_sync(row_of, workspace, directory)
            _, created = await registry.insert(row)
            if created:
                log.warning("model %s version %d is registered now", row.model_name, row.version)
            else:
                log.warning("%s is a copy of a registered model", workspace.relative(directory))
        except KtrdrError as error:
            log.warning("%s is not registered: %s", workspace.relative(directory), error.message)


async def report_orphans(workspace: Workspace, registry: ModelRegistry) -> None:
    """Names the registered versions whose folder is gone."""
    for row in await registry.everything():
        if not workspace.inside(row.path).is_dir():
            log.error("model %s version %d has lost its folder", row.model_name, row.version)


async def report_strangers(workspace: Workspace, tasks: TaskStore) -> None:
    """Names the results of tasks that the database does not know, as after an older backup."""
    known = set(await tasks.ids_with_prefix("", -1))
    if strangers := sorted(tasks_with_bundles(workspace) - known):
        log.error(
            "the database does not know %d results, that of task %s for one;"
            " 'ktrdr-mcp doctor --rebuild' takes them in",
            len(strangers),
            shown(strangers[0]),
        )


def tasks_with_bundles(workspace: Workspace) -> set[str]:
    """The names of all folders of tasks that hold a result."""
    return {path.parent.name for path in (workspace.internal / "tasks").glob("*/bundle")}


async def drop_checkpoints(workspace: Workspace, tasks: TaskStore) -> None:
    """Removes the checkpoints of tasks that will not run again."""
    for folder in checkpoint_folders(workspace):
        try:
            row = await tasks.get(task_id(folder.parent.name))
        except (KtrdrError, InvalidName):
            continue  # not a task of this database; nothing that is ours to remove
        if row.status in TERMINAL:
            await anyio.to_thread.run_sync(files.discard, folder)


def clean_up(workspace: Workspace, identifier: str) -> None:
    """Removes what only a further run of a task would need. Raises StorageError."""
    folder = workspace.checkpoints_directory(identifier)
    if folder.exists():
        files.discard(folder)
