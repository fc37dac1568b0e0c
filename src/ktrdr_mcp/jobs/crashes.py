"""Forgets the crashes of a task that gets on: only crashes in a row without progress are a loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.jobs.job_context import JobContext
from ktrdr_mcp.jobs.live import UNFINISHED_PERCENT_MAX
from ktrdr_mcp.jobs.model import Status
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.tasks import TaskStore
from ktrdr_mcp.store.uninterrupted import uninterrupted

log = logging.getLogger(__name__)


@asynccontextmanager
async def forgetting_crashes(
    tasks: TaskStore, row: TaskRow, context: JobContext
) -> AsyncIterator[None]:
    """Forgets them while the block runs, as soon as that is justified; see `forget_crashes`."""
    forgetting = asyncio.create_task(forget_crashes(tasks, row, context))
    try:
        yield
    finally:
        forgetting.cancel()
        await asyncio.wait([forgetting])


async def forget_crashes(tasks: TaskStore, row: TaskRow, context: JobContext) -> None:
    """Waits until it is known where a run begins; the row then keeps the epoch for the next one.

    Args:
        tasks: the stored tasks.
        row: the task as it was claimed.
        context: of its run.
    """
    if row.crashes == 0:
        return
    await context.began.wait()
    epoch = context.live.resumed_epoch
    if epoch <= row.current_epoch:  # the attempt that died had saved nothing new
        return
    percent = min(UNFINISHED_PERCENT_MAX, epoch * 100 // max(1, row.total_epochs))
    # A run that dies once it has published is not followed by another, which would say it anew.
    began = {"resumed_from": context.live.resumed_from, "current_epoch": epoch}
    changes = {**began, "crashes": 0, "progress": percent}
    running = Status.TRAINING
    try:
        await uninterrupted(tasks.move(row.task_id, {running}, running, row.fence, changes))
    except StorageError:
        log.warning("the crashes of task %s still count", row.task_id, exc_info=True)
