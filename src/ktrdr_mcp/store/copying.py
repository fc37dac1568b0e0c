"""A copy of a database under another name, whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from ktrdr_mcp.durable import STAGING_PREFIX, storage_errors, sync_directory


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
