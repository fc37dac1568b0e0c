"""Writes how a run ended, whatever the database or the caller does meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.jobs.executor import Ended
from ktrdr_mcp.jobs.job_context import JobContext
from ktrdr_mcp.jobs.model import TERMINAL, sources_of
from ktrdr_mcp.jobs.outcome import outcome_of, standing
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.tasks import TaskStore
from ktrdr_mcp.store.uninterrupted import uninterrupted

log = logging.getLogger(__name__)


class Endings:
    """The ends of all runs.

    Args:
        tasks: the stored tasks.
        clean_up: called in a thread with the id of each task that will not run again.
        retry_s: the pause after the database refused.
    """

    def __init__(self, tasks: TaskStore, clean_up: Callable[[str], None], retry_s: float) -> None:
        self._tasks = tasks
        self._clean_up = clean_up
        self._retry_s = retry_s

    async def write(self, row: TaskRow, ended: Ended, context: JobContext) -> None:
        """Writes the outcome, again and again while the database refuses."""
        while True:
            try:
                return await uninterrupted(self._write(row, ended, context))
            except StorageError:
                log.exception("the outcome of task %s could not be stored yet", row.task_id)
            except Exception as defect:  # the outcome itself cannot be stored
                ended = Ended(error=defect)
            await asyncio.sleep(self._retry_s)

    async def _write(self, row: TaskRow, ended: Ended, context: JobContext) -> None:
        """Writes the outcome, unless this run had lost its task."""
        outcome = outcome_of(row.task_id, ended, context.live, context.stop_requested)
        status: str | None
        if outcome is None:
            status = await self._tasks.release(row.task_id, row.fence, standing(context.live))
        else:
            allowed = sources_of(outcome.status)
            stored = await self._tasks.move(
                row.task_id, allowed, outcome.status, row.fence, outcome.columns
            )
            status = outcome.status if stored else None
        if status is None:
            log.error("attempt %d of task %s had lost its task", row.attempt, row.task_id)
        elif status in TERMINAL:
            await self.tidy(row.task_id)

    async def tidy(self, task_id: str) -> None:
        """Removes what only a further run would need; at the worst, the next start does it."""
        try:
            await asyncio.to_thread(self._clean_up, task_id)
        except Exception:
            log.exception("task %s left something behind", task_id)

    async def abandon(self, row: TaskRow) -> None:
        """Takes its task from a run that did not end in time for a drain."""
        try:
            await self._tasks.abandon(row.task_id, row.fence)
        except StorageError:
            log.exception("task %s will be counted as crashed", row.task_id)
