"""Moving a damaged database out of the way; nothing of it is deleted."""

from __future__ import annotations

from pathlib import Path

from ktrdr_mcp import durable
from ktrdr_mcp.store import marker


def log_of(path: Path) -> list[str]:
    """Sets the write-ahead log aside, which may be foreign or missing.

    Args:
        path: the database file.
    Returns:
        the new names of what was moved.
    """
    known = marker.read(path)
    moved = _move(path, ("-wal", "-shm"))
    if known is not None:
        marker.write(path, marker.Marker(known.workspace_id, running=False))
    return moved


def database_of(path: Path) -> list[str]:
    """Sets the database file aside with its marker, so that a new one can be made.

    Args:
        path: the database file.
    Returns:
        the new names of what was moved.
    """
    moved = _move(path, ("", "-wal", "-shm"))
    with durable.storage_errors("setting the database aside"):
        path.with_name(marker.NAME).unlink(missing_ok=True)
        durable.sync_directory(path.parent)
    return moved


def _move(path: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Renames the files that there are to the first free names."""
    number = 1
    while any(_aside(path, suffix, number).exists() for suffix in ("", "-wal", "-shm")):
        number += 1
    moved = []
    with durable.storage_errors("setting the database aside"):
        for suffix in suffixes:
            source = path.with_name(path.name + suffix)
            if source.exists():
                moved.append(source.rename(_aside(path, suffix, number)).name)
        durable.sync_directory(path.parent)
    return moved


def _aside(path: Path, suffix: str, number: int) -> Path:
    """The name of a damaged file."""
    return path.with_name(f"{path.name}.damaged-{number}{suffix}")
