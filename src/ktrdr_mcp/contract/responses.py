"""What a caller is told: the specification's fields, typed as its examples, and ours."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ktrdr_mcp.contract.requests import Status


class Reply(BaseModel):
    """A response model; replies may gain fields, so readers must tolerate more."""

    model_config = ConfigDict(frozen=True)


class Success(Reply):
    """Every reply that is not an error."""

    success: Literal[True] = True


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
    majority_accuracy: float  # of always answering the training rows' majority class


class ModelInfo(Reply):
    """The network's size. Megabytes of 10^6 bytes."""

    model_size_mb: float
    parameters_count: int
    architecture: str


class ModelPerformance(Success):
    """What a completed training measured."""

    task_id: str
    status: Literal["completed"] = "completed"
    training_metrics: TrainingMetrics
    test_metrics: HeldOutMetrics
    model_info: ModelInfo
    data: DataUsed
    test_period: list[str]  # first and last test bar
    predicted_shares: dict[str, float]  # of the test rows
    collapsed: bool  # one class is predicted for every test row
    summary: str
    history: str  # resource with every epoch


class ModelSaved(Success):
    """Where the model was published."""

    model_id: str
    model_name: str
    model_path: str  # relative to the workspace
    task_id: str
    saved_at: str
    model_size_mb: float
    version: int
    created: bool  # false: this task was saved under this name before


class LoadedModelInfo(Reply):
    """The card of a loaded model."""

    created_at: str
    symbol: str
    timeframe: str
    architecture: str
    training_accuracy: float
    test_accuracy: float
    strategy: str
    version: int
    trained_on: list[str]  # first and last bar of the rows that fitted the weights


class ModelLoaded(Success):
    """The model is in memory and its files are what was written."""

    model_name: str
    model_loaded: Literal[True] = True
    model_info: LoadedModelInfo


class Prediction(Reply):
    """One bar's prediction."""

    signal: Literal["buy", "hold", "sell"]
    confidence: float  # probability of the signal
    signal_strength: float  # |p(buy) - p(sell)|
    fuzzy_outputs: dict[str, float]  # memberships of p(buy) - p(sell)
    probabilities: dict[str, float]


class ModelPrediction(Success):
    """A prediction, the bar it is for and what the network saw."""

    model_name: str
    symbol: str
    test_date: str
    prediction: Prediction
    input_features: dict[str, float]  # that bar's indicator values in their own units
    as_of: str  # opening time of the bar used
    in_sample: bool  # the bar lies in the rows that fitted or selected the weights
    timeframe: str
    version: int
    warnings: list[str]


class ModelRow(Reply):
    """One version in the registry."""

    model_id: str
    model_name: str
    symbol: str
    timeframe: str
    created_at: str
    training_accuracy: float
    test_accuracy: float
    description: str
    version: int


class ModelList(Success):
    """A page of the registry, newest first."""

    models: list[ModelRow]
    returned: int
    has_more: bool


class TaskSummary(Reply):
    """One task in a list."""

    task_id: str
    status: Status
    progress: int
    symbol: str
    timeframe: str
    strategy: str
    created_at: str
    val_accuracy: float | None
    test_accuracy: float | None
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


class SeriesSummary(Reply):
    """One series of bars."""

    symbol: str
    timeframe: str
    bars: int
    first_bar: str | None
    last_bar: str | None
    source: str
    notes: list[str]
    defects: str | None


class DataSummary(Success):
    """Which bars there are."""

    series: list[SeriesSummary]
    returned: int
    has_more: bool
