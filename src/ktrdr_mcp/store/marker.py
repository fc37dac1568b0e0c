"""The file beside the database that says that there is one, so that its loss is noticed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from ktrdr_mcp import durable
from ktrdr_mcp.errors import StorageError

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
    content = durable.json_bytes({"format": 1, **asdict(marker)})
    durable.replace(database.with_name(NAME), content, 0o600)


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
