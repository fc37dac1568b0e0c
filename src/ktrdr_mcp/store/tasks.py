"""The table of tasks: every statement on it, each one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Final, NamedTuple

from ktrdr_mcp import limits
from ktrdr_mcp.errors import CrashLoop, QueueFull, TaskConflict, TaskNotFound, did_you_mean, quote
from ktrdr_mcp.store.db import Database, SqlValue, rows_of, utc_now_text
from ktrdr_mcp.store.sketches import add_sketches
from ktrdr_mcp.store.task_row import Fence, NewTask, TaskPage, TaskRow

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


def find_same_request(
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
                f"The {name} {quote(getattr(names, name))} belongs to another request, "
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
            f"The task_id {quote(task_id)} is that of task {other} but for upper and lower case, "
            "which not every file system tells apart.",
            hint=f"Use another task_id, or read task {other} with get_training_status.",
            field="task_id",
        )


CHANGEABLE: Final = frozenset(
    {
        "progress", "completed_at", "error_message", "error_code", "error_hint", "error_stage",
        "model_path", "current_epoch", "result", "data_fingerprint", "label_hash",
        "test_start", "test_end", "scores", "resumed_from", "crashes",
    }
)  # fmt: skip

INSERT: Final = """
INSERT INTO training_tasks (
    task_id, symbol, timeframe, strategy, config, spec, spec_version, request_hash,
    idempotency_key, similarity_hash, group_id, executor, total_epochs, test_start, test_end,
    tested_sketch, trained_sketch, created_at)
VALUES (
    :task_id, :symbol, :timeframe, :strategy, :config, :spec, :spec_version, :request_hash,
    :idempotency_key, :similarity_hash, :group_id, :executor, :total_epochs, :test_start,
    :test_end, :tested_sketch, :trained_sketch, :created_at)
RETURNING *"""
GET: Final = "SELECT * FROM training_tasks WHERE task_id = ?"
COUNT_PENDING: Final = "SELECT count(*) FROM training_tasks WHERE status = 'pending'"
CLAIM: Final = """
UPDATE training_tasks
SET status = 'training', attempt = attempt + 1, generation = :generation,
    started_at = coalesce(started_at, :now), error_stage = NULL
WHERE seq = (SELECT seq FROM training_tasks WHERE status = 'pending'
    AND (:task_id IS NULL OR task_id = :task_id) ORDER BY seq LIMIT 1)
RETURNING *"""
WAITING: Final = """
SELECT task_id, coalesce(json_extract(spec, '$.spread'), 0) FROM training_tasks
WHERE status = 'pending' ORDER BY seq"""
CANCEL_PENDING: Final = """
UPDATE training_tasks SET status = 'cancelled', cancel_requested = 1, completed_at = ?
WHERE task_id = ? AND status = 'pending'"""
CANCEL_TRAINING: Final = """
UPDATE training_tasks SET cancel_requested = 1 WHERE task_id = ? AND status = 'training'"""
RELEASE: Final = """
UPDATE training_tasks
SET status = CASE cancel_requested WHEN 1 THEN 'cancelled' ELSE 'pending' END,
    completed_at = CASE cancel_requested WHEN 1 THEN :now END,
    crashes = CASE WHEN :current_epoch > current_epoch OR :progress > progress THEN 0
        ELSE crashes END,
    progress = coalesce(:progress, progress),
    current_epoch = coalesce(:current_epoch, current_epoch),
    resumed_from = coalesce(:resumed_from, resumed_from), error_stage = NULL
WHERE status = 'training' AND task_id = :task_id AND attempt = :attempt AND generation = :generation
RETURNING status"""
# A run that did not end in time for a drain has this generation, and is no crash.
ABANDON: Final = """
UPDATE training_tasks SET generation = 'abandoned'
WHERE status = 'training' AND task_id = ? AND attempt = ? AND generation = ?"""
# A task of which nothing runs has this stage, until something does again or its attempt ends.
MARK_IDLE: Final = """
UPDATE training_tasks SET error_stage = CASE :idle WHEN 1 THEN 'waiting' END
WHERE status = 'training' AND task_id = :task_id
    AND attempt = :attempt AND generation = :generation"""
# Only crashes in a row without progress are a loop: jobs.crashes forgets them at an attempt that
# begins further on than the one before it.
COUNT_CRASHES: Final = """
UPDATE training_tasks
SET crashes = crashes + (generation <> 'abandoned' AND error_stage IS NOT 'waiting')
WHERE status = 'training' AND generation <> :generation"""
FAIL_CRASH_LOOPS: Final = """
UPDATE training_tasks
SET status = 'failed', completed_at = :now, error_code = :code, error_message = :message,
    error_hint = :hint, error_stage = 'training'
WHERE status = 'training' AND generation <> :generation AND cancel_requested = 0
    AND crashes >= :most
RETURNING *"""
# The same of one task whose worker died, while its server lives.
COUNT_CRASH: Final = """
UPDATE training_tasks
SET crashes = crashes + 1,
    status = CASE WHEN cancel_requested = 1 THEN 'cancelled'
        WHEN crashes + 1 >= :most THEN 'failed' ELSE 'pending' END,
    completed_at = CASE WHEN cancel_requested = 1 OR crashes + 1 >= :most THEN :now END,
    error_code = CASE WHEN cancel_requested = 0 AND crashes + 1 >= :most THEN :code END,
    error_message = CASE WHEN cancel_requested = 0 AND crashes + 1 >= :most THEN :message END,
    error_hint = CASE WHEN cancel_requested = 0 AND crashes + 1 >= :most THEN :hint END,
    error_stage = CASE WHEN cancel_requested = 0 AND crashes + 1 >= :most THEN 'training' END
WHERE status = 'training' AND task_id = :task_id AND attempt = :attempt AND generation = :generation
RETURNING status"""
LEFT_RUNNING: Final = """
SELECT * FROM training_tasks WHERE status = 'training' AND generation <> ? ORDER BY seq"""
REQUEUE: Final = """
UPDATE training_tasks
SET status = CASE cancel_requested WHEN 1 THEN 'cancelled' ELSE 'pending' END,
    completed_at = CASE cancel_requested WHEN 1 THEN :now END, error_stage = NULL
WHERE status = 'training' AND generation <> :generation
RETURNING *"""
PAGE: Final = """
SELECT * FROM training_tasks
WHERE (:status IS NULL OR status = :status) AND (:symbol IS NULL OR symbol = :symbol)
    AND (:timeframe IS NULL OR timeframe = :timeframe)
ORDER BY seq DESC LIMIT :limit OFFSET :offset"""
STATUSES: Final = "SELECT task_id, status FROM training_tasks"
MEMORY_ESTIMATES: Final = """
SELECT coalesce(json_extract(spec, '$.memory_bytes'), 0) FROM training_tasks
WHERE status IN ('pending', 'training')"""
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


def status_change(to: str, changes: Mapping[str, SqlValue]) -> tuple[str, list[SqlValue]]:
    """The statement that gives one task a status and other columns with it.

    Args:
        to: the status.
        changes: new values of other columns.
    Returns:
        the statement, to which conditions may be added, and its values up to the task's id.
    Raises:
        ValueError: a column may not be changed so.
    """
    if unknown := changes.keys() - CHANGEABLE:
        raise ValueError(f"columns that a transition may not change: {sorted(unknown)}")
    assignments = ", ".join(["status = ?", *(f"{name} = ?" for name in changes)])
    # Only names from the list above are put together here.
    statement = f"UPDATE training_tasks SET {assignments} WHERE task_id = ?"  # noqa: S608
    return statement, [to, *changes.values()]


NEWEST_SHOWN: Final = 5


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
            TaskConflict: its id, in whatever case, or its idempotency key belongs to another
                request.
            QueueFull: as many tasks as allowed are waiting.
        """
        async with self._database.transaction() as connection:
            names = RequestNames(new.task_id, new.idempotency_key)
            rows = await rows_of(connection, SAME_NAME, names.parameters())
            if (known := find_same_request(rows, names, [new.request_hash])) is not None:
                return known, False
            rows = await rows_of(connection, SAME_FOLDER, {"task_id": new.task_id})
            require_own_folder(rows, new.task_id)
            pending = (await rows_of(connection, COUNT_PENDING))[0][0]
            if pending >= max_pending:
                raise QueueFull(
                    f"{pending} tasks are waiting, and no more than {max_pending} may.",
                    hint="Wait until some have run, or cancel some, then start this one again.",
                )
            await add_sketches(connection, new.sketches)
            rows = await rows_of(
                connection, INSERT, {**new.parameters(), "created_at": utc_now_text()}
            )
        return TaskRow.from_row(rows[0]), True

    async def insert_completed(
        self, new: NewTask, changes: Mapping[str, SqlValue], created_at: str | None = None
    ) -> None:
        """Stores a task whose result is already there.

        Args:
            new: the task; it loses an idempotency key that another task has.
            changes: the columns that a completed run sets.
            created_at: when it was started, if that is known.
        """
        statement, values = status_change("completed", changes)
        async with self._database.transaction() as connection:
            created = {**new.parameters(), "created_at": created_at or utc_now_text()}
            await add_sketches(connection, new.sketches)
            if await rows_of(connection, WITH_KEY, (new.idempotency_key,)):
                created["idempotency_key"] = None
            await rows_of(connection, INSERT, created)
            await rows_of(connection, statement, [*values, new.task_id])

    async def find_repeated(
        self, task_id: str | None, idempotency_key: str | None, hashes: Collection[str]
    ) -> TaskRow | None:
        """The task that this very request made before, if it did.

        Args:
            task_id: the id that the client chose, if it did.
            idempotency_key: likewise.
            hashes: each that the request's body may have been stored under.
        Raises:
            TaskConflict: its id or idempotency key belongs to another request.
        """
        names = RequestNames(task_id, idempotency_key)
        rows = await self._database.read(SAME_NAME, names.parameters())
        return find_same_request(rows, names, hashes)

    async def get(self, task_id: str) -> TaskRow:
        """One task. Raises TaskNotFound, whose hint names the newest ids."""
        rows = await self._database.read(GET, (task_id,))
        if not rows:
            raise await self._not_found(task_id)
        return TaskRow.from_row(rows[0])

    async def claim(self, generation: str, task_id: str | None = None) -> TaskRow | None:
        """Takes a waiting task for a run: pending becomes training.

        Args:
            generation: the process that claims it.
            task_id: which task, by default the oldest.
        Returns:
            the task with its new attempt, or None if it does not wait, or nothing does.
        """
        values = {"generation": generation, "now": utc_now_text(), "task_id": task_id}
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
        statement, values = status_change(to, changes or {})
        places = ", ".join("?" for _ in allowed_from)
        statement += f" AND status IN ({places})"
        values += [task_id, *allowed_from]
        if fence is not None:
            statement += " AND attempt = ? AND generation = ?"
            values += [fence.attempt, fence.generation]
        try:
            async with self._database.transaction() as connection:
                return bool(await rows_of(connection, f"{statement} RETURNING seq", values))
        except sqlite3.IntegrityError as error:
            raise ValueError(f"the change of task {task_id} to {to} is not possible") from error

    async def release(
        self, task_id: str, fence: Fence, changes: Mapping[str, SqlValue]
    ) -> str | None:
        """Ends a run without a result: cancelled if the client asked for it, else waiting again.

        Args:
            task_id: which task.
            fence: the run that ends.
            changes: progress, current_epoch and resumed_from, for the time until the next run;
                what is left out stays.
        Returns:
            the new status, or None if the run had lost the task.
        """
        stays = dict.fromkeys(("progress", "current_epoch", "resumed_from"))
        values: dict[str, SqlValue] = {**stays, **changes, **asdict(fence)}
        values |= {"task_id": task_id, "now": utc_now_text()}
        async with self._database.transaction() as connection:
            rows = await rows_of(connection, RELEASE, values)
        return str(rows[0][0]) if rows else None

    async def abandon(self, task_id: str, fence: Fence) -> None:
        """Takes a task from a run that did not end in time, so that this counts as no crash."""
        async with self._database.transaction() as connection:
            await rows_of(connection, ABANDON, (task_id, fence.attempt, fence.generation))

    async def mark_idle(self, task_id: str, fence: Fence, *, idle: bool) -> None:
        """Says whether anything of a claimed task runs: its process may die of nothing else.

        Args:
            task_id: which task.
            fence: the run that holds it.
            idle: whether it only waits for places for its parts.
        """
        values: dict[str, SqlValue] = {**asdict(fence), "task_id": task_id, "idle": int(idle)}
        async with self._database.transaction() as connection:
            await rows_of(connection, MARK_IDLE, values)

    async def count_crash(
        self, task_id: str, fence: Fence, most_crashes: int = limits.MAX_CRASHES
    ) -> str | None:
        """Takes a task from a run whose worker died.

        Args:
            task_id: which task.
            fence: the run that died.
            most_crashes: with so many, the task is given up.
        Returns:
            the new status: failed with too many crashes, cancelled where that had been asked for,
            else pending; None if the run had lost the task.
        """
        error = crash_loop(most_crashes)
        values: dict[str, SqlValue] = {**asdict(fence), "task_id": task_id, "most": most_crashes}
        values |= {"code": error.code, "message": error.message, "hint": error.hint}
        async with self._database.transaction() as connection:
            rows = await rows_of(connection, COUNT_CRASH, values | {"now": utc_now_text()})
        return str(rows[0][0]) if rows else None

    async def requeue_running(
        self, generation: str, most_crashes: int = limits.MAX_CRASHES
    ) -> list[TaskRow]:
        """Releases what processes of other generations left running.

        Their deaths count as crashes of tasks of which something ran.

        Args:
            generation: the process that starts now.
            most_crashes: with so many, a task is given up.
        Returns:
            the tasks: failed with too many crashes, cancelled where that had been asked for, else
            pending.
        """
        error = crash_loop(most_crashes)
        values: dict[str, SqlValue] = {"generation": generation, "now": utc_now_text()}
        of_error: dict[str, SqlValue] = {"code": error.code, "message": error.message}
        of_error |= {"hint": error.hint, "most": most_crashes}
        async with self._database.transaction() as connection:
            await rows_of(connection, COUNT_CRASHES, {"generation": generation})
            failed = await rows_of(connection, FAIL_CRASH_LOOPS, values | of_error)
            released = await rows_of(connection, REQUEUE, values)
        return [TaskRow.from_row(row) for row in (*failed, *released)]

    async def find_left_running(self, generation: str) -> list[TaskRow]:
        """The tasks that processes of other generations left running."""
        rows = await self._database.read(LEFT_RUNNING, (generation,))
        return [TaskRow.from_row(row) for row in rows]

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
        self,
        limit: int,
        offset: int = 0,
        status: str | None = None,
        symbol: str | None = None,
        timeframe: str | None = None,
    ) -> TaskPage:
        """Some tasks, newest first.

        Args:
            limit: the most rows.
            offset: how many newer ones are left out.
            status: only tasks with this status.
            symbol: only tasks on this symbol.
            timeframe: only tasks on bars of this width.
        """
        values: dict[str, SqlValue] = {
            "status": status,
            "symbol": symbol,
            "timeframe": timeframe,
        }
        values |= {"limit": limit + 1, "offset": offset}
        rows = await self._database.read(PAGE, values)
        return TaskPage([TaskRow.from_row(row) for row in rows[:limit]], len(rows) > limit)

    async def waiting(self) -> dict[str, bool]:
        """The ids of all tasks that wait, oldest first, and whether each may be divided."""
        return {row[0]: bool(row[1]) for row in await self._database.read(WAITING)}

    async def statuses(self) -> dict[str, str]:
        """The status of every task by its id."""
        return {row[0]: row[1] for row in await self._database.read(STATUSES)}

    async def counts(self) -> dict[str, int]:
        """How many tasks have each status; statuses without tasks are left out."""
        return {row[0]: row[1] for row in await self._database.read(COUNTS)}

    async def pending(self) -> int:
        """How many tasks wait."""
        return int((await self._database.read(COUNT_PENDING))[0][0])

    async def memory_estimates(self) -> list[int]:
        """The bytes that each task which runs or waits may need."""
        return [int(row[0]) for row in await self._database.read(MEMORY_ESTIMATES)]

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
        named = f"task is {newest[0]}" if len(newest) == 1 else f"tasks are {', '.join(newest)}"
        known = f"The newest {named}." if newest else "There are no tasks yet."
        return TaskNotFound(
            f"There is no task {quote(task_id)}.",
            hint=f"{known}{did_you_mean(task_id, newest)} list_training_tasks shows them all.",
            field="task_id",
        )


def crash_loop(crashes: int) -> CrashLoop:
    """The error of a task whose process died too often."""
    return CrashLoop(
        f"The process died {crashes} times in a row while it ran this task, getting no further.",
        hint="The cause is probably memory: use smaller hidden_layers or a smaller batch_size, then"
        " start a new training; the program's log has the times.",
    )
