"""Recovers a damaged database: quarantine, restore from a backup, read, drop damaged rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import DatabaseError, StorageError
from ktrdr_mcp.schemas.results import Stored, TaskResult, TrialScores
from ktrdr_mcp.store import inspection
from ktrdr_mcp.store.db import Database, rows_of
from ktrdr_mcp.store.inspection import backups, inspect
from ktrdr_mcp.store.migrate import BUSY_TIMEOUT_MS, MIGRATION_FILES, copy_whole
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.sqlite_errors import damaged_database, sqlite_errors
from ktrdr_mcp.store.task_row import JSON_COLUMNS, TaskRow, parse_column, read_stored

TASKS: Final = "SELECT * FROM training_tasks ORDER BY seq"
SELECT_SCORES: Final = "SELECT task_id, scores FROM training_tasks"
MODELS: Final = "SELECT * FROM models ORDER BY seq"
TEXT_COLUMNS: Final = "SELECT name FROM pragma_table_info('training_tasks') WHERE type = 'TEXT'"
DROP_TASK: Final = (
    *(
        f"DELETE FROM {table} WHERE task_id = (SELECT task_id FROM training_tasks WHERE seq = ?)"  # noqa: S608
        for table in ("test_readings", "standings")  # which refer to it
    ),
    "DELETE FROM training_tasks WHERE seq = ?",
)
STORED: Final[Mapping[str, type[Stored]]] = {"result": TaskResult, "scores": TrialScores}


def quarantine_log(path: Path) -> list[str]:
    """Puts the write-ahead log, which may be foreign or missing, in quarantine.

    Args:
        path: the database file.
    Returns:
        the new names of what was moved.
    """
    known = inspection.read(path)
    moved = _move(path, ("-wal", "-shm"))
    if known is not None:
        inspection.write(path, inspection.Marker(known.workspace_id, running=False))
    return moved


def quarantine_database(path: Path) -> list[str]:
    """Puts the database in quarantine and removes its marker, so that a new one can be made.

    Args:
        path: the database file.
    Returns:
        the new names of what was moved.
    """
    moved = _move(path, ("", "-wal", "-shm"))
    with files.storage_errors("putting the database in quarantine"):
        path.with_name(inspection.NAME).unlink(missing_ok=True)
        files.sync_directory(path.parent)
    return moved


def _move(path: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Renames the files that there are to the first free names."""
    number = 1
    while any(_quarantine_name(path, suffix, number).exists() for suffix in ("", "-wal", "-shm")):
        number += 1
    moved = []
    with files.storage_errors("putting the database in quarantine"):
        for suffix in suffixes:
            source = path.with_name(path.name + suffix)
            if source.exists():
                moved.append(source.rename(_quarantine_name(path, suffix, number)).name)
        files.sync_directory(path.parent)
    return moved


def _quarantine_name(path: Path, suffix: str, number: int) -> Path:
    """The name of a damaged file."""
    return path.with_name(f"{path.name}.damaged-{number}{suffix}")


def restore_newest_backup(path: Path) -> str | None:
    """Makes the newest whole backup the database; the backup itself stays. Blocks.

    Args:
        path: the database file; there is none now.
    Returns:
        the backup's name; None if there is none that is whole.
    Raises:
        StorageError: it cannot be copied.
    """
    for name in backups(path):
        backup = path.with_name(name)
        try:
            inspect(backup, None, len(MIGRATION_FILES))
        except (DatabaseError, StorageError):
            continue
        _copy(backup, path)
        return name
    return None


def _copy(backup: Path, path: Path) -> None:
    """Copies a database, whole or not at all."""
    uri = f"{backup.absolute().as_uri()}?mode=ro"
    with (
        sqlite_errors("restoring the database"),
        closing(sqlite3.connect(uri, uri=True)) as source,
    ):
        copy_whole(source, path, "restoring the database")


@dataclass(frozen=True)
class Content:
    """All rows, oldest first."""

    tasks: list[TaskRow]
    models: list[ModelRow]
    scores: dict[str, str | None]  # what the trial log keeps of each task, as JSON


def read(path: Path) -> Content:
    """Checks a database to the last index entry and reads it. Blocks.

    Args:
        path: the database file; a process may have it open.
    Raises:
        DatabaseError: it is damaged, older or newer than this program's.
        StorageError: it cannot be read.
    """
    check(path)
    with reading(path) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < len(MIGRATION_FILES):
            raise DatabaseError(
                f"The database has version {version}; this program reads {len(MIGRATION_FILES)}.",
                hint="'ktrdr-mcp tasks' brings it up to date; then try again.",
            )
        if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise damaged_database("its indices do not fit its tables")
        return Content(
            [TaskRow.from_row(row) for row in connection.execute(TASKS)],
            [ModelRow.from_row(row) for row in connection.execute(MODELS)],
            dict(connection.execute(SELECT_SCORES).fetchall()),
        )


def read_models(path: Path) -> list[ModelRow]:
    """The registered versions of a sound database; none of one that is older. Blocks.

    Args:
        path: the database file; a process may have it open.
    Raises:
        StorageError: it cannot be read.
    """
    with reading(path) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] < len(MIGRATION_FILES):
            return []
        return [ModelRow.from_row(row) for row in connection.execute(MODELS)]


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing."""
    with (
        sqlite_errors("reading the database"),
        closing(sqlite3.connect(inspection.reading_uri(path), uri=True)) as connection,
    ):
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        yield connection


def check(path: Path) -> None:
    """Refuses what a start would refuse, also while a process opens or closes the database."""
    known = inspection.read(path)
    try:
        inspect(path, known, len(MIGRATION_FILES))
    except DatabaseError:
        now = inspection.read(path)
        if now == known:
            raise
        inspect(path, now, len(MIGRATION_FILES))


async def drop_unreadable_tasks(database: Database) -> list[str]:
    """Removes the tasks that cannot be read; the copy made at the start still has them.

    Args:
        database: the open database.
    Returns:
        their ids, as far as those can be read.
    """
    async with database.transaction() as connection:
        names = [row[0] for row in await rows_of(connection, TEXT_COLUMNS)]
        # As bytes, because a text that is no UTF-8 cannot even be fetched.
        texts = ", ".join(f"CAST({name} AS BLOB) AS {name}" for name in names)
        rows = await rows_of(connection, f"SELECT seq, {texts} FROM training_tasks")  # noqa: S608
        unreadable = [row for row in rows if not _is_readable(row, names)]
        for row in unreadable:
            for statement in DROP_TASK:
                await rows_of(connection, statement, (row["seq"],))
    return [row["task_id"].decode(errors="replace") for row in unreadable]


def _is_readable(row: sqlite3.Row, names: list[str]) -> bool:
    """Whether every text is UTF-8, JSON where it should be, and a result as it is read."""
    try:
        for name in names:
            text = None if row[name] is None else row[name].decode()
            if text is None:
                continue
            if name in STORED:
                read_stored(STORED[name], parse_column(text))
            elif name in JSON_COLUMNS:
                parse_column(text)
    except (UnicodeDecodeError, DatabaseError):
        return False
    return True
