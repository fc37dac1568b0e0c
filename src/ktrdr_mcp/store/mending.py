"""Taking out of a sound database the rows whose content is not what was written."""

from __future__ import annotations

import sqlite3
from typing import Final

from ktrdr_mcp.errors import DatabaseError
from ktrdr_mcp.store.db import Database, rows_of
from ktrdr_mcp.store.task_row import JSON_COLUMNS, parsed

COLUMNS: Final = "SELECT name FROM pragma_table_info('training_tasks') WHERE type = 'TEXT'"
DROP_READINGS: Final = """
DELETE FROM test_readings
WHERE task_id = (SELECT task_id FROM training_tasks WHERE seq = ?)"""
SCORES: Final = "scores"  # JSON too, which a task's row leaves unread
DROP_TASK: Final = "DELETE FROM training_tasks WHERE seq = ?"


async def drop_unreadable_tasks(database: Database) -> list[str]:
    """Removes the tasks that cannot be read; the copy made at the start still has them.

    Args:
        database: the open database.
    Returns:
        their ids, as far as those can be read.
    """
    async with database.transaction() as connection:
        names = [row[0] for row in await rows_of(connection, COLUMNS)]
        # As bytes, because a text that is no UTF-8 cannot even be fetched.
        texts = ", ".join(f"CAST({name} AS BLOB) AS {name}" for name in names)
        rows = await rows_of(connection, f"SELECT seq, {texts} FROM training_tasks")  # noqa: S608
        unreadable = [row for row in rows if not _is_readable(row, names)]
        for row in unreadable:
            await rows_of(connection, DROP_READINGS, (row["seq"],))
            await rows_of(connection, DROP_TASK, (row["seq"],))
    return [row["task_id"].decode(errors="replace") for row in unreadable]


def _is_readable(row: sqlite3.Row, names: list[str]) -> bool:
    """Whether every text is UTF-8, and JSON where it should be."""
    try:
        for name in names:
            text = None if row[name] is None else row[name].decode()
            if text is not None and name in (*JSON_COLUMNS, SCORES):
                parsed(text)
    except (UnicodeDecodeError, DatabaseError):
        return False
    return True
