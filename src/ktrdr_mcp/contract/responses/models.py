"""What is told of saved models and their predictions."""

from __future__ import annotations

from typing import Literal

from ktrdr_mcp.contract.responses.base import Reply, Success


class ModelSaved(Success):
    """Where the model was published."""

    model_id: str
    model_name: str
    model_path: str  # relative to the workspace
    task_id: str
    saved_at: str
    model_size_mb: float  # the weights
    version: int
    created: bool  # false: this task was saved under this name before
    ktrdr_backtest_compatible: bool  # as of the save
    ktrdr_incompatibilities: list[str]  # why not; empty if it is


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
    trained_on: list[str]  # first and last bar that fitted the weights; empty if KTRDR wrote it


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
    origin: Literal["ktrdr-mcp", "ktrdr"] = "ktrdr-mcp"  # which program wrote it


class ModelList(Success):
    """A page of the registry, newest first."""

    models: list[ModelRow]
    returned: int
    has_more: bool
