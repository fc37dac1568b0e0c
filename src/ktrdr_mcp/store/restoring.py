"""Putting a copy in the place of a database that was set aside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ktrdr_mcp.errors import DatabaseError, StorageError
from ktrdr_mcp.store.copying import copy_whole
from ktrdr_mcp.store.inspection import backups, inspect
from ktrdr_mcp.store.migrate import MIGRATION_FILES
from ktrdr_mcp.store.sqlite_errors import sqlite_errors


def newest_backup(path: Path) -> str | None:
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
