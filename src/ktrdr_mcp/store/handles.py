"""Handles of tasks: who holds one may follow its task; nobody guesses one.

`handles.json` beside the database is a copy, from which a database that was made anew gets them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

from ktrdr_mcp import files
from ktrdr_mcp.errors import NotFound, StorageError
from ktrdr_mcp.store.db import Database, SqlValue, rows_of, utc_now_text
from ktrdr_mcp.store.research import MAX_COPY_BYTES, checked

HANDLE_BYTES: Final = 16
ADD_HANDLE: Final = "INSERT INTO task_handles (handle, task_id, created_at) VALUES (?, ?, ?)"
ALL_HANDLES: Final = "SELECT handle, task_id, created_at FROM task_handles ORDER BY rowid"
TAKE_HANDLE: Final = """
INSERT INTO task_handles (handle, task_id, created_at) VALUES (:handle, :task_id, :created_at)
ON CONFLICT DO NOTHING"""
COPY: Final = "handles.json"
GET_HANDLE: Final = "SELECT handle, task_id, created_at FROM task_handles WHERE handle = ?"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredHandle:
    """One handle that was given out."""

    handle: str
    task_id: str
    created_at: str


class HandleStore:
    """The stored handles.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._copying = asyncio.Lock()

    async def create(self, task_id: str) -> StoredHandle:
        """Gives out a new handle for a task; when this returns, it survives a crash.

        Raises:
            StorageError: it cannot be stored.
        """
        new = StoredHandle(secrets.token_hex(HANDLE_BYTES), task_id, utc_now_text())
        async with self._database.transaction() as connection:
            await rows_of(connection, ADD_HANDLE, astuple(new))
        await self._copy()
        return new

    async def _copy(self) -> None:
        """Writes the copy; where the disk refuses it, the next one has it all."""
        async with self._copying:
            path = self._database.path.with_name(COPY)
            try:
                rows = [dict(row) for row in await self._database.read(ALL_HANDLES)]
                content = files.json_bytes({"format": 1, "handles": rows})
                await asyncio.to_thread(files.replace, path, content, 0o600)
            except (OSError, StorageError) as error:
                log.warning("the copy of the handles of tasks is not written: %s", error)

    async def take_in_copy(self) -> None:
        """Takes in what the copy has and the database has not.

        Raises:
            StorageError: the copy is damaged, or the database cannot be written.
        """
        rows = await asyncio.to_thread(read_copy, self._database.path.with_name(COPY))
        async with self._database.transaction() as connection:
            for row in rows:
                await rows_of(connection, TAKE_HANDLE, row)

    async def get(self, handle: str) -> StoredHandle:
        """One handle. Raises NotFound, which names no other."""
        rows = await self._database.read(GET_HANDLE, (handle,))
        if not rows:
            raise NotFound(
                "No task was given this handle.",
                hint="Use the handle as it was given out, or list_training_tasks and the task_id.",
                field="handle",
            )
        return StoredHandle(*rows[0])


def read_copy(path: Path) -> list[dict[str, SqlValue]]:
    """The handles of a copy; none where there is no file.

    Raises:
        StorageError: it cannot be read, or is not what was written.
    """
    columns = {each.name: each.type for each in fields(StoredHandle)}
    try:
        content = json.loads(files.read_private(path, MAX_COPY_BYTES))
        return [checked(each, columns) for each in content["handles"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{COPY}, the copy of the handles of tasks, cannot be read: {type(error).__name__}.",
            hint="Handles that the database does not have are lost with it.",
        ) from error
