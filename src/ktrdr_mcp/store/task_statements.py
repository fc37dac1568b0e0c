"""Every statement on the table of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ktrdr_mcp.store.db import SqlValue

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
    created_at)
VALUES (
    :task_id, :symbol, :timeframe, :strategy, :config, :spec, :spec_version, :request_hash,
    :idempotency_key, :similarity_hash, :group_id, :executor, :total_epochs, :test_start,
    :test_end, :created_at)
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
RELEASE: Final = """
UPDATE training_tasks
SET status = CASE cancel_requested WHEN 1 THEN 'cancelled' ELSE 'pending' END,
    completed_at = CASE cancel_requested WHEN 1 THEN :now END,
    crashes = CASE WHEN :current_epoch > current_epoch THEN 0 ELSE crashes END,
    progress = :progress, current_epoch = :current_epoch, resumed_from = :resumed_from
WHERE status = 'training' AND task_id = :task_id AND attempt = :attempt AND generation = :generation
RETURNING status"""
# A run that did not end in time for a drain has this generation, and is no crash.
ABANDON: Final = """
UPDATE training_tasks SET generation = 'abandoned'
WHERE status = 'training' AND task_id = ? AND attempt = ? AND generation = ?"""
# Only crashes in a row without progress are a loop: jobs.crashes forgets them at an attempt that
# begins further on than the one before it.
COUNT_CRASHES: Final = """
UPDATE training_tasks SET crashes = crashes + (generation <> 'abandoned')
WHERE status = 'training' AND generation <> :generation"""
FAIL_CRASH_LOOPS: Final = """
UPDATE training_tasks
SET status = 'failed', completed_at = :now, error_code = :code, error_message = :message,
    error_hint = :hint, error_stage = 'training'
WHERE status = 'training' AND generation <> :generation AND cancel_requested = 0
    AND crashes >= :most
RETURNING *"""
LEFT_RUNNING: Final = """
SELECT * FROM training_tasks WHERE status = 'training' AND generation <> ? ORDER BY seq"""
REQUEUE: Final = """
UPDATE training_tasks
SET status = CASE cancel_requested WHEN 1 THEN 'cancelled' ELSE 'pending' END,
    completed_at = CASE cancel_requested WHEN 1 THEN :now END
WHERE status = 'training' AND generation <> :generation
RETURNING *"""
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
