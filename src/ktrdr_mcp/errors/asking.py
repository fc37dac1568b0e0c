"""Errors of a request: what was asked for cannot be done, or not now."""

from __future__ import annotations

from ktrdr_mcp.errors.base import KtrdrError


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
    """A strategy file that cannot be used as it stands."""

    code = "invalid_strategy"


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
    """The laboratory is shutting down and takes no new work."""

    code = "draining"
    http_status = 503
