"""Translates SQLite's failures to errors of the contract."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ktrdr_mcp.errors import DatabaseError, StorageError, StorageFull

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


PRIMARY_CODE_MASK: Final = 0xFF  # the low byte of an extended result code
DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
UNDECODABLE: Final = "Could not decode"  # Python's own words; SQLite has no code for it
UNUSABLE_FILE: Final = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}
LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def damaged_database(reason: str) -> DatabaseError:
    """The error of a database whose content is not what was written."""
    return DatabaseError(
        f"The workspace's database is damaged: {reason}.",
        hint="Stop the program and run 'ktrdr-mcp doctor --rebuild': it begins with the newest"
        " whole backup and takes in every result and model on disk, which are unharmed.",
    )


def meaning_of(error: sqlite3.Error, doing: str) -> StorageError:
    """The error a caller can act on.

    Args:
        error: what SQLite raised.
        doing: what was being done, for the message.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE_MASK
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"No space left while {doing}.", hint="Free disk space, then try again.")
    if code in DAMAGED:
        return damaged_database(name)
    if str(error).startswith(UNDECODABLE):
        return damaged_database("a row's text is unreadable")
    if code in UNUSABLE_FILE:
        return StorageError(
            f"The database's file failed while {doing} ({name}).",
            hint="Check that the workspace exists, can be written and has space, then try again.",
        )
    if code in LOCKED:
        return StorageError(
            f"Another program held the database while {doing}.",
            hint="Close whatever else has the database open, then try again.",
        )
    return DatabaseError(
        f"The database refused while {doing} ({name}).",
        hint="This is an internal error; the log has the details.",
    )


@contextmanager
def sqlite_errors(doing: str) -> Iterator[None]:
    """Turns SQLite's errors into ours; a broken constraint passes: its meaning is the caller's.

    Args:
        doing: what was being done, for the message.
    Raises:
        StorageError: or one of its subclasses.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise meaning_of(error, doing) from error
    except UnicodeDecodeError as error:  # what Python raises for the name of a column
        raise damaged_database("the name of a column is unreadable") from error
