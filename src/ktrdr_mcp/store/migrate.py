"""Brings a database file to this program's version; forward only, whole or not at all."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Final

from ktrdr_mcp import limits
from ktrdr_mcp.errors import DatabaseError, StorageError
from ktrdr_mcp.files import STAGING_PREFIX, make_folder, storage_errors, sync_directory
from ktrdr_mcp.store import inspection
from ktrdr_mcp.store.inspection import BACKUP_INFIX, IDENTITY_VERSION, inspect
from ktrdr_mcp.store.sqlite_errors import sqlite_errors


def copy_whole(connection: sqlite3.Connection, final: Path, doing: str) -> None:
    """Copies what a connection sees; a file that has the name is replaced.

    The copy keeps no log, which says that it needs none: it may be put in the place of a database
    whose process died.

    Args:
        connection: to the database.
        final: the copy's name.
        doing: what this is part of, for the error.
    Raises:
        StorageError: the copy cannot be written.
    """
    staged = final.with_name(f"{STAGING_PREFIX}{final.name}")
    with storage_errors(doing):
        staged.unlink(missing_ok=True)
        os.close(os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        # SQLite syncs the copy when the backup's transaction ends.
        with closing(sqlite3.connect(staged)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        staged.replace(final)
        sync_directory(final.parent)


BUSY_TIMEOUT_MS: Final = 5_000
# The position, from 1, is the version it leads to.
MIGRATION_FILES: Final = (
    "schema.sql",
    "migration_2.sql",
    "migration_3.sql",
    "migration_4.sql",
    "migration_5.sql",
    "migration_6.sql",
    "migration_7.sql",
)
START: Final = "start"  # the name of the copy made at every start
CONNECTION_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # with NORMAL, a commit would not survive a power loss
    "PRAGMA fullfsync = ON",  # on macOS, where fsync alone leaves data in the drive's cache
)

log = logging.getLogger(__name__)


def read_migrations() -> tuple[str, ...]:
    """The SQL of every migration, oldest first."""
    package = resources.files("ktrdr_mcp.store")
    return tuple(package.joinpath(name).read_text(encoding="utf-8") for name in MIGRATION_FILES)


def prepare(path: Path, migrations: Sequence[str]) -> None:
    """Creates the database file or checks and migrates the one that is there. Blocks.

    Args:
        path: the database file.
        migrations: the SQL of every migration, oldest first.
    Raises:
        DatabaseError: it is damaged, not ours, or written by a newer version.
        StorageError: it cannot be read or written.
    """
    with storage_errors("opening the database"):
        known = inspection.read(path)
        inspect(path, known, len(migrations))
    if known is not None and known.running:
        # From here on the log may go into the file and be gone, at whatever moment this ends.
        inspection.write(path, replace(known, running=False))
    with storage_errors("opening the database"):
        make_folder(path.parent, 0o700)
        # SQLite gives its journal files the mode of the database file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with (
        sqlite_errors("opening the database"),
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        for pragma in CONNECTION_PRAGMAS:
            connection.execute(pragma)
        before = _migrate(connection, path, migrations)
        if before < IDENTITY_VERSION <= len(migrations) and known and known.workspace_id:
            # A backup from before the database knew its workspace.
            connection.execute("UPDATE workspace SET workspace_id = ?", (known.workspace_id,))
        if before == len(migrations):
            _back_up_at_start(connection, path)
        _use_write_ahead_log(connection)


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switches the file to write-ahead logging, so that readers never wait for the writer."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(
            "The workspace's file system cannot hold the database.",
            hint="Put the workspace on a local disk.",
        )


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> int:
    """Applies the migrations that the file has not seen, after a backup if it has content.

    Returns:
        the version that the file had.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise DatabaseError(
            "The database file belongs to another program.",
            hint="Move ktrdr.db out of the workspace, or use another workspace.",
        )
    if 0 < version < len(migrations):
        _back_up(connection, path, str(version))
    for number in range(version + 1, len(migrations) + 1):
        _apply(connection, number, migrations[number - 1])
    return version


def _apply(connection: sqlite3.Connection, number: int, sql: str) -> None:
    """Runs one migration and counts it, in one transaction."""
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;"
        )
    finally:
        connection.rollback()  # nothing to do unless the script failed


def _back_up_at_start(connection: sqlite3.Connection, path: Path) -> None:
    """Copies a database of bearable size; without space for it, work goes on."""
    if path.stat().st_size > limits.MAX_DATABASE_BACKUP_BYTES:
        return
    try:
        with sqlite_errors("backing up the database"):
            _back_up(connection, path, START)
    except StorageError as error:
        log.warning("the database was not backed up: %s", error.message)


def _back_up(connection: sqlite3.Connection, path: Path, name: str) -> None:
    """Copies the database to its name plus ".bak-<name>", whole or not at all."""
    final = path.with_name(f"{path.name}{BACKUP_INFIX}{name}")
    copy_whole(connection, final, "backing up the database")
