"""Everything that a database holds, read without owning it and without changing a byte."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr_mcp.errors import DatabaseError
from ktrdr_mcp.store import marker
from ktrdr_mcp.store.inspection import inspect
from ktrdr_mcp.store.migrate import BUSY_TIMEOUT_MS, MIGRATION_FILES
from ktrdr_mcp.store.registry import ModelRow
from ktrdr_mcp.store.sqlite_errors import damaged, sqlite_errors
from ktrdr_mcp.store.task_row import TaskRow

TASKS: Final = "SELECT * FROM training_tasks ORDER BY seq"
SCORES: Final = "SELECT task_id, scores FROM training_tasks"
MODELS: Final = "SELECT * FROM models ORDER BY seq"


@dataclass(frozen=True)
class Content:
    """All rows, oldest first."""

    tasks: list[TaskRow]
    models: list[ModelRow]
    scores: dict[str, str | None]  # what the ledger keeps of each task, as JSON


def read(path: Path) -> Content:
    """Checks a database to the last index entry and reads it. Blocks.

    Args:
        path: the database file; a process may have it open.
    Raises:
        DatabaseError: it is damaged, older or newer than this program's.
        StorageError: it cannot be read.
    """
    check(path)
    with (
        sqlite_errors("reading the database"),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection,
    ):
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < len(MIGRATION_FILES):
            raise DatabaseError(
                f"The database has version {version}; this program reads {len(MIGRATION_FILES)}.",
                hint="'ktrdr-mcp tasks' brings it up to date; then try again.",
            )
        if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise damaged("its indices do not fit its tables")
        return Content(
            [TaskRow.from_row(row) for row in connection.execute(TASKS)],
            [ModelRow.from_row(row) for row in connection.execute(MODELS)],
            dict(connection.execute(SCORES).fetchall()),
        )


def check(path: Path) -> None:
    """Refuses what a start would refuse, also while a process opens or closes the database."""
    known = marker.read(path)
    try:
        inspect(path, known, len(MIGRATION_FILES))
    except DatabaseError:
        now = marker.read(path)
        if now == known:
            raise
        inspect(path, now, len(MIGRATION_FILES))
