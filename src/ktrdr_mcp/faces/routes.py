"""Every route of the HTTP face: path, request, reply and the laboratory's method. No logic."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from ktrdr_mcp import limits
from ktrdr_mcp.contract import Lab, documents, requests, responses
from ktrdr_mcp.faces.document_routes import document_routes
from ktrdr_mcp.faces.lab_route import LabRoute

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


def lab_routes(lab: Lab) -> list[LabRoute]:
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


def training_routes(lab: Lab) -> list[LabRoute]:
    """The routes that start, watch, judge and stop a training."""
    return [
        LabRoute(
            "POST",
            "/training/start",
            "start_training",
            requests.StartTraining,
            responses.TrainingStarted,
            lab.start_training,
            "Start training a network on one series of bars; answers at once with a task_id.",
            (404, 409, 429, 503),
        ),
        LabRoute(
            "GET",
            "/training",
            "list_training_tasks",
            ListTasks,
            responses.TaskList,
            lab.list_training_tasks,
            "Tasks, newest first.",
        ),
        LabRoute(
            "GET",
            "/training/{task_id}",
            "get_training_status",
            requests.GetTrainingStatus,
            responses.TrainingStatus,
            lab.get_training_status,
            "State and progress of a task; wait_s waits for its end.",
            (404,),
        ),
        LabRoute(
            "GET",
            "/training/{task_id}/performance",
            "get_model_performance",
            requests.TaskOnly,
            responses.ModelPerformance,
            lab.get_model_performance,
            "What a completed task measured on bars that it was not trained on.",
            (404, 409),
        ),
        LabRoute(
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


def judging_routes(lab: Lab) -> list[LabRoute]:
    """The routes that set trainings and models beside one another, or beside themselves."""

    async def equity(request: requests.BacktestModel) -> documents.EquityCurve:
        told = await lab.equity_curve(request)
        return documents.EquityCurve(model_name=request.model_name, equity=told)

    return [
        LabRoute(
            "POST",
            "/training/compare",
            "compare_trainings",
            requests.CompareTrainings,
            responses.Comparison,
            lab.compare_trainings,
            "Set completed tasks side by side, ranked by validation only.",
            (404, 409),
        ),
        LabRoute(
            "POST",
            "/training/{task_id}/reproduce",
            "reproduce_training",
            requests.ReproduceTraining,
            responses.Reproduction,
            lab.reproduce_training,
            "Train a completed task again from what is stored: match, or what differs.",
            (404, 409, 410, 429, 503),
        ),
        LabRoute(
            "POST",
            "/models/{model_name}/backtest",
            "backtest_model",
            requests.BacktestModel,
            responses.ModelBacktest,
            lab.backtest_model,
            "Trade a saved model's signals over any range, after costs.",
            (404,),
        ),
        LabRoute(
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


def model_routes(lab: Lab) -> list[LabRoute]:
    """The routes that publish and use a model."""
    return [
        LabRoute(
            "POST",
            "/models/save",
            "save_trained_model",
            requests.SaveModel,
            responses.ModelSaved,
            lab.save_trained_model,
            "Publish a completed task's model under a name; repeating it is safe.",
            (404, 409, 410, 507),
        ),
        LabRoute(
            "POST",
            "/models/predict",
            "test_model_prediction",
            requests.Predict,
            responses.ModelPrediction,
            lab.test_model_prediction,
            "Predict one bar with a saved model, loading it if needed.",
            (404,),
        ),
        LabRoute(
            "POST",
            "/models/{model_name}/load",
            "load_trained_model",
            requests.LoadModel,
            responses.ModelLoaded,
            lab.load_trained_model,
            "Check the newest version of a saved model and keep it in memory.",
            (404,),
        ),
        LabRoute(
            "GET",
            "/models",
            "list_trained_models",
            ListModels,
            responses.ModelList,
            lab.list_trained_models,
            "Saved models, newest first.",
        ),
        LabRoute(
            "GET",
            "/data",
            "get_market_data_summary",
            SummarizeData,
            responses.DataSummary,
            lab.get_market_data_summary,
            "Which symbols and timeframes there are, with range, number of bars and defects.",
        ),
    ]
