"""Handles of tasks: who holds one may follow its task; nobody guesses one.

`handles.json` beside the database is a copy, from which a database that was made anew gets them.
"""

from __future__ import annotations

import secrets
from dataclasses import astuple, dataclass
from typing import Any, Final

from ktrdr_mcp.errors import NotFound
from ktrdr_mcp.store.copies import TableCopy, check_row, columns_of
from ktrdr_mcp.store.db import Database, rows_of, utc_now_text

HANDLE_BYTES: Final = 16
ADD_HANDLE: Final = "INSERT INTO task_handles (handle, task_id, created_at) VALUES (?, ?, ?)"
ALL_HANDLES: Final = "SELECT handle, task_id, created_at FROM task_handles ORDER BY rowid"
TAKE_HANDLE: Final = """
INSERT INTO task_handles (handle, task_id, created_at) VALUES (:handle, :task_id, :created_at)
ON CONFLICT DO NOTHING"""
COPY: Final = "handles.json"
GET_HANDLE: Final = "SELECT handle, task_id, created_at FROM task_handles WHERE handle = ?"


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
        self._copy = TableCopy(database, COPY, "the handles of tasks")

    async def create(self, task_id: str) -> StoredHandle:
        """Gives out a new handle for a task; when this returns, it survives a crash.

        Raises:
            StorageError: it cannot be stored.
        """
        new = StoredHandle(secrets.token_hex(HANDLE_BYTES), task_id, utc_now_text())
        async with self._database.transaction() as connection:
            await rows_of(connection, ADD_HANDLE, astuple(new))
        await self._copy.write(self._read_rows)
        return new

    async def _read_rows(self) -> dict[str, Any]:
        return {"handles": [dict(row) for row in await self._database.read(ALL_HANDLES)]}

    async def take_in_copy(self) -> None:
        """Takes in what the copy has and the database has not.

        Raises:
            StorageError: the copy is damaged, or the database cannot be written.
        """
        columns = columns_of(StoredHandle)
        rows = await self._copy.read(
            lambda copy: [check_row(row, columns) for row in copy["handles"]]
        )
        async with self._database.transaction() as connection:
            for row in rows or []:
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
