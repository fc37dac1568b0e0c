"""Inspects a database file before anything may change it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import DatabaseError, StorageError
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.store.sqlite_errors import damaged_database, sqlite_errors

NAME: Final = "workspace.json"


@dataclass(frozen=True)
class Marker:
    """What is known of a database without opening it."""

    workspace_id: str | None  # None if the marker itself is unreadable
    running: bool  # a process has it open, or died with it open: then it has a log


def read(database: Path) -> Marker | None:
    """The marker beside a database; None if there was never one.

    Args:
        database: the database file.
    """
    try:
        values = json.loads(database.with_name(NAME).read_bytes())
        identity = values["workspace_id"]
        return Marker(None if identity is None else str(identity), values["running"] is True)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Marker(None, running=False)


def write(database: Path, marker: Marker) -> None:
    """Writes the marker beside a database. Raises StorageError."""
    content = files.json_bytes({"format": 1, **asdict(marker)})
    files.replace(database.with_name(NAME), content, 0o600)


def say_closed(database: Path) -> None:
    """Sees to it that no marker speaks of a log that is not there any more.

    Args:
        database: the database file, which has been closed.
    """
    known: Marker | None = None
    with contextlib.suppress(OSError):
        known = read(database)
    if known is not None and known.running:
        try:
            write(database, replace(known, running=False))
        except StorageError:
            remove(database)


def remove(database: Path) -> None:
    """Takes the marker away, which needs no space; where that fails too, it stays.

    Args:
        database: the database file.
    """
    with contextlib.suppress(OSError):
        database.with_name(NAME).unlink(missing_ok=True)


LOG_SUFFIX: Final = "-wal"
JOURNAL_SUFFIX: Final = "-journal"
BACKUP_INFIX: Final = ".bak-"
WRITE_VERSION: Final = 18  # where a file's header says whether it keeps a write-ahead log
NO_LOG: Final = b"\x01"
COLUMNS: Final = """
SELECT columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table'"""
IDENTITY_VERSION: Final = 2  # from here on, the database knows its workspace


def inspect(path: Path, marker: Marker | None, newest_version: int) -> None:
    """Refuses a database that is not what this workspace's last process left.

    Args:
        path: the database file; it may be missing.
        marker: what the workspace knows of it.
        newest_version: the newest version that this program knows.
    Raises:
        DatabaseError: it is lost, damaged, foreign or newer; nothing was changed.
    """
    try:
        if marker is not None and not _has_content(path):
            raise damaged_database("its file is missing or empty")
        if _has_content(path):
            _undo_interrupted_creation(path)
            _check_log_fits(path)
            _check_content(path, marker, newest_version)
    except DatabaseError as error:
        if "damaged" not in error.message:
            raise
        raise DatabaseError(error.message, hint=way_back(path)) from error
    if marker is not None and marker.running and _keeps_log(path) and not _has_log(path):
        raise _log_is_gone(path)


def reading_uri(path: Path) -> str:
    """The database as one that is only read, also where nothing can be written beside it."""
    sealed = not os.access(path.parent, os.W_OK) and not _has_log(path)
    return f"{path.absolute().as_uri()}?{'immutable=1' if sealed else 'mode=ro'}"


def _has_content(path: Path) -> bool:
    """Whether there is a file with at least one byte."""
    return path.is_file() and path.stat().st_size > 0


def _has_log(path: Path) -> bool:
    """Whether there is a write-ahead log with at least one byte."""
    return _has_content(path.with_name(path.name + LOG_SUFFIX))


def _keeps_log(path: Path) -> bool:
    """Whether the file's header says that it has a log; that of a backup does not."""
    with storage_errors("opening the database"), path.open("rb") as file:
        return file.read(WRITE_VERSION + 1)[WRITE_VERSION:] != NO_LOG


def _check_log_fits(path: Path) -> None:
    """Raises DatabaseError for a file that keeps no log beside a log, which SQLite would apply."""
    if _has_log(path) and not _keeps_log(path):
        raise damaged_database(f"{path.name}{LOG_SUFFIX} is the log of another file")


def _log_is_gone(path: Path) -> DatabaseError:
    """The error of a file that is whole, and whose log is missing."""
    error = damaged_database(
        f"its log, {path.name}{LOG_SUFFIX}, is missing or empty; the file is whole"
    )
    return DatabaseError(
        error.message,
        hint="Run 'ktrdr-mcp doctor --rebuild', which keeps every row of the file. If another"
        " program opened the file, it moved the log into it, and nothing is lost; else what only"
        " the log held is. A backup would be older.",
    )


def _undo_interrupted_creation(path: Path) -> None:
    """Lets SQLite undo what was under way before the file had a write-ahead log."""
    if not _has_content(path.with_name(path.name + JOURNAL_SUFFIX)):
        return
    with sqlite_errors("opening the database"), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA schema_version").fetchone()


def _check_content(path: Path, marker: Marker | None, newest_version: int) -> None:
    """Raises DatabaseError if the pages contradict each other or belong to another workspace."""
    with (
        sqlite_errors("opening the database"),
        closing(sqlite3.connect(reading_uri(path), uri=True)) as connection,
    ):
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > newest_version:
            raise DatabaseError(
                f"The database has version {version}; this program knows {newest_version}.",
                hint="Use the newer ktrdr-mcp that wrote it, or another workspace.",
            )
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise damaged_database("its check failed")
        connection.execute(COLUMNS).fetchall()  # the check above does not read their names
        if version < IDENTITY_VERSION or marker is None or marker.workspace_id is None:
            return
        row = connection.execute("SELECT workspace_id FROM workspace").fetchone()
        if row is None or row[0] != marker.workspace_id:
            raise damaged_database("its file or log belongs to another workspace")


def backups(path: Path) -> list[str]:
    """Names of the database's backups, the newest first."""
    found = path.parent.glob(f"{path.name}{BACKUP_INFIX}*")
    return [each.name for each in sorted(found, key=_age, reverse=True)]


def _age(path: Path) -> int:
    """When a file was written, in nanoseconds."""
    return path.stat().st_mtime_ns


def way_back(path: Path) -> str:
    """What to do about a damaged database."""
    names = backups(path)
    backup = f"begins with the newest whole backup ({', '.join(names)})"
    return (
        f"Run 'ktrdr-mcp doctor --rebuild': it {backup if names else 'makes a new database'} and"
        " takes in every result and model on disk, which are unharmed."
    )
