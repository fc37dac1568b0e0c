"""The states of a task, every way from one to another, and what the end of a run means.

      submit            claim               the run returned
( ) ---a---> pending ---b---> training ---d---> completed
               |  ^              | | |
               |  +------g-------+ | +----e---> failed
               |                   |      the run raised
               +---c---> cancelled <---f---+
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from ktrdr_mcp.context import Cancelled
from ktrdr_mcp.errors import KtrdrError, StorageError, TooManyOpenFiles, kinds_by_code
from ktrdr_mcp.jobs.executors.base import Ended, Failure
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.worker import failure_of
from ktrdr_mcp.limits import MAX_ERROR_CHARACTERS
from ktrdr_mcp.schemas.results import RunResult
from ktrdr_mcp.store.db import utc_now_text
from ktrdr_mcp.store.task_row import json_text


class Status(StrEnum):
    """Where a task stands."""

    PENDING = "pending"  # stored, waits for a worker
    TRAINING = "training"  # a worker runs it
    COMPLETED = "completed"  # has its result
    FAILED = "failed"  # has its error
    CANCELLED = "cancelled"  # was stopped because the client asked


@dataclass(frozen=True)
class Transition:
    """One edge of the diagram above and who causes it."""

    letter: str
    source: Status | None
    target: Status
    cause: str


TRANSITIONS: Final = (
    Transition("a", None, Status.PENDING, "the client submits"),
    Transition("b", Status.PENDING, Status.TRAINING, "the manager claims"),
    Transition("c", Status.PENDING, Status.CANCELLED, "the client cancels"),
    Transition("d", Status.TRAINING, Status.COMPLETED, "the run returns its result"),
    Transition("e", Status.TRAINING, Status.FAILED, "the run raises"),
    Transition("f", Status.TRAINING, Status.CANCELLED, "the run obeys the client's cancel"),
    Transition("g", Status.TRAINING, Status.PENDING, "the manager drains, or finds a dead run"),
)
TERMINAL: Final = frozenset(Status) - {edge.source for edge in TRANSITIONS}


def sources_of(target: Status) -> frozenset[Status]:
    """The statuses from which a task may get this one."""
    return frozenset(
        edge.source for edge in TRANSITIONS if edge.target is target and edge.source is not None
    )


Columns: TypeAlias = dict[str, str | int | float | None]

ANOTHER_ID: Final = (  # of a result that could not be stored for long
    "Make room on the disk and check that it can be written, then start it under another task_id."
)


@dataclass(frozen=True)
class Outcome:
    """The status a task gets at the end of a run, and the columns that change with it."""

    status: Status
    columns: Columns


def standing(live: Live) -> Columns:
    """How far a run has come, as its task's row keeps it; nothing before that is known."""
    if not live.has_begun:
        return {}
    return {
        "progress": live.percent,
        "current_epoch": live.progress.epoch if live.progress else live.resumed_epoch,
        "resumed_from": live.resumed_from,
    }


def outcome_of(ended: Ended, live: Live, stop_requested: bool) -> Outcome | None:
    """What the end of a run means.

    Args:
        ended: how it ended; not with the death of its process.
        live: its progress.
        stop_requested: whether it had been asked to stop.
    Returns:
        completed or failed; None if the run obeyed a request to stop.
    """
    if ended.stopped and stop_requested:
        return None
    failure = failure_of(Cancelled()) if ended.stopped else ended.failure
    if failure is None:
        try:
            return _completion(RunResult.from_json(ended.result), live)
        except ValueError as error:
            failure = failure_of(error)
    return _failure(failure, live)


def _completion(result: RunResult, live: Live) -> Outcome:
    """The outcome of a run that returned."""
    window = result.tested_window  # of the bars as they were when it trained
    tested: Columns = {} if window is None else {"test_start": window[0], "test_end": window[1]}
    return Outcome(
        Status.COMPLETED,
        {
            **standing(live),
            **tested,
            "data_fingerprint": result.data_fingerprint,
            "current_epoch": result.metrics.training_metrics.epochs_completed,
            "scores": json_text(result.scores.to_json()),
            "result": json_text(result.metrics.to_json()),
            "progress": 100,
            "completed_at": utc_now_text(),
        },
    )


def _failure(failure: Failure, live: Live) -> Outcome:
    """The outcome of a run that raised."""
    stage = stage_of(failure, live)
    return Outcome(
        Status.FAILED,
        {
            "error_code": failure.code,
            "error_message": _shorten(failure.message),
            "error_hint": ANOTHER_ID if is_unstored(failure, live) else _shorten(failure.hint),
            "error_stage": stage,
            **standing(live),
            "completed_at": utc_now_text(),
        },
    )


def stage_of(failure: Failure, live: Live) -> str:
    """How far the run had come: "preparing", "training" or "publishing", or as the error says."""
    if failure.stage is not None:
        return failure.stage
    if not live.has_begun:
        return "preparing"
    # What cannot be written before publishing, checkpoints, does not fail a run.
    return "publishing" if is_of_storage(failure) else "training"


def is_unstored(failure: Failure, live: Live) -> bool:
    """Whether the workspace, or want of descriptors, alone kept a run from its result."""
    if failure.code == TooManyOpenFiles.code:  # which passes, whatever was being opened
        return True
    return is_of_storage(failure) and stage_of(failure, live) == "publishing"


def is_of_storage(failure: Failure) -> bool:
    """Whether the workspace could not be read or written."""
    return issubclass(kinds_by_code().get(failure.code, KtrdrError), StorageError)


def _shorten(text: str) -> str:
    """The text, cut to what a status may hold."""
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[: MAX_ERROR_CHARACTERS - 3]}..."
