"""Handles of tasks: who holds one may follow its task; nobody guesses one."""

from __future__ import annotations

import secrets
from dataclasses import astuple, dataclass
from typing import Final

from ktrdr_mcp.errors import NotFound
from ktrdr_mcp.store.db import Database, rows_of, utc_now_text

HANDLE_BYTES: Final = 16
ADD_HANDLE: Final = "INSERT INTO task_handles (handle, task_id, created_at) VALUES (?, ?, ?)"
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

    async def create(self, task_id: str) -> StoredHandle:
        """Gives out a new handle for a task; when this returns, it survives a crash.

        Raises:
            StorageError: it cannot be stored.
        """
        new = StoredHandle(secrets.token_hex(HANDLE_BYTES), task_id, utc_now_text())
        async with self._database.transaction() as connection:
            await rows_of(connection, ADD_HANDLE, astuple(new))
        return new

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
