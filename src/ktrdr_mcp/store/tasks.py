"""The table of tasks: every statement on it, each one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Final

from ktrdr_mcp.errors import QueueFull, TaskNotFound, did_you_mean, shown
from ktrdr_mcp.store.clock import utc_now_text
from ktrdr_mcp.store.db import Database, SqlValue, rows_of
from ktrdr_mcp.store.repetition import SAME_NAME, RequestNames, same_request
from ktrdr_mcp.store.task_row import Fence, NewTask, TaskPage, TaskRow

NEWEST_SHOWN: Final = 5
CHANGEABLE: Final = frozenset(
    {
        "progress", "completed_at", "error_message", "error_code", "error_hint", "error_stage",
        "model_path", "current_epoch", "result", "data_fingerprint", "label_hash",
        "test_start", "test_end",
    }
)  # fmt: skip

INSERT: Final = """
INSERT INTO training_tasks (
    task_id, symbol, timeframe, strategy, config, spec, spec_version, request_hash,
    idempotency_key, similarity_hash, group_id, executor, total_epochs, created_at)
VALUES (
    :task_id, :symbol, :timeframe, :strategy, :config, :spec, :spec_version, :request_hash,
    :idempotency_key, :similarity_hash, :group_id, :executor, :total_epochs, :created_at)
RETURNING *"""
GET: Final = "SELECT * FROM training_tasks WHERE task_id = ?"
COUNT_PENDING: Final = "SELECT count(*) FROM training_tasks WHERE status = 'pending'"
CLAIM: Final = """
UPDATE training_tasks
SET status = 'training', attempt = attempt + 1, generation = :generation,
    started_at = coalesce(started_at, :now)
WHERE seq = (SELECT seq FROM training_tasks WHERE status = 'pending' ORDER BY seq LIMIT 1)
RETURNING *"""
CANCEL_PENDING: Final = """
UPDATE training_tasks SET status = 'cancelled', cancel_requested = 1, completed_at = ?
WHERE task_id = ? AND status = 'pending'"""
CANCEL_TRAINING: Final = """
UPDATE training_tasks SET cancel_requested = 1 WHERE task_id = ? AND status = 'training'"""
STOPPED: Final = """
UPDATE training_tasks
SET status = CASE cancel_requested WHEN 1 THEN 'cancelled' ELSE 'pending' END,
    completed_at = CASE cancel_requested WHEN 1 THEN :now END
WHERE status = 'training'"""
RELEASE: Final = f"""{STOPPED}
AND task_id = :task_id AND attempt = :attempt AND generation = :generation
RETURNING status"""
REQUEUE: Final = f"{STOPPED} AND generation <> :generation RETURNING task_id"
PAGE: Final = """
SELECT * FROM training_tasks
WHERE (:status IS NULL OR status = :status) AND (:symbol IS NULL OR symbol = :symbol)
ORDER BY seq DESC LIMIT :limit OFFSET :offset"""
COUNTS: Final = "SELECT status, count(*) FROM training_tasks GROUP BY status"
AHEAD: Final = """
SELECT (SELECT count(*) FROM training_tasks AS other
        WHERE other.status = 'pending' AND other.seq < own.seq)
FROM training_tasks AS own WHERE task_id = ? AND status = 'pending'"""
SIMILAR: Final = """
SELECT task_id FROM training_tasks WHERE similarity_hash = ? AND task_id <> ?
ORDER BY seq DESC LIMIT ?"""
WITH_PREFIX: Final = """
SELECT task_id FROM training_tasks WHERE substr(task_id, 1, length(:prefix)) = :prefix
ORDER BY seq DESC LIMIT :limit"""


class TaskStore:
    """The stored tasks.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, new: NewTask, max_pending: int) -> tuple[TaskRow, bool]:
        """Stores a task; when this returns, its id survives a crash.

        Args:
            new: the task.
            max_pending: the most tasks that may wait.
        Returns:
            the row, and whether it is new; the same request again gives the row it had made.
        Raises:
            TaskConflict: its id or idempotency key belongs to another request.
            QueueFull: as many tasks as allowed are waiting.
        """
        async with self._database.transaction() as connection:
            names = RequestNames(new.task_id, new.idempotency_key)
            rows = await rows_of(connection, SAME_NAME, names.parameters())
            if (known := same_request(rows, names, new.request_hash)) is not None:
                return known, False
            pending = (await rows_of(connection, COUNT_PENDING))[0][0]
            if pending >= max_pending:
                raise QueueFull(
                    f"{pending} tasks are waiting, and no more than {max_pending} may.",
                    hint="Wait until some have run, or cancel some, then start this one again.",
                )
            rows = await rows_of(
                connection, INSERT, {**new.parameters(), "created_at": utc_now_text()}
            )
        return TaskRow.from_row(rows[0]), True

    async def repeated(
        self, task_id: str | None, idempotency_key: str | None, request_hash: str
    ) -> TaskRow | None:
        """The task that this very request made before, if it did.

        Args:
            task_id: the id that the client chose, if it did.
            idempotency_key: likewise.
            request_hash: of the request's body.
        Raises:
            TaskConflict: its id or idempotency key belongs to another request.
        """
        names = RequestNames(task_id, idempotency_key)
        rows = await self._database.read(SAME_NAME, names.parameters())
        return same_request(rows, names, request_hash)

    async def get(self, task_id: str) -> TaskRow:
        """One task. Raises TaskNotFound, whose hint names the newest ids."""
        rows = await self._database.read(GET, (task_id,))
        if not rows:
            raise await self._not_found(task_id)
        return TaskRow.from_row(rows[0])

    async def claim(self, generation: str) -> TaskRow | None:
        """Takes the oldest waiting task for a run: pending becomes training.

        Args:
            generation: the process that claims it.
        Returns:
            the task with its new attempt, or None if nothing waits.
        """
        values = {"generation": generation, "now": utc_now_text()}
        async with self._database.transaction() as connection:
            rows = await rows_of(connection, CLAIM, values)
        return TaskRow.from_row(rows[0]) if rows else None

    async def move(
        self,
        task_id: str,
        allowed_from: Collection[str],
        to: str,
        fence: Fence | None = None,
        changes: Mapping[str, SqlValue] | None = None,
    ) -> bool:
        """Changes a task's status, and other columns with it, if it still has one of these.

        Args:
            task_id: which task.
            allowed_from: the statuses it may have now.
            to: the status it gets.
            fence: the run that must still own it, if a run asks.
            changes: new values of other columns.
        Returns:
            False if nothing was changed: the task moved on, or the run is a ghost.
        Raises:
            ValueError: a value does not fit its column.
        """
        changes = changes or {}
        if unknown := changes.keys() - CHANGEABLE:
            raise ValueError(f"columns that a transition may not change: {sorted(unknown)}")
        assignments = ", ".join(["status = ?", *(f"{name} = ?" for name in changes)])
        places = ", ".join("?" for _ in allowed_from)
        # Only names from the list above and question marks are put together here.
        sql = f"UPDATE training_tasks SET {assignments} WHERE task_id = ? AND status IN ({places})"  # noqa: S608
        values: list[SqlValue] = [to, *changes.values(), task_id, *allowed_from]
        if fence is not None:
            sql += " AND attempt = ? AND generation = ?"
            values += [fence.attempt, fence.generation]
        try:
            async with self._database.transaction() as connection:
                return bool(await rows_of(connection, f"{sql} RETURNING seq", values))
        except sqlite3.IntegrityError as error:
            raise ValueError(f"the change of task {task_id} to {to} is not possible") from error

    async def release(self, task_id: str, fence: Fence) -> str | None:
        """Ends a run without a result: cancelled if the client asked for it, else waiting again.

        Args:
            task_id: which task.
            fence: the run that ends.
        Returns:
            the new status, or None if the run had lost the task.
        """
        values: dict[str, SqlValue] = {**asdict(fence), "task_id": task_id, "now": utc_now_text()}
        async with self._database.transaction() as connection:
            rows = await rows_of(connection, RELEASE, values)
        return str(rows[0][0]) if rows else None

    async def requeue_running(self, generation: str) -> list[str]:
        """Releases what processes of other generations left running.

        Args:
            generation: the process that starts now.
        Returns:
            the ids of the tasks, now pending, or cancelled where that had been asked for.
        """
        values = {"generation": generation, "now": utc_now_text()}
        async with self._database.transaction() as connection:
            rows = await rows_of(connection, REQUEUE, values)
        return [row[0] for row in rows]

    async def request_cancel(self, task_id: str) -> TaskRow:
        """Cancels a waiting task, marks a running one, leaves a finished one alone.

        Args:
            task_id: which task.
        Returns:
            the row afterwards.
        Raises:
            TaskNotFound: there is none with this id.
        """
        async with self._database.transaction() as connection:
            await rows_of(connection, CANCEL_PENDING, (utc_now_text(), task_id))
            await rows_of(connection, CANCEL_TRAINING, (task_id,))
            rows = await rows_of(connection, GET, (task_id,))
        if not rows:
            raise await self._not_found(task_id)
        return TaskRow.from_row(rows[0])

    async def page(
        self, limit: int, offset: int = 0, status: str | None = None, symbol: str | None = None
    ) -> TaskPage:
        """Some tasks, newest first.

        Args:
            limit: the most rows.
            offset: how many newer ones are left out.
            status: only tasks with this status.
            symbol: only tasks on this symbol.
        """
        values: dict[str, SqlValue] = {"status": status, "symbol": symbol}
        values |= {"limit": limit + 1, "offset": offset}
        rows = await self._database.read(PAGE, values)
        return TaskPage([TaskRow.from_row(row) for row in rows[:limit]], len(rows) > limit)

    async def counts(self) -> dict[str, int]:
        """How many tasks have each status; statuses without tasks are left out."""
        return {row[0]: row[1] for row in await self._database.read(COUNTS)}

    async def queue_position(self, task_id: str) -> int | None:
        """How many waiting tasks come before this one; None if it does not wait."""
        rows = await self._database.read(AHEAD, (task_id,))
        return int(rows[0][0]) if rows else None

    async def similar(self, similarity_hash: str, excluding: str, limit: int = 3) -> list[str]:
        """Ids of the newest other tasks with this similarity hash."""
        rows = await self._database.read(SIMILAR, (similarity_hash, excluding, limit))
        return [row[0] for row in rows]

    async def ids_with_prefix(self, prefix: str, limit: int) -> list[str]:
        """Ids that begin with the prefix, newest first."""
        rows = await self._database.read(WITH_PREFIX, {"prefix": prefix, "limit": limit})
        return [row[0] for row in rows]

    async def _not_found(self, task_id: str) -> TaskNotFound:
        """The error of an unknown id, with ids that exist."""
        newest = await self.ids_with_prefix("", NEWEST_SHOWN)
        known = (
            f"The newest tasks are {', '.join(newest)}." if newest else "There are no tasks yet."
        )
        return TaskNotFound(
            f"There is no task {shown(task_id)}.",
            hint=f"{known}{did_you_mean(task_id, newest)} list_training_tasks shows them all.",
            field="task_id",
        )
