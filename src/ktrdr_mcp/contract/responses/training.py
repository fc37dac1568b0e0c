"""What is told of a training: its start, its state, its figures."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ktrdr_mcp.contract.requests import Status
from ktrdr_mcp.contract.responses.base import Reply, Success


class DataUsed(Reply):
    """Which bars a training uses. Times are ISO 8601 UTC."""

    first_bar: str
    last_bar: str
    bars: int  # in the requested range
    usable_rows: int  # after warm-up and horizon
    train_rows: int
    validation_rows: int
    test_rows: int
    purged_rows: int  # dropped because their label reaches over a boundary
    class_shares: dict[str, float]  # of the training rows
    source: str


class TrainingStarted(Success):
    """The acknowledgement of a training: its id survives from here on."""

    task_id: str
    status: Literal["training_started"] = "training_started"
    message: str
    symbol: str
    timeframe: str
    config: dict[str, Any] = Field(description="the effective configuration, complete")
    estimated_duration_minutes: float
    strategy: str
    data: DataUsed
    warnings: list[str]
    similar_to: list[str]


class CurrentMetrics(Reply):
    """The newest epoch's figures. Losses in nats, accuracies in [0, 1]."""

    train_loss: float | None = None
    val_loss: float | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None


class TrainingStatus(Success):
    """Where a task stands."""

    task_id: str
    status: Status
    progress: int  # percent; 100 when completed
    current_epoch: int
    total_epochs: int
    symbol: str
    timeframe: str
    started_at: str | None
    estimated_completion: str | None
    current_metrics: CurrentMetrics
    error: str | None
    error_code: str | None
    queue_position: int | None = None  # tasks ahead, while pending
    alarm: str | None = None  # what the epochs so far warn of, while training
    attempt: int = 0  # how often it began to run
    resumed_from: str | None = None  # "epoch 40" of an earlier attempt; ": ..." says why or how


class TrainingMetrics(Reply):
    """Figures of the restored best epoch, without dropout."""

    final_train_loss: float
    final_val_loss: float
    final_train_accuracy: float
    final_val_accuracy: float
    epochs_completed: int
    early_stopped: bool
    training_time_minutes: float
    best_epoch: int


class HeldOutMetrics(Reply):
    """Figures on the test rows. precision, recall and f1_score are macro averages."""

    test_loss: float
    test_accuracy: float
    precision: float
    recall: float
    f1_score: float


class ModelInfo(Reply):
    """The network's size. Megabytes of 10^6 bytes."""

    model_size_mb: float  # the weights
    parameters_count: int
    architecture: str


class TaskSummary(Reply):
    """One task in a list; without test results, so that nobody chooses by them uncounted."""

    task_id: str
    status: Status
    progress: int
    symbol: str
    timeframe: str
    strategy: str
    created_at: str
    val_accuracy: float | None
    error_code: str | None


class TaskList(Success):
    """A page of tasks, newest first."""

    tasks: list[TaskSummary]
    returned: int
    has_more: bool


class TaskCancelled(Success):
    """What cancelling did."""

    task_id: str
    status: Status
    message: str
