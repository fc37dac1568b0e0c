"""Removing what finished tasks left and nobody saved; rows and saved models stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.jobs.model import TERMINAL
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service.reports import EXPLANATION
from ktrdr_mcp.service.resources import EPOCHS
from ktrdr_mcp.service.training import REQUEST
from ktrdr_mcp.store import db, inspection, repair
from ktrdr_mcp.store.inspection import inspect
from ktrdr_mcp.store.migrate import MIGRATION_FILES, prepare, read_migrations
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.training.explain import FOLDS


@dataclass(frozen=True)
class Unsaved:
    """The result of a finished task that nobody saved, with what was set aside from its place."""

    task: TaskRow
    size_bytes: int


def removable(workspace: Workspace, older_than_days: int) -> list[Unsaved]:
    """What `clean` would remove, of the oldest tasks first; changes nothing.

    Args:
        workspace: the folder; it need not be owned, and a daemon may be running on it.
        older_than_days: for how long a task must have ended.
    Raises:
        DatabaseError: the database is damaged, lost, or of another version than this program's.
        StorageError: it cannot be read.
    """
    return find_unsaved(workspace, not_needed(workspace, older_than_days))


def clean(workspace: Workspace, older_than_days: int) -> list[Unsaved]:
    """Removes results that nobody saved; a crash leaves each whole, or for a start to sweep.

    Args:
        workspace: the folder; the caller owns it (see `ownership.lock`).
        older_than_days: for how long a task must have ended.
    Returns:
        what was removed.
    Raises:
        DatabaseError: the database is damaged or lost; nothing was removed.
        StorageError: some results could not be removed; the others are.
    """
    # As at a start, so that nothing is removed on the word of a database that it would refuse.
    prepare(workspace.database, read_migrations())
    tasks = not_needed(workspace, older_than_days)
    removed, failed = list[Unsaved](), list[StorageError]()
    for one in find_unsaved(workspace, tasks):
        try:
            removed.append(Unsaved(one.task, remove(workspace, one.task)))
        except StorageError as error:
            failed.append(error)
    for task in tasks:
        remove_if_empty(workspace.task_directory(task.task_id))
    if failed:
        share = f"{len(failed)} of {len(failed) + len(removed)} results"
        raise StorageError(
            f"{share} could not be removed: {failed[0].message}", hint=failed[0].hint
        )
    return removed


def remove(workspace: Workspace, task: TaskRow) -> int:
    """Removes a task's result, and earlier ones. Raises StorageError, and what is left is whole.

    Returns:
        the bytes of its files, but for those that the system did not let go.
    """
    folder = workspace.task_directory(task.task_id)
    before = bytes_in(folder)
    for result in results(workspace, task):
        if result.is_dir():
            files.discard(result)
        else:
            with files.storage_errors(f"removing {result.name}"):
                result.unlink()
    return before - bytes_in(folder)


def not_needed(workspace: Workspace, older_than_days: int) -> list[TaskRow]:
    """The tasks that ended so long ago and whose results are neither saved nor still compared."""
    database = workspace.database
    if not database.exists():  # there was none yet, or it is refused as lost
        inspect(database, inspection.read(database), len(MIGRATION_FILES))
        return []
    content, latest = repair.read(database), db.days_ago_text(older_than_days)
    running = [task for task in content.tasks if task.status not in TERMINAL]
    needed = {model.task_id for model in content.models}
    needed |= {task.group_id for task in running if task.group_id}  # what reproductions repeat
    return [
        task
        for task in content.tasks
        if task.status in TERMINAL
        and task.completed_at is not None
        and task.completed_at <= latest
        and task.task_id not in needed
    ]


def find_unsaved(workspace: Workspace, tasks: Sequence[TaskRow]) -> list[Unsaved]:
    """The results that are there of these tasks."""
    found = [(task, results(workspace, task)) for task in tasks]
    return [Unsaved(task, sum(map(bytes_in, folders))) for task, folders in found if folders]


def results(workspace: Workspace, task: TaskRow) -> list[Path]:
    """The folder of a task's result, after those set aside from its place; then what is beside."""
    directory = workspace.bundle_directory(task.task_id)
    folders = files.folders_set_aside(directory)
    if directory.is_dir() and not directory.is_symlink():
        folders.append(directory)
    beside = [directory.with_name(name) for name in (FOLDS, EXPLANATION)]
    return folders + [path for path in beside if path.is_file() and not path.is_symlink()]


def bytes_in(path: Path) -> int:
    """What a file, or the files below a folder, hold."""
    with files.storage_errors(f"looking at {path.name}"):
        found = [path, *path.rglob("*")]
        return sum(each.lstat().st_size for each in found if not each.is_dir())


def remove_if_empty(folder: Path) -> None:
    """Removes a folder without a result; any other stays."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {REQUEST, EPOCHS}:
            for name in (REQUEST, EPOCHS):
                (folder / name).unlink(missing_ok=True)
        folder.rmdir()
