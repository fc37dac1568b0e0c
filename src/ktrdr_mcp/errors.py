"""Every error a caller can meet: its code, its HTTP status, and a hint that says what to do next.

KtrdrError
  InvalidRequest 422    InvalidName, LimitExceeded, InvalidStrategy,
                        ModelNotReproducible
  DataError 422         DataInvalid, NotEnoughData
  FeedFailed 502
  NotFound 404          TaskNotFound, ModelNotFound, DataNotFound, StrategyNotFound
  Conflict 409          TaskNotCompleted, TaskConflict, ModelNameTaken
  ResultRemoved 410, QueueFull 429, Draining 503
  TrainingFailed        Diverged, OutOfMemory, RunnerFailed, CrashLoop (stored with the task)
  NotReady 503
  StorageError 500      StorageFull 507, ModelCorrupted, DatabaseError, WorkspaceLocked,
                        WorkspaceNotTrusted 403, TooManyOpenFiles 503
  LabUnavailable 503
  Refused (HTTP)        Unauthorized 401, OriginRefused 403, ReadingOnly 403,
                        MethodNotAllowed 405, RequestTimeout 408, BodyTooLarge 413,
                        NotJson 415, HostRefused 421

"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypedDict


class ErrorJson(TypedDict):
    """An error as it crosses between processes; KtrdrError says what the fields are."""

    code: str
    message: str
    hint: str
    field: str | None


class KtrdrError(Exception):
    """A failure that the caller can read and act on.

    Args:
        message: one sentence that says what was wrong and where.
        hint: what to do next.
        field: dotted path of the request field at fault, if there is one.
    """

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field

    def to_dict(self) -> dict[str, Any]:
        """The one error shape, over MCP and HTTP alike."""
        return {"success": False, "detail": self.message, "error": self.to_json()}

    def to_json(self) -> ErrorJson:
        """The error alone, for another process."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "field": self.field}


def kinds_by_code() -> dict[str, type[KtrdrError]]:
    """Every error class by its code; the base class has the first claim on its own."""
    kinds: dict[str, type[KtrdrError]] = {}
    waiting: list[type[KtrdrError]] = [KtrdrError]
    for kind in waiting:
        kinds.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return kinds


def error_of(crossed: ErrorJson) -> KtrdrError:
    """An error that came from another process, as the same class."""
    kind = kinds_by_code().get(crossed["code"], KtrdrError)
    return kind(crossed["message"], hint=crossed["hint"], field=crossed["field"])


def unwrap(error: BaseException) -> BaseException:
    """What a task group wrapped, if it is one exception alone."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, or nothing.

    Args:
        text: the unknown word.
        known: the words that would have been accepted.
    Returns:
        " Did you mean 'x'?" with a leading space, or an empty string.
    """
    by_folded = {word.casefold(): word for word in known}
    folded = text.casefold()
    near = [
        (edit_distance(folded, word), word)
        for word in by_folded
        if abs(len(word) - len(folded)) <= most_edits(folded)
    ]
    part_of = [
        (abs(len(word) - len(folded)), word)
        for word in by_folded
        for short, long in [sorted((word, folded), key=len)]
        if len(short) >= 4 and (long.startswith(short) or long.endswith(short))
    ]
    close = sorted(each for each in near if each[0] <= most_edits(folded)) or sorted(part_of)
    return f" Did you mean '{by_folded[close[0][1]]}'?" if close else ""


def most_edits(text: str) -> int:
    """How far a word may lie from another to be taken for it: a third of its letters."""
    return min(len(text) // 3 + 1, 4) if len(text) > 2 else 1


def edit_distance(one: str, other: str) -> int:
    """How many letters must be put in, taken out, changed or swapped with the next one.

    Args:
        one: a word; only its first 64 letters count.
        other: likewise.
    """
    one, other = one[:64], other[:64]
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        two_before, before, row = before, row, [i]
        for j, other_letter in enumerate(other, start=1):
            change = before[j - 1] + (letter != other_letter)
            best = min(before[j] + 1, row[j - 1] + 1, change)
            if i > 1 and j > 1 and (letter, one[i - 2]) == (other[j - 2], other_letter):
                best = min(best, two_before[j - 2] + 1)
            row.append(best)
    return row[-1]


def quote(value: object, limit: int = 60) -> str:
    """A caller's value as it may stand in a message: printable, in JSON's words, and short.

    Args:
        value: anything a caller sent.
        limit: the most characters shown.
    """
    try:
        text = ascii(value) if isinstance(value, str) else json.dumps(value)
    except TypeError:  # not of JSON
        text = ascii(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def printable(text: str, keep: str = "") -> str:
    """Text from elsewhere without what could steer a terminal, a shell or a reader's eye.

    Args:
        text: anything.
        keep: characters that stay as they are.
    Returns:
        the text, its control and invisible characters and direction marks escaped.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode()
        for each in text
    )


class InvalidRequest(KtrdrError):
    """A request or value that does not fit the contract."""

    code = "invalid_request"
    http_status = 422


class InvalidName(InvalidRequest):
    """A task id, model, strategy, symbol or timeframe that is not well formed."""

    code = "invalid_name"


class LimitExceeded(InvalidRequest):
    """A value beyond what this machine or this program accepts."""

    code = "limit_exceeded"


class InvalidStrategy(InvalidRequest):
    """A strategy file that cannot be used as it stands.

    Args:
        message, hint, field: as KtrdrError describes them.
        problems: each problem by itself, where the message names several.
    """

    code = "invalid_strategy"

    def __init__(
        self,
        message: str,
        *,
        hint: str,
        field: str | None = None,
        problems: Sequence[InvalidStrategy] = (),
    ) -> None:
        super().__init__(message, hint=hint, field=field)
        self.problems = tuple(problems)


class ModelNotReproducible(InvalidRequest):
    """A model that another program wrote, whose features cannot be computed here."""

    code = "model_not_reproducible"


class DataError(KtrdrError):
    """Market data that cannot be used for this request."""

    code = "data_error"
    http_status = 422


class DataInvalid(DataError):
    """Bars that contradict themselves."""

    code = "data_invalid"


class NotEnoughData(DataError):
    """Too few bars, or too few classes, for the requested split."""

    code = "not_enough_data"


class FeedFailed(KtrdrError):
    """A feed that did not give the bars that were asked of it."""

    code = "feed_failed"
    http_status = 502


class NotFound(KtrdrError):
    """A well-formed name that nothing answers to."""

    code = "not_found"
    http_status = 404


class TaskNotFound(NotFound):
    """No task has this id."""

    code = "task_not_found"


class ModelNotFound(NotFound):
    """No saved model has this name."""

    code = "model_not_found"


class DataNotFound(NotFound):
    """No bars are stored for this symbol and timeframe."""

    code = "data_not_found"


class StrategyNotFound(NotFound):
    """No strategy has this name."""

    code = "strategy_not_found"


class Conflict(KtrdrError):
    """A request that contradicts what is already stored."""

    code = "conflict"
    http_status = 409


class TaskNotCompleted(Conflict):
    """The task has no result, or none yet."""

    code = "task_not_completed"


class TaskConflict(Conflict):
    """The task id or idempotency key belongs to another request."""

    code = "task_conflict"


class ModelNameTaken(Conflict):
    """The model name belongs to another strategy, symbol or timeframe."""

    code = "model_name_taken"


class ResultRemoved(KtrdrError):
    """The result of a completed task is not kept any more; its row is."""

    code = "result_removed"
    http_status = 410


class QueueFull(KtrdrError):
    """Too many tasks are waiting."""

    code = "queue_full"
    http_status = 429


class Draining(KtrdrError):
    """The server is shutting down and takes no new work."""

    code = "draining"
    http_status = 503


class NotReady(KtrdrError):
    """The server cannot take work now."""

    code = "not_ready"
    http_status = 503


class Refused(KtrdrError):
    """An HTTP request that reaches no use case."""

    code = "refused"
    http_status = 400


class MethodNotAllowed(Refused):
    """The route does not have this method."""

    code = "method_not_allowed"
    http_status = 405


class Unauthorized(Refused):
    """The bearer token is missing or wrong."""

    code = "unauthorized"
    http_status = 401


class OriginRefused(Refused):
    """The request comes from a web page that is not allowed."""

    code = "origin_refused"
    http_status = 403


class ReadingOnly(Refused):
    """The caller's token lets it read, and change nothing."""

    code = "reading_only"
    http_status = 403


class HostRefused(Refused):
    """The request is addressed to a host name that is not ours."""

    code = "host_refused"
    http_status = 421


class RequestTimeout(Refused):
    """The request's head or body took too long to come."""

    code = "request_timeout"
    http_status = 408


class BodyTooLarge(Refused):
    """The body has too many bytes."""

    code = "body_too_large"
    http_status = 413


class NotJson(Refused):
    """The body is not declared as JSON."""

    code = "not_json"
    http_status = 415


class StorageError(KtrdrError):
    """The workspace could not be read or written.

    Attributes:
        stage: how far a training had come, where whoever raised it knows.
    """

    code = "storage_error"
    stage: str | None = None


class StorageFull(StorageError):
    """No space is left for the workspace."""

    code = "storage_full"
    http_status = 507


class TooManyOpenFiles(StorageError):
    """This process, or the system, has no descriptor left for another file."""

    code = "too_many_open_files"
    http_status = 503


class ModelCorrupted(StorageError):
    """A stored model whose files are not what was written."""

    code = "model_corrupted"


class DatabaseError(StorageError):
    """The workspace's database cannot be used."""

    code = "database_error"


class WorkspaceLocked(StorageError):
    """Another process owns this workspace."""

    code = "workspace_locked"


class WorkspaceNotTrusted(StorageError):
    """The workspace was not made by this user on this machine, so it is only read."""

    code = "workspace_not_trusted"
    http_status = 403


class LabUnavailable(KtrdrError):
    """The process that owns this workspace does not answer."""

    code = "lab_unavailable"
    http_status = 503


class TrainingFailed(KtrdrError):
    """A training that ended without a model; stored with its task."""

    code = "training_failed"


class Diverged(TrainingFailed):
    """The loss stopped being a finite number."""

    code = "diverged"


class OutOfMemory(TrainingFailed):
    """The training needed more memory than there was."""

    code = "out_of_memory"


class RunnerFailed(TrainingFailed):
    """An internal error stopped the training."""

    code = "internal_error"


class CrashLoop(TrainingFailed):
    """The process that ran the task died too often."""

    code = "crash_loop"


def internal_error(what: str) -> KtrdrError:
    """A sentence that shows nothing of the inside of the error; the log has it.

    Args:
        what: what failed.
    """
    return KtrdrError(
        f"{what} failed because of an internal error.",
        hint="Call it once more; if it fails again, report it with the server's standard error.",
    )
