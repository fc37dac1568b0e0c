"""Whether a request was made before, by its task id or idempotency key."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from ktrdr_mcp.errors import TaskConflict, shown
from ktrdr_mcp.store.db import SqlValue
from ktrdr_mcp.store.task_row import TaskRow

REBUILT_HASH: Final = "rebuilt"  # of a request whose body is not known any more
WITH_KEY: Final = "SELECT 1 FROM training_tasks WHERE idempotency_key = ?"
SAME_NAME: Final = """
SELECT * FROM training_tasks
WHERE task_id = :task_id OR idempotency_key = :idempotency_key
ORDER BY task_id = :task_id DESC"""
# An id is ASCII, so whatever its cases, it sorts between its upper and its lower case: the range
# lets the index of the ids answer, which alone cannot compare without case.
SAME_FOLDER: Final = """
SELECT task_id FROM training_tasks
WHERE task_id BETWEEN upper(:task_id) AND lower(:task_id) AND task_id = :task_id COLLATE NOCASE
LIMIT 1"""


class RequestNames(NamedTuple):
    """What a request may be recognised by."""

    task_id: str | None
    idempotency_key: str | None

    def parameters(self) -> dict[str, SqlValue]:
        """The values of a statement."""
        return self._asdict()


def same_request(
    rows: Sequence[sqlite3.Row], names: RequestNames, hashes: Collection[str]
) -> TaskRow | None:
    """The task that this request made before.

    Args:
        rows: the tasks of the request's names.
        names: those of the request.
        hashes: each that the request's body may have been stored under.
    Raises:
        TaskConflict: another request made it.
    """
    found = [TaskRow.from_row(row) for row in rows]
    for row in found:
        by_id = row.task_id == names.task_id
        same = row.request_hash in {*hashes, REBUILT_HASH}
        if not same or (not by_id and row is not found[0]):
            name = "task_id" if by_id else "idempotency_key"
            raise TaskConflict(
                f"The {name} {shown(getattr(names, name))} belongs to another request, "
                f"that of task {row.task_id}.",
                hint=f"Use another {name}, or read task {row.task_id} with get_training_status.",
                field=name,
            )
    return found[0] if found else None


def require_own_folder(rows: Sequence[sqlite3.Row], task_id: str) -> None:
    """Refuses an id that some file systems take for another's, whose result it would replace.

    On every system alike, since a workspace may be moved to one of those.

    Args:
        rows: what SAME_FOLDER found; the id itself belongs to no task.
        task_id: the id of a task that is about to be stored.
    Raises:
        TaskConflict: a task has this id in other cases.
    """
    if rows:
        other = rows[0]["task_id"]
        raise TaskConflict(
            f"The task_id {shown(task_id)} is that of task {other} but for upper and lower case, "
            "which not every file system tells apart.",
            hint=f"Use another task_id, or read task {other} with get_training_status.",
            field="task_id",
        )
