"""A laboratory without a training: it remembers what it was asked and gives canned replies."""

from __future__ import annotations

import asyncio
from typing import Any

from ktrdr_mcp.errors import ModelNotFound, StrategyNotFound, TaskNotFound
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.service import OnProgress, ServiceProtocol
from tests.support import sample_replies

CANNED: dict[str, Any] = {
    "start_training": sample_replies.STARTED,
    "get_training_status": sample_replies.status(),
    "get_model_performance": sample_replies.PERFORMANCE,
    "save_trained_model": sample_replies.SAVED,
    "load_trained_model": sample_replies.LOADED,
    "test_model_prediction": sample_replies.PREDICTION,
    "list_trained_models": sample_replies.MODELS,
    "list_training_tasks": sample_replies.TASKS,
    "cancel_training": sample_replies.CANCELLED,
    "get_market_data_summary": sample_replies.ALL_SERIES,
    "backtest_model": sample_replies.BACKTEST,
    "compare_trainings": sample_replies.COMPARISON,
    "reproduce_training": sample_replies.REPRODUCTION,
    "equity_curve": {"out_of_sample": [{"time": sample_replies.MOMENT, "equity": 1.01}]},
}


class FakeLab:
    """Implements contract.Lab.

    Attributes:
        calls: what was asked: the method's name and its argument.
        replies: what each method answers.
        failure: raised by every method, if set.
        progress: statuses that a waiting caller is told of.
        finished: if set, waiting lasts until the event.
        waiting: set while a caller waits.
        wait_was_cancelled: whether a wait was cut short.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything that a test did."""
        self.calls: list[tuple[str, Any]] = []
        self.replies = dict(CANNED)
        self.failure: BaseException | None = None
        self.progress: list[responses.TrainingStatus] = []
        self.finished: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.wait_was_cancelled = asyncio.Event()
        self.names = {
            "task_id": [sample_replies.UUID, "task-2"],
            "model_name": ["alpha", "alpine", "beta"],
            "symbol": ["AAPL", "EURUSD=X"],
            "timeframe": ["1h", "1d"],
            "strategy": ["default", "trend"],
        }

    def answer(self, method: str, argument: object) -> Any:
        """Remembers the call; fails or replies as told."""
        self.calls.append((method, argument))
        if self.failure is not None:
            raise self.failure
        return self.replies[method]

    async def start_training(self, request: requests.StartTraining) -> responses.TrainingStarted:
        reply: responses.TrainingStarted = self.answer("start_training", request)
        return reply

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        reply: responses.TrainingStatus = self.answer("get_training_status", request)
        for status in self.progress:
            if on_progress is not None:
                await on_progress(status)
        if self.finished is not None:
            self.waiting.set()
            try:
                await self.finished.wait()
            except asyncio.CancelledError:
                self.wait_was_cancelled.set()
                raise
        return reply

    async def get_model_performance(self, request: requests.TaskOnly) -> responses.ModelPerformance:
        reply: responses.ModelPerformance = self.answer("get_model_performance", request)
        return reply

    async def backtest_model(self, request: requests.BacktestModel) -> responses.ModelBacktest:
        reply: responses.ModelBacktest = self.answer("backtest_model", request)
        return reply

    async def compare_trainings(self, request: requests.CompareTrainings) -> responses.Comparison:
        reply: responses.Comparison = self.answer("compare_trainings", request)
        return reply

    async def reproduce_training(
        self, request: requests.ReproduceTraining
    ) -> responses.Reproduction:
        reply: responses.Reproduction = self.answer("reproduce_training", request)
        return reply

    async def equity_curve(self, request: requests.BacktestModel) -> dict[str, Any]:
        reply: dict[str, Any] = self.answer("equity_curve", request)
        return reply

    async def save_trained_model(self, request: requests.SaveModel) -> responses.ModelSaved:
        reply: responses.ModelSaved = self.answer("save_trained_model", request)
        return reply

    async def load_trained_model(self, request: requests.LoadModel) -> responses.ModelLoaded:
        reply: responses.ModelLoaded = self.answer("load_trained_model", request)
        return reply

    async def test_model_prediction(self, request: requests.Predict) -> responses.ModelPrediction:
        reply: responses.ModelPrediction = self.answer("test_model_prediction", request)
        return reply

    async def list_trained_models(self, request: requests.ListModels) -> responses.ModelList:
        reply: responses.ModelList = self.answer("list_trained_models", request)
        return reply

    async def list_training_tasks(self, request: requests.ListTasks) -> responses.TaskList:
        reply: responses.TaskList = self.answer("list_training_tasks", request)
        return reply

    async def cancel_training(self, request: requests.TaskOnly) -> responses.TaskCancelled:
        reply: responses.TaskCancelled = self.answer("cancel_training", request)
        return reply

    async def get_market_data_summary(
        self, request: requests.SummarizeData
    ) -> responses.DataSummary:
        reply: responses.DataSummary = self.answer("get_market_data_summary", request)
        return reply

    async def training_history(self, task_id: str) -> dict[str, Any]:
        self.calls.append(("training_history", task_id))
        if self.failure is not None:
            raise self.failure
        if task_id != sample_replies.UUID:
            raise TaskNotFound(f"No task has the id '{task_id}'.", hint="Call list_training_tasks.")
        return {"task_id": task_id, "epochs": [{"epoch": 1, "val_loss": 1.1}]}

    async def model_card(self, model_name: str) -> dict[str, Any]:
        self.calls.append(("model_card", model_name))
        if model_name != "alpha":
            raise ModelNotFound(f"No model is named '{model_name}'.", hint="Saved: alpha.")
        return {"model_name": model_name, "description": "from Zürich"}

    async def strategy_text(self, name: str) -> str:
        self.calls.append(("strategy_text", name))
        if name != "default":
            raise StrategyNotFound(f"No strategy is named '{name}'.", hint="There is: default.")
        return "name: default\n"

    async def complete(self, kind: str, prefix: str) -> list[str]:
        self.calls.append(("complete", (kind, prefix)))
        if self.failure is not None:
            raise self.failure
        return [name for name in self.names[kind] if name.startswith(prefix)]


def as_lab(lab: FakeLab) -> ServiceProtocol:
    """The fake as the protocol; a type checker proves that it fits."""
    return lab
