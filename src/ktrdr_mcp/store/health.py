"""What can be said of the SQLite library."""

from __future__ import annotations

import sqlite3
from typing import Final

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
