"""Every error a caller can meet, with its code, its HTTP status and the next thing to do.

KtrdrError
  InvalidRequest 422    InvalidName, LimitExceeded, InvalidStrategy,
                        ModelNotReproducible
  DataError 422         DataInvalid, NotEnoughData
  NotFound 404          TaskNotFound, ModelNotFound, DataNotFound, StrategyNotFound
  Conflict 409          TaskNotCompleted, TaskConflict, ModelNameTaken
  ResultRemoved 410, QueueFull 429, Draining 503
  TrainingFailed        Diverged, OutOfMemory, RunnerFailed, CrashLoop (stored with the task)
  StorageError 500      StorageFull 507, ModelCorrupted, DatabaseError, WorkspaceLocked
  LabUnavailable 503
  Refused (HTTP)        Unauthorized 401, OriginRefused 403, MethodNotAllowed 405,
                        BodyTooLarge 413, NotJson 415, HostRefused 421
"""

from __future__ import annotations

from ktrdr_mcp.errors.asking import (
    Conflict,
    DataError,
    DataInvalid,
    DataNotFound,
    Draining,
    InvalidName,
    InvalidRequest,
    InvalidStrategy,
    LimitExceeded,
    ModelNameTaken,
    ModelNotFound,
    ModelNotReproducible,
    NotEnoughData,
    NotFound,
    QueueFull,
    ResultRemoved,
    StrategyNotFound,
    TaskConflict,
    TaskNotCompleted,
    TaskNotFound,
)
from ktrdr_mcp.errors.base import KtrdrError, kinds_by_code, single
from ktrdr_mcp.errors.refusals import (
    BodyTooLarge,
    HostRefused,
    MethodNotAllowed,
    NotJson,
    OriginRefused,
    Refused,
    Unauthorized,
)
from ktrdr_mcp.errors.storage import (
    DatabaseError,
    LabUnavailable,
    ModelCorrupted,
    StorageError,
    StorageFull,
    WorkspaceLocked,
)
from ktrdr_mcp.errors.training import CrashLoop, Diverged, OutOfMemory, RunnerFailed, TrainingFailed
from ktrdr_mcp.errors.wording import did_you_mean, shown

__all__ = [
    "BodyTooLarge",
    "Conflict",
    "CrashLoop",
    "DataError",
    "DataInvalid",
    "DataNotFound",
    "DatabaseError",
    "Diverged",
    "Draining",
    "HostRefused",
    "InvalidName",
    "InvalidRequest",
    "InvalidStrategy",
    "KtrdrError",
    "LabUnavailable",
    "LimitExceeded",
    "MethodNotAllowed",
    "ModelCorrupted",
    "ModelNameTaken",
    "ModelNotFound",
    "ModelNotReproducible",
    "NotEnoughData",
    "NotFound",
    "NotJson",
    "OriginRefused",
    "OutOfMemory",
    "QueueFull",
    "Refused",
    "ResultRemoved",
    "RunnerFailed",
    "StorageError",
    "StorageFull",
    "StrategyNotFound",
    "TaskConflict",
    "TaskNotCompleted",
    "TaskNotFound",
    "TrainingFailed",
    "Unauthorized",
    "WorkspaceLocked",
    "did_you_mean",
    "kinds_by_code",
    "shown",
    "single",
]
