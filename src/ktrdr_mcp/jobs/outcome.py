"""What the end of a run means for its task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ktrdr_mcp.context import Cancelled
from ktrdr_mcp.errors import KtrdrError, OutOfMemory, RunnerFailed, StorageError
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import Status
from ktrdr_mcp.jobs.threads import Ended
from ktrdr_mcp.limits import MAX_ERROR_CHARACTERS
from ktrdr_mcp.store.db import utc_now_text
from ktrdr_mcp.store.task_row import json_text

Columns: TypeAlias = dict[str, str | int | float | None]

RESULT_COLUMNS: Final = frozenset(
    {
        "model_path",
        "current_epoch",
        "data_fingerprint",
        "label_hash",
        "test_start",
        "test_end",
        "scores",
    }
)
ALLOCATION_FAILURES: Final = ("can't allocate memory", "out of memory")  # torch's RuntimeErrors
ANOTHER_ID: Final = (  # of a result that could not be stored for long
    "Make room on the disk and check that it can be written, then start it under another task_id."
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The status a task gets at the end of a run, and the columns that change with it."""

    status: Status
    columns: Columns


def standing(live: Live) -> Columns:
    """How far a run has come, as its task's row keeps it."""
    return {
        "progress": live.percent,
        "current_epoch": live.progress.epoch if live.progress else live.resumed_epoch,
        "resumed_from": live.resumed_from,
    }


def outcome_of(task_id: str, ended: Ended, live: Live, stop_requested: bool) -> Outcome | None:
    """What the end of a run means.

    Args:
        task_id: whose run it was, for the log.
        ended: its result or what it raised.
        live: its progress.
        stop_requested: whether it had been asked to stop.
    Returns:
        completed or failed; None if the run obeyed a request to stop.
    """
    if isinstance(ended.error, Cancelled) and stop_requested:
        return None
    error = ended.error
    if error is None:
        try:
            return _completed(ended.result, live)
        except (TypeError, ValueError, KeyError, AttributeError) as defect:
            error = defect
    return _failed(_as_ours(task_id, error), error, live)


def _completed(result: Any, live: Live) -> Outcome:
    """The outcome of a run that returned. Raises if the result is not of the agreed form."""
    columns: Mapping[str, str | int | float | None] = result.get("columns", {})
    if unknown := columns.keys() - RESULT_COLUMNS:
        raise ValueError(f"the run's result has unknown columns: {sorted(unknown)}")
    if not all(isinstance(value, str | int | float | None) for value in columns.values()):
        raise TypeError("the run's result has columns that are neither text nor number")
    return Outcome(
        Status.COMPLETED,
        {
            **standing(live),
            **columns,
            "result": json_text(result["metrics"]),
            "progress": 100,
            "completed_at": utc_now_text(),
        },
    )


def _failed(error: KtrdrError, raised: BaseException, live: Live) -> Outcome:
    """The outcome of a run that raised."""
    stage = stage_of(raised, live)
    unstored = isinstance(raised, StorageError) and stage == "publishing"
    return Outcome(
        Status.FAILED,
        {
            "error_code": error.code,
            "error_message": _short(error.message),
            "error_hint": ANOTHER_ID if unstored else _short(error.hint),
            "error_stage": stage,
            **standing(live),
            "completed_at": utc_now_text(),
        },
    )


def stage_of(raised: BaseException, live: Live) -> str:
    """How far the run had come: "preparing", "training" or "publishing", or as the error says."""
    stage = getattr(raised, "stage", None)
    if isinstance(stage, str):
        return stage
    if live.resumed_from is None and live.progress is None:
        return "preparing"
    # What cannot be written before publishing, checkpoints, does not fail a run.
    return "publishing" if isinstance(raised, StorageError) else "training"


def _as_ours(task_id: str, error: BaseException) -> KtrdrError:
    """The error that the client reads; a defect goes to the log with its traceback."""
    if isinstance(error, KtrdrError):
        return error
    if isinstance(error, MemoryError) or _is_failed_allocation(error):
        return OutOfMemory(
            "The training needed more memory than there was.",
            hint="Reduce hidden_layers or batch_size, or train on a shorter date range.",
        )
    log.error("task %s failed with a defect", task_id, exc_info=error)
    return RunnerFailed(
        f"A defect of this program stopped the training ({type(error).__name__}).",
        hint="Start it again; if it fails again, report it with the program's log.",
    )


def _is_failed_allocation(error: BaseException) -> bool:
    """Whether torch found no memory; it has no class of its own for that on the CPU."""
    text = str(error)
    return isinstance(error, RuntimeError) and any(part in text for part in ALLOCATION_FAILURES)


def _short(text: str) -> str:
    """The text, cut to what a status may hold."""
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[: MAX_ERROR_CHARACTERS - 3]}..."
