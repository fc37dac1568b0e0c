"""What lies beside the database and says that there is one, so that a loss is noticed.

workspace.json   whose database it is; written once
ktrdr.db-open    there while a process has it open, and after one died so: then it has a log
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr_mcp import durable

NAME: Final = "workspace.json"
OPEN_SUFFIX: Final = "-open"
REMOVALS: Final = 3  # removing needs no space, so that a failure is of the moment


@dataclass(frozen=True)
class Marker:
    """What is known of a database without opening it."""

    workspace_id: str | None  # None if the marker itself is unreadable
    is_open: bool  # a process has it open, or died with it open


def read(database: Path) -> Marker | None:
    """The marker beside a database; None if there was never one.

    Args:
        database: the database file.
    """
    is_open = _open_file(database).exists()
    try:
        values = json.loads(database.with_name(NAME).read_bytes())
        return Marker(str(values["workspace_id"]), is_open)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Marker(None, is_open)


def opened(database: Path, workspace_id: str) -> None:
    """Says whose the database is, and that it has a log from here on. Raises StorageError."""
    known = read(database)
    if known is None or known.workspace_id != workspace_id:
        content = durable.json_bytes({"format": 1, "workspace_id": workspace_id})
        durable.replace(database.with_name(NAME), content, 0o600)
    if known is None or not known.is_open:
        with durable.storage_errors("opening the database"):
            durable.write_new(_open_file(database), b"", 0o600)
            durable.sync_directory(database.parent)


def closed(database: Path) -> None:
    """Says that the database may do without a log. Raises StorageError."""
    with durable.storage_errors("closing the database"):
        for attempt in range(1, REMOVALS + 1):
            try:
                return _open_file(database).unlink(missing_ok=True)
            except OSError:
                if attempt == REMOVALS:
                    raise


def forget(database: Path) -> None:
    """Removes every mark of a database. Raises StorageError."""
    closed(database)
    with durable.storage_errors("setting the database aside"):
        database.with_name(NAME).unlink(missing_ok=True)
        durable.sync_directory(database.parent)


def _open_file(database: Path) -> Path:
    """The file that is there while the database is open."""
    return database.with_name(database.name + OPEN_SUFFIX)
