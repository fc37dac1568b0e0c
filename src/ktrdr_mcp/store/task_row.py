"""One task as it is stored, and one that is about to be."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Self, TypeVar

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.schemas.results import Json, Stored, TaskResult
from ktrdr_mcp.store.sqlite_errors import damaged_database

JSON_COLUMNS: Final = ("config", "spec")

Value = TypeVar("Value", bound=Stored)


def json_text(value: Any) -> str:
    """A value as compact, strict JSON with its keys in order. Raises ValueError on NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def parse_column(text: str) -> Any:
    """The value of a JSON column. Raises DatabaseError if it is not what was written."""
    try:
        return json.loads(text)
    except ValueError:
        raise damaged_database("a row's content is unreadable") from None


def read_stored(kind: type[Value], raw: object) -> Value:
    """What a JSON column's value says. Raises DatabaseError if it is not what was written."""
    try:
        return kind.from_json(raw)
    except ValueError:
        raise damaged_database("a row's content is unreadable") from None


def columns_of(row: sqlite3.Row, names: Iterable[str]) -> dict[str, Any]:
    """The values of a row. Raises DatabaseError where a damaged schema lacks a column."""
    try:
        return {name: row[name] for name in names}
    except IndexError:
        raise damaged_database("a table lacks a column") from None


@dataclass(frozen=True)
class Fence:
    """The one run of a task that may write to its row; any other run is a ghost."""

    attempt: int
    generation: str


@dataclass(frozen=True)
class TaskSketches:
    """Sketches of a task's bars; None where too few of them can be told from others.

    Args:
        tested: of the bars that the verdict rests on.
        trained: of the training range.
    """

    tested: Sketch | None = None
    trained: Sketch | None = None

    def __iter__(self) -> Iterator[Sketch]:
        """Those that there are."""
        return (one for one in (self.tested, self.trained) if one is not None)


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A task to be stored: what the client asked for and everything the job needs."""

    task_id: str
    symbol: str
    timeframe: str
    strategy: str
    config: dict[str, Any]  # the effective configuration, complete
    spec: dict[str, Any]  # everything the job needs, as JSON
    total_epochs: int
    request_hash: str  # equal requests have equal hashes
    similarity_hash: str  # equal for requests that would train the same model
    spec_version: int = 1
    test_start: str | None = None  # first and last bar that the verdict rests on
    test_end: str | None = None
    idempotency_key: str | None = None
    group_id: str | None = None
    executor: str = "thread"
    sketches: TaskSketches = TaskSketches()

    def parameters(self) -> dict[str, str | int | None]:
        """The values of its columns by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, one in vars(values.pop("sketches")).items():
            values[f"{name}_sketch"] = None if one is None else one.key
        return {
            name: json_text(value) if name in JSON_COLUMNS else value
            for name, value in values.items()
        }


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One stored task. Times are ISO 8601 UTC text with Z."""

    seq: int  # order of submission
    task_id: str
    symbol: str
    timeframe: str
    config: dict[str, Any]
    status: str
    progress: int  # percent, at the last transition
    started_at: str | None  # of the first attempt
    completed_at: str | None  # when it became completed, failed or cancelled
    error_message: str | None
    model_path: str | None  # of the unsaved result, relative to the workspace
    created_at: str
    strategy: str
    spec: dict[str, Any]
    spec_version: int
    request_hash: str
    idempotency_key: str | None
    similarity_hash: str
    group_id: str | None
    attempt: int  # how often it was claimed
    generation: str | None  # the process that claimed it last
    executor: str
    current_epoch: int  # at the last transition, or where the newest attempt began
    total_epochs: int
    error_code: str | None
    error_hint: str | None
    error_stage: str | None  # of one that failed; see also store.tasks.MARK_IDLE
    stored_result: Json | None  # the column `result`
    data_fingerprint: str | None
    label_hash: str | None
    test_start: str | None
    test_end: str | None
    cancel_requested: bool
    crashes: int  # deaths of its process in a row without progress
    resumed_from: str | None  # where the newest attempt began, if not the first

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """The value of one row of training_tasks."""
        names = {each.name for each in fields(cls)} - {"stored_result"}
        values = columns_of(row, {*names, "result"})
        values["stored_result"] = values.pop("result")
        for name in ("config", "spec", "stored_result"):
            values[name] = None if values[name] is None else parse_column(values[name])
        values["cancel_requested"] = bool(values["cancel_requested"])
        return cls(**values)

    @cached_property
    def result(self) -> TaskResult | None:
        """What a completed task measured. Raises DatabaseError if it is not what was written."""
        return None if self.stored_result is None else read_stored(TaskResult, self.stored_result)

    @property
    def divides(self) -> bool:
        """Whether it may be divided into parts."""
        return bool(self.spec.get("spread"))

    @property
    def fence(self) -> Fence:
        """What an update by this run of the task must match. Only for a claimed task."""
        if self.generation is None:
            raise ValueError(f"task {self.task_id} was never claimed")
        return Fence(self.attempt, self.generation)


@dataclass(frozen=True)
class TaskPage:
    """Some tasks, newest first."""

    rows: list[TaskRow]
    has_more: bool
