"""The MCP face: every tool's name, description and annotations. No logic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from mcp.server.mcpserver import Context
from mcp.types import ToolAnnotations
from pydantic import BaseModel

from ktrdr_mcp import __version__
from ktrdr_mcp.contract import Lab, requests, responses
from ktrdr_mcp.faces import pages
from ktrdr_mcp.faces.mcp_server import LabServer
from ktrdr_mcp.faces.mcp_tool import Call, LabTool, lab_tool
from ktrdr_mcp.faces.progress import ProgressNotifier
from ktrdr_mcp.faces.prompts import add_completion, add_prompt
from ktrdr_mcp.faces.resources import add_resources

Request = TypeVar("Request", bound=BaseModel)
Answer = TypeVar("Answer", bound=responses.Reply)

INSTRUCTIONS: Final = (
    "To train a network on market data, look at get_market_data_summary, call start_training, "
    "which answers at once with a task_id, and then get_training_status with wait_s=50 until "
    "status is completed, failed or cancelled; never send start_training again meanwhile. "
    "Believe a model only as far as the verdict of get_model_performance goes, which counts every "
    "training on the same bars; then use save_trained_model and test_model_prediction. "
    "Every error says what was wrong and, in its hint, what to do next."
)


def annotated(*, destructive: bool = False, idempotent: bool) -> ToolAnnotations:
    """What a tool changes; none reaches beyond this laboratory."""
    return ToolAnnotations(
        read_only_hint=False,
        destructive_hint=destructive,
        idempotent_hint=idempotent,
        open_world_hint=False,
    )


# The protocol gives the other hints a meaning only for tools that change something.
READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def build_server(lab: Lab) -> LabServer:
    """The laboratory as an MCP server, for any transport.

    Call `faces.logs.configure_logging` before, or the SDK sets up logging its own way.

    Args:
        lab: the laboratory behind every tool.
    """
    server = LabServer(
        lab,
        name="ktrdr-mcp",
        version=__version__,
        instructions=INSTRUCTIONS,
        tools=[*training_tools(lab), *judging_tools(lab), *model_tools(lab), *listing_tools(lab)],
    )
    add_resources(server, lab)
    add_prompt(server)
    add_completion(server, lab)
    return server


def plain(method: Callable[[Request], Awaitable[Answer]]) -> Call:
    """A method of the laboratory that needs nothing of the connection."""

    async def call(request: Request, context: Context[Any, Any]) -> Answer:
        return await method(request)

    return call


def paged(method: Callable[[Request], Awaitable[pages.Page]]) -> Call:
    """A method of the laboratory whose page must fit a conversation."""

    async def call(request: Request, context: Context[Any, Any]) -> pages.Page:
        return pages.fitted(await method(request))

    return call


def training_tools(lab: Lab) -> list[LabTool]:
    """The tools that start, watch, judge and stop a training."""

    async def status(
        request: requests.GetTrainingStatus, context: Context[Any, Any]
    ) -> responses.TrainingStatus:
        return await lab.get_training_status(request, ProgressNotifier(context.report_progress))

    return [
        lab_tool(
            "start_training",
            plain(lab.start_training),
            requests.StartTraining,
            responses.TrainingStarted,
            "Start training a network. Answers at once with a task_id and the effective config; "
            "then call get_training_status with wait_s=50, and do not send it again meanwhile.",
            annotated(idempotent=False),
        ),
        lab_tool(
            "get_training_status",
            status,
            requests.GetTrainingStatus,
            responses.TrainingStatus,
            "State and progress of a task. Prefer wait_s=50 over polling: it returns as soon as "
            "the task has ended.",
            READS,
        ),
        lab_tool(
            "get_model_performance",
            plain(lab.get_model_performance),
            requests.TaskOnly,
            responses.ModelPerformance,
            "What a completed task is worth: the verdict first, then its figures on bars that it "
            "was not trained on, beside simple rules. The resource in details has the rest.",
            READS,
        ),
        lab_tool(
            "cancel_training",
            plain(lab.cancel_training),
            requests.TaskOnly,
            responses.TaskCancelled,
            "Stop a pending or running task for good; what it learned is lost. One that has ended "
            "stays as it is.",
            annotated(destructive=True, idempotent=True),
        ),
    ]


def judging_tools(lab: Lab) -> list[LabTool]:
    """The tools that set trainings and models beside one another, or beside themselves."""
    return [
        lab_tool(
            "compare_trainings",
            plain(lab.compare_trainings),
            requests.CompareTrainings,
            responses.Comparison,
            "Set completed tasks on one symbol side by side: settings that differ, ranking by "
            "validation only, and whether the difference is more than luck.",
            READS,
        ),
        lab_tool(
            "reproduce_training",
            plain(lab.reproduce_training),
            requests.ReproduceTraining,
            responses.Reproduction,
            "Train a completed task again from what is stored: match, or what differs. Call again "
            "while it trains.",
            annotated(idempotent=True),
        ),
        lab_tool(
            "backtest_model",
            plain(lab.backtest_model),
            requests.BacktestModel,
            responses.ModelBacktest,
            "Trade a saved model's signals after costs; only out_of_sample says anything.",
            READS,
        ),
    ]


def model_tools(lab: Lab) -> list[LabTool]:
    """The tools that publish and use a model."""
    return [
        lab_tool(
            "save_trained_model",
            plain(lab.save_trained_model),
            requests.SaveModel,
            responses.ModelSaved,
            "Publish a completed task's model under a name. Another task makes the next version; "
            "nothing is overwritten.",
            annotated(idempotent=True),
        ),
        lab_tool(
            "load_trained_model",
            plain(lab.load_trained_model),
            requests.LoadModel,
            responses.ModelLoaded,
            "Check a saved model's files and keep it in memory; test_model_prediction does so "
            "by itself.",
            READS,
        ),
        lab_tool(
            "test_model_prediction",
            plain(lab.test_model_prediction),
            requests.Predict,
            responses.ModelPrediction,
            "Predict one bar with a saved model: signal, probabilities, indicator values. "
            "in_sample: the model has seen that bar.",
            READS,
        ),
    ]


def listing_tools(lab: Lab) -> list[LabTool]:
    """The tools that show what there is."""
    return [
        lab_tool(
            "list_trained_models",
            paged(lab.list_trained_models),
            pages.ListModels,
            responses.ModelList,
            "Saved models, newest first. For more, add returned to offset.",
            READS,
        ),
        lab_tool(
            "list_training_tasks",
            paged(lab.list_training_tasks),
            pages.ListTasks,
            responses.TaskList,
            "Tasks, newest first. For more, add returned to offset.",
            READS,
        ),
        lab_tool(
            "get_market_data_summary",
            paged(lab.get_market_data_summary),
            pages.SummarizeData,
            responses.DataSummary,
            "Which bars there are: symbols, timeframes, ranges, defects. For more, add returned to "
            "offset.",
            READS,
        ),
    ]
