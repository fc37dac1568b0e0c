"""Runs a job again whose result alone could not be stored, for about an hour.

A disk that is full for a while must not cost the hours of a training: the run that follows goes on
from the checkpoint. Nothing is written meanwhile, so that it needs no space itself.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ktrdr_mcp.context import Cancelled
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.jobs.executor import Ended
from ktrdr_mcp.jobs.job_context import JobContext
from ktrdr_mcp.jobs.outcome import stage_of

PAUSES: Final = (5, 30, 120, 600, 1_200, 1_800)  # before each further run, in units of retry_s

log = logging.getLogger(__name__)


async def until_published(
    run: Callable[[], Awaitable[Ended]], context: JobContext, task_id: str, retry_s: float
) -> Ended:
    """Runs a job until its result is stored, it fails otherwise, or there is no more hope.

    Args:
        run: does the work once, from its newest checkpoint on.
        context: of every run.
        task_id: whose runs they are, for the log.
        retry_s: the unit of the pauses.
    Returns:
        how the last run ended; Cancelled if it was asked to stop in a pause.
    """
    for pause in PAUSES:
        ended = await run()
        if (error := refusal(ended, context)) is None:
            return ended
        log.warning("the result of task %s is not stored yet: %s", task_id, error.message)
        context.warn(f"result not stored, tried again: {error.message}")
        if await context.stopped_within(pause * retry_s):
            return Ended(error=Cancelled())
        context.begin_again()
    return await run()


def refusal(ended: Ended, context: JobContext) -> StorageError | None:
    """What the workspace said if it alone kept a run from its result."""
    error = ended.error
    if isinstance(error, StorageError) and stage_of(error, context.live) == "publishing":
        return error
    return None
