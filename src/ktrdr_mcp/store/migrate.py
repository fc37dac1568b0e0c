"""Brings a database file to this program's version; forward only, whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Final

from ktrdr_mcp.durable import STAGING_PREFIX, storage_errors, sync_directory
from ktrdr_mcp.errors import DatabaseError, StorageError
from ktrdr_mcp.store.sqlite_errors import damaged, sqlite_errors

BUSY_TIMEOUT_MS: Final = 5_000
MIGRATION_FILES: Final = ("schema.sql",)  # the position, from 1, is the version it leads to
CONNECTION_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # with NORMAL, a commit would not survive a power loss
)


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
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite gives its journal files the mode of the database file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with (
        sqlite_errors("opening the database"),
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        for pragma in CONNECTION_PRAGMAS:
            connection.execute(pragma)
        _check(connection)
        _migrate(connection, path, migrations)
        _use_write_ahead_log(connection)


def _check(connection: sqlite3.Connection) -> None:
    """Raises DatabaseError if the file's pages contradict each other."""
    finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if finding != "ok":
        raise damaged("its check failed")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switches the file to write-ahead logging, so that readers never wait for the writer."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(
            "The workspace's file system cannot hold the database.",
            hint="Put the workspace on a local disk.",
        )


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Applies the migrations that the file has not seen, after a backup if it has content."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise DatabaseError(
            f"The database has version {version}; this program knows {len(migrations)}.",
            hint="Use the newer ktrdr-mcp that wrote it, or another workspace.",
        )
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise DatabaseError(
            "The database file belongs to another program.",
            hint="Move ktrdr.db out of the workspace, or use another workspace.",
        )
    if 0 < version < len(migrations):
        _back_up(connection, path, version)
    for number in range(version + 1, len(migrations) + 1):
        _apply(connection, number, migrations[number - 1])


def _apply(connection: sqlite3.Connection, number: int, sql: str) -> None:
    """Runs one migration and counts it, in one transaction."""
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;"
        )
    finally:
        connection.rollback()  # nothing to do unless the script failed


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Copies the database to its name plus ".bak-<version>", whole or not at all."""
    final = path.with_name(f"{path.name}.bak-{version}")
    staged = path.with_name(f"{STAGING_PREFIX}{final.name}")
    with storage_errors("backing up the database"):
        staged.unlink(missing_ok=True)
        os.close(os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        # SQLite syncs the copy when the backup's transaction ends.
        with closing(sqlite3.connect(staged)) as copy:
            connection.backup(copy)
        staged.replace(final)
        sync_directory(path.parent)
