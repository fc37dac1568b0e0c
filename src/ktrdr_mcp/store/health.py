"""What can be said of SQLite and of a database file without opening the laboratory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from ktrdr_mcp.errors import DatabaseError
from ktrdr_mcp.store.migrate import BUSY_TIMEOUT_MS, MIGRATION_FILES
from ktrdr_mcp.store.sqlite_errors import damaged, sqlite_errors

# Two connections that write or checkpoint at once can corrupt a file in WAL mode; mended in these.
# Source: https://www.sqlite.org/wal.html, "The WAL-Reset Bug".
WAL_RESET_MENDED: Final = (3, 51, 3)
WAL_RESET_BACKPORTS: Final = {(3, 44): 6, (3, 50): 7}  # minor version: first patch without it


def sqlite_version() -> str:
    """The version of the SQLite library that Python uses."""
    return sqlite3.sqlite_version


def has_wal_reset_bug(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether a version of SQLite has the WAL-reset bug."""
    patch = WAL_RESET_BACKPORTS.get(version[:2])
    return version < WAL_RESET_MENDED and (patch is None or version[2] < patch)


def check_database(path: Path) -> None:
    """Reads a database file through and through; changes nothing.

    Args:
        path: the file; it exists.
    Raises:
        DatabaseError: it is damaged, not ours, or written by a newer version.
        StorageError: it cannot be read.
    """
    with (
        sqlite_errors("checking the database"),
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection,
    ):
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if finding != "ok":
        raise damaged("its check failed")
    if version > len(MIGRATION_FILES):
        raise DatabaseError(
            f"The database has version {version}; this program knows {len(MIGRATION_FILES)}.",
            hint="Use the newer ktrdr-mcp that wrote it, or another workspace.",
        )
