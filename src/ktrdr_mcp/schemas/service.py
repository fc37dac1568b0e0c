"""The service as its callers see it: one method for each operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from ktrdr_mcp.schemas import requests, responses

INSTANCE: Final = "X-KTRDR-Instance"  # which laboratory the request is meant for


OnProgress = Callable[[responses.TrainingStatus], Awaitable[None]]


class ServiceProtocol(Protocol):
    """What every face may call. Each method raises KtrdrError and nothing else."""

    async def start_training(self, request: requests.StartTraining) -> responses.TrainingStarted:
        """Validates, stores and queues a training; the id it returns is never lost."""

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        """A task's state; waits up to `wait_s` for its end and tells of progress meanwhile."""

    async def get_model_performance(self, request: requests.TaskOnly) -> responses.ModelPerformance:
        """What a completed task measured."""

    async def save_trained_model(self, request: requests.SaveModel) -> responses.ModelSaved:
        """Publishes a completed task's model under a name."""

    async def load_trained_model(self, request: requests.LoadModel) -> responses.ModelLoaded:
        """Verifies the newest version of a model and keeps it in memory."""

    async def test_model_prediction(self, request: requests.Predict) -> responses.ModelPrediction:
        """Predicts one bar, loading the model if needed."""

    async def list_trained_models(self, request: requests.ListModels) -> responses.ModelList:
        """A page of the registry."""

    async def list_training_tasks(self, request: requests.ListTasks) -> responses.TaskList:
        """A page of the tasks."""

    async def cancel_training(self, request: requests.TaskOnly) -> responses.TaskCancelled:
        """Asks a task to stop; of a finished one changes nothing."""

    async def get_market_data_summary(
        self, request: requests.SummarizeData
    ) -> responses.DataSummary:
        """Which bars there are."""

    async def backtest_model(self, request: requests.BacktestModel) -> responses.ModelBacktest:
        """Trades a saved model's signals over any range, after costs."""

    async def compare_trainings(self, request: requests.CompareTrainings) -> responses.Comparison:
        """Sets completed tasks side by side."""

    async def reproduce_training(
        self, request: requests.ReproduceTraining
    ) -> responses.Reproduction:
        """Trains a completed task again from what is stored, and compares."""

    async def equity_curve(self, request: requests.BacktestModel) -> dict[str, Any]:
        """The equity curve of a backtest, in sample and out of it apart."""

    async def training_history(self, task_id: str) -> dict[str, Any]:
        """A task's whole story: specification, every epoch, metrics."""

    async def model_card(self, model_name: str) -> dict[str, Any]:
        """What the newest version of a model is, was trained on and measured."""

    async def strategy_text(self, name: str) -> str:
        """A strategy file as it stands."""

    async def complete(self, kind: str, prefix: str) -> list[str]:
        """Known names that begin with the prefix.

        Args:
            kind: task_id, model_name, symbol, timeframe or strategy.
            prefix: what was typed so far.
        """
