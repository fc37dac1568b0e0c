"""Every HTTP route: path, request, reply and the operation behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, Field

from ktrdr_mcp import __version__, limits
from ktrdr_mcp.schemas import CONTRACT_VERSION, documents, requests, responses
from ktrdr_mcp.schemas.service import ServiceProtocol

Call = Callable[[Any], Awaitable[responses.Reply]]


@dataclass(frozen=True)
class Route:
    """One use case over HTTP.

    Attributes:
        name: the operation's name; the same as the tool's, where there is one.
        refusals: the statuses, beside those that every route has, that it may answer with.
    """

    method: str
    path: str
    name: str
    request: type[BaseModel]
    reply: type[responses.Reply]
    call: Call
    summary: str
    refusals: tuple[int, ...] = ()


def document_routes(lab: ServiceProtocol) -> list[Route]:
    """The routes of what MCP has as resources and completion, and of the server itself."""

    async def health(request: documents.Empty) -> documents.Health:
        return documents.Health(version=__version__, contract_version=CONTRACT_VERSION)

    async def history(request: requests.TaskOnly) -> documents.TrainingHistory:
        told = await lab.training_history(request.task_id)
        return documents.TrainingHistory(task_id=request.task_id, history=told)

    async def card(request: requests.LoadModel) -> documents.ModelCard:
        told = await lab.model_card(request.model_name)
        return documents.ModelCard(model_name=request.model_name, card=told)

    async def strategies(request: documents.Empty) -> documents.StrategyNames:
        return documents.StrategyNames(strategies=await lab.complete("strategy", ""))

    async def strategy(request: documents.ReadStrategy) -> documents.StrategyText:
        return documents.StrategyText(name=request.name, text=await lab.strategy_text(request.name))

    async def complete(request: documents.CompleteName) -> documents.Names:
        names = await lab.complete(request.kind, request.prefix)
        return documents.Names(kind=request.kind, names=names)

    return [
        Route(
            "GET",
            "/health",
            "health",
            documents.Empty,
            documents.Health,
            health,
            "Whether the laboratory answers, and its versions.",
        ),
        Route(
            "GET",
            "/training/{task_id}/history",
            "training_history",
            requests.TaskOnly,
            documents.TrainingHistory,
            history,
            "A task's whole story: specification, every epoch, metrics.",
            (404,),
        ),
        Route(
            "GET",
            "/models/{model_name}",
            "model_card",
            requests.LoadModel,
            documents.ModelCard,
            card,
            "What a model's newest version is, was trained on and measured.",
            (404,),
        ),
        Route(
            "GET",
            "/strategies",
            "list_strategies",
            documents.Empty,
            documents.StrategyNames,
            strategies,
            "The names of the strategies: those of the workspace and the built-in ones.",
        ),
        Route(
            "GET",
            "/strategies/{name}",
            "strategy_text",
            documents.ReadStrategy,
            documents.StrategyText,
            strategy,
            "A strategy file as it stands.",
            (404,),
        ),
        Route(
            "GET",
            "/complete",
            "complete",
            documents.CompleteName,
            documents.Names,
            complete,
            "Known names that begin with a text.",
        ),
    ]


EVENTS_PATH: Final = "/training/{task_id}/events"


class ListModels(requests.ListModels):
    """A page of the registry."""

    limit: int = Field(limits.MAX_PAGE_ROWS, ge=1, le=limits.MAX_PAGE_ROWS)


class ListTasks(requests.ListTasks):
    """A page of the tasks."""

    limit: int = Field(limits.MAX_PAGE_ROWS, ge=1, le=limits.MAX_PAGE_ROWS)


class SummarizeData(requests.SummarizeData):
    """A page of the stored series."""

    limit: int = Field(limits.MAX_PAGE_ROWS, ge=1, le=limits.MAX_PAGE_ROWS)


def all_routes(lab: ServiceProtocol) -> list[Route]:
    """Every route that answers with one JSON object.

    Args:
        lab: the laboratory behind them.
    """
    return [
        *training_routes(lab),
        *judging_routes(lab),
        *model_routes(lab),
        *document_routes(lab),
    ]


def training_routes(lab: ServiceProtocol) -> list[Route]:
    """The routes that start, watch, judge and stop a training."""
    return [
        Route(
            "POST",
            "/training/start",
            "start_training",
            requests.StartTraining,
            responses.TrainingStarted,
            lab.start_training,
            "Start training a network on one series of bars; answers at once with a task_id.",
            (404, 409, 429, 503),
        ),
        Route(
            "GET",
            "/training",
            "list_training_tasks",
            ListTasks,
            responses.TaskList,
            lab.list_training_tasks,
            "Tasks, newest first.",
        ),
        Route(
            "GET",
            "/training/{task_id}",
            "get_training_status",
            requests.GetTrainingStatus,
            responses.TrainingStatus,
            lab.get_training_status,
            "State and progress of a task; wait_s waits for its end.",
            (404,),
        ),
        Route(
            "GET",
            "/training/{task_id}/performance",
            "get_model_performance",
            requests.TaskOnly,
            responses.ModelPerformance,
            lab.get_model_performance,
            "What a completed task measured on bars that it was not trained on.",
            (404, 409),
        ),
        Route(
            "POST",
            "/training/{task_id}/cancel",
            "cancel_training",
            requests.TaskOnly,
            responses.TaskCancelled,
            lab.cancel_training,
            "Stop a pending or running task for good; one that has ended stays as it is.",
            (404,),
        ),
    ]


def judging_routes(lab: ServiceProtocol) -> list[Route]:
    """The routes that set trainings and models beside one another, or beside themselves."""

    async def equity(request: requests.BacktestModel) -> documents.EquityCurve:
        told = await lab.equity_curve(request)
        return documents.EquityCurve(model_name=request.model_name, equity=told)

    return [
        Route(
            "POST",
            "/training/compare",
            "compare_trainings",
            requests.CompareTrainings,
            responses.Comparison,
            lab.compare_trainings,
            "Set completed tasks side by side, ranked by validation only.",
            (404, 409),
        ),
        Route(
            "POST",
            "/training/{task_id}/reproduce",
            "reproduce_training",
            requests.ReproduceTraining,
            responses.Reproduction,
            lab.reproduce_training,
            "Train a completed task again from what is stored: match, or what differs.",
            (404, 409, 410, 429, 503),
        ),
        Route(
            "POST",
            "/models/{model_name}/backtest",
            "backtest_model",
            requests.BacktestModel,
            responses.ModelBacktest,
            lab.backtest_model,
            "Trade a saved model's signals over any range, after costs.",
            (404,),
        ),
        Route(
            "POST",
            "/models/{model_name}/equity",
            "equity_curve",
            requests.BacktestModel,
            documents.EquityCurve,
            equity,
            "The equity curve of such a backtest.",
            (404,),
        ),
    ]


def model_routes(lab: ServiceProtocol) -> list[Route]:
    """The routes that publish and use a model."""
    return [
        Route(
            "POST",
            "/models/save",
            "save_trained_model",
            requests.SaveModel,
            responses.ModelSaved,
            lab.save_trained_model,
            "Publish a completed task's model under a name; repeating it is safe.",
            (404, 409, 410, 507),
        ),
        Route(
            "POST",
            "/models/predict",
            "test_model_prediction",
            requests.Predict,
            responses.ModelPrediction,
            lab.test_model_prediction,
            "Predict one bar with a saved model, loading it if needed.",
            (404,),
        ),
        Route(
            "POST",
            "/models/{model_name}/load",
            "load_trained_model",
            requests.LoadModel,
            responses.ModelLoaded,
            lab.load_trained_model,
            "Check the newest version of a saved model and keep it in memory.",
            (404,),
        ),
        Route(
            "GET",
            "/models",
            "list_trained_models",
            ListModels,
            responses.ModelList,
            lab.list_trained_models,
            "Saved models, newest first.",
        ),
        Route(
            "GET",
            "/data",
            "get_market_data_summary",
            SummarizeData,
            responses.DataSummary,
            lab.get_market_data_summary,
            "Which symbols and timeframes there are, with range, number of bars and defects.",
        ),
    ]
