"""The one table of operations; tools, routes, client, OpenAPI and commands are made from it.

A row and the service's method of the same name, with its request and reply in `schemas`, are all
that a new operation needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, create_model

from ktrdr_mcp import __version__, limits
from ktrdr_mcp.errors import LimitExceeded, ReadingOnly, quote
from ktrdr_mcp.schemas import CONTRACT_VERSION, requests, responses
from ktrdr_mcp.schemas.config import DEFAULT_LABELS, Strict, TrainingConfig
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.responses import ResourceStates
from ktrdr_mcp.schemas.service import MAY_CHANGE, OnProgress, ServiceProtocol

Request = TypeVar("Request", bound=Strict)
Answer = TypeVar("Answer", bound=responses.Reply)
Example = Mapping[str, Any]

TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})  # statuses of tasks that ended
JSON: Final = "application/json"
YAML: Final = "application/yaml"
VIEW_TYPE: Final = "text/html;profile=mcp-app"
TRAINING_VIEW_URI: Final = "ui://ktrdr/training.html"
SHOWN_DIGITS: Final = 4  # of probabilities and memberships in a conversation

CHANGE_TIMEOUT_S: Final = 5.0  # so long a service waits for a change before it answers


@dataclass(frozen=True, kw_only=True)
class Tool:
    """How an operation is offered as an MCP tool.

    Attributes:
        title: for people.
        description: when and how to use it.
        view: address of the resource that hosts with MCP Apps show its results in.
        changes: whether it changes anything but what is in memory.
        destructive: whether it takes something away.
        idempotent: whether calling it again changes nothing more.
        open_world: whether it speaks to others than this program.
    """

    title: str
    description: str
    view: str | None = None
    changes: bool = False
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False


@dataclass(frozen=True, kw_only=True)
class Resource:
    """How an operation is offered as an MCP resource.

    Attributes:
        template: the address, with the request's fields in braces.
        content: the reply's field that is the resource.
        arguments: makes the request's fields of the texts in an address.
    """

    template: str
    name: str
    description: str
    content: str
    mime_type: str = JSON
    arguments: Callable[[Mapping[str, str]], dict[str, Any]] = dict


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[Request, Answer]):
    """One thing that the service does, and everything that its callers must know of it.

    Attributes:
        name: also of the service's method, and of the tool where there is one.
        path: of the route; fields of the request in braces.
        summary: one sentence for people.
        refusals: statuses of errors, beside those that every route has.
        command: the command line that does the same, without the program's name.
        brief: shortens a reply to what a conversation needs; HTTP has the whole.
        rows: the reply's field that is a page of a longer list.
        slow: whether it may take longer than looking something up, although it changes nothing.
        posts_to_read: whether it changes nothing although it is no tool and sent by POST.
        reports_progress: whether the method also takes a callback for statuses.
        page: the reply's field that browsers get alone.
        page_type: its media type.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    request: type[Request]
    reply: type[Answer]
    summary: str
    refusals: tuple[int, ...] = ()
    tool: Tool | None = None
    resource: Resource | None = None
    command: str | None = None
    brief: Callable[[Answer], Answer] | None = None
    rows: str | None = None
    slow: bool = False
    posts_to_read: bool = False
    reports_progress: bool = False
    page: str | None = None
    page_type: str = "text/html"
    request_example: Example | None = field(default=None, repr=False)
    reply_example: Example | None = field(default=None, repr=False)

    async def __call__(
        self, service: ServiceProtocol, request: Request, on_progress: OnProgress | None = None
    ) -> Answer:
        """The service's reply to a request. Raises KtrdrError; ReadingOnly to who may only read.

        Args:
            service: in this process or in another.
            request: what to do.
            on_progress: gets every new status, where the operation reports any.
        """
        if self.changes and not MAY_CHANGE.get():
            raise reading_only(self.name)
        method = getattr(service, self.name)
        more = {"on_progress": on_progress} if self.reports_progress else {}
        answer: Answer = await method(request, **more)
        return answer

    async def answer(
        self, service: ServiceProtocol, raw: object, on_progress: OnProgress | None = None
    ) -> Answer:
        """The reply to what a caller sent, decoded but unchecked. Raises KtrdrError."""
        return await self(service, parse(self.request, raw), on_progress)

    @property
    def changes(self) -> bool:
        """Whether it changes anything but what is in memory."""
        if self.tool is not None:
            return self.tool.changes
        return self.method == "POST" and not self.posts_to_read

    def in_path(self, name: str) -> bool:
        """Whether the route takes a field of the request from its path."""
        return f"{{{name}}}" in self.path


def reading_only(what: str) -> ReadingOnly:
    """The refusal of what would change something to who may only read.

    Args:
        what: was asked for.
    """
    return ReadingOnly(
        f"{what} would change something, and this token only reads.",
        hint="Use the server's first token, or ask whoever has it.",
    )


# What the specification's examples have in common.
TASK_ID: Final = "training_20250610_123456"
MODEL_NAME: Final = "aapl_momentum_v1"
SAVED_AT: Final = "2025-06-10T13:46:07Z"
MODEL_DESCRIPTION: Final = "AAPL momentum strategy trained on 2024 data"
SERIES: Final = {"symbol": "AAPL", "timeframe": "1h"}
FIRST_TRAINING: Final[dict[str, Any]] = {
    **SERIES,
    "config": {
        "model_type": "mlp",
        "hidden_layers": [64, 32, 16],
        "epochs": 100,
        "learning_rate": 0.001,
        "batch_size": 32,
        "validation_split": 0.2,
        "early_stopping": {"patience": 10, "monitor": "val_accuracy"},
        "optimizer": "adam",
        "dropout_rate": 0.2,
    },
    "start_date": "2024-01-01",
    "end_date": "2024-12-31",
}
DATA_USED: Final = {
    "first_bar": "2024-08-06T13:30:00Z",
    "last_bar": "2024-12-31T20:30:00Z",
    "bars": 713,
    "usable_rows": 656,
    "train_rows": 418,
    "validation_rows": 123,
    "test_rows": 99,
    "purged_rows": 16,
    "class_shares": {"buy": 0.35, "hold": 0.35, "sell": 0.3},
    "source": "built-in sample",
}

LEFT_OUT: Final = "-"  # in the address of an equity curve
SIDES: Final = {"long": True, "both": False}


def curve_arguments(address: Mapping[str, str]) -> dict[str, Any]:
    """The request for an equity curve that an address says."""
    given: dict[str, Any] = {name: text for name, text in address.items() if text != LEFT_OUT}
    if "sides" in given:
        sides = given.pop("sides")
        given["long_only"] = SIDES.get(sides, sides)
    return given


def drop_warnings(reply: responses.StrategyList) -> responses.StrategyList:
    """The list without the warnings, which are said of one that is asked for, and by a start."""
    if len(reply.strategies) == 1:
        return reply
    bare = [each.model_copy(update={"warnings": []}) for each in reply.strategies]
    return reply.model_copy(update={"strategies": bare})


def drop_seen(reply: responses.ModelBacktest) -> responses.ModelBacktest:
    """The backtest without the figures of bars that the model has seen, which are no evidence."""
    return reply.model_copy(update={"choosing": None, "in_sample": None})


def drop_defaults(reply: responses.TrainingStarted) -> responses.TrainingStarted:
    """The acknowledgement with those settings alone that are not the defaults."""
    defaults = {**TrainingConfig().model_dump(mode="json"), "labels": DEFAULT_LABELS}
    changed = {
        name: value
        for name, value in reply.config.items()
        if name not in defaults or value != defaults[name]
    }
    # Beside a performance, what was prepared is old news.
    data = None if reply.performance else reply.data
    return reply.model_copy(update={"config": changed, "data": data})


def round_prediction(reply: responses.ModelPrediction) -> responses.ModelPrediction:
    """The prediction with as many digits as anybody decides by."""
    one = reply.prediction
    figures = {
        "confidence": round(one.confidence, SHOWN_DIGITS),
        "signal_strength": round(one.signal_strength, SHOWN_DIGITS),
        "probabilities": round_figure(one.probabilities),
        "fuzzy_outputs": round_figure(one.fuzzy_outputs),
    }
    return reply.model_copy(update={"prediction": one.model_copy(update=figures)})


def short_explanation(reply: responses.Explanation) -> responses.Explanation:
    """The explanation with as many groups as its bytes hold; the resource has all."""
    while len(reply.groups) > 1 and len(reply.model_dump_json()) > limits.EXPLANATION_BYTES:
        fewer, left_out = reply.groups[:-1], reply.left_out + 1
        reply = reply.model_copy(update={"groups": fewer, "left_out": left_out})
    return reply


def short_look(reply: responses.StrategySaved) -> responses.StrategySaved:
    """The reply with as many inputs as a page holds; HTTP has all."""
    look = reply.on_series
    while look and len(look.inputs) > 1 and len(reply.model_dump_json()) > limits.PAGE_BYTES:
        fewer, left_out = look.inputs[:-1], look.left_out + 1
        look = look.model_copy(update={"inputs": fewer, "left_out": left_out})
        reply = reply.model_copy(update={"on_series": look})
    return reply


def round_figure(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures between 0 and 1 with as many digits as anybody decides by."""
    return {name: round(value, SHOWN_DIGITS) for name, value in figures.items()}


START_TRAINING: Final = Operation(
    name="start_training",
    method="POST",
    path="/training/start",
    request=requests.StartTraining,
    reply=responses.TrainingStarted,
    summary="Start training a network on one series of bars; answers at once with a task_id.",
    refusals=(404, 409, 429, 503),
    tool=Tool(
        title="Start training",
        description=(
            "Train a neural network that predicts buy, hold or sell. Answers at once with a "
            "task_id and the settings that are not the defaults, or with wait_s the end and its "
            "performance; else call get_training_status with wait_s=50, and do not start it again "
            "meanwhile. Each start is a trial on its bars: change one thing at a time. Settings go "
            "inside config."
        ),
        changes=True,
        idempotent=False,
    ),
    command="train",
    brief=drop_defaults,
    request_example={**FIRST_TRAINING, "task_id": "optional-task-id"},
    reply_example={
        "success": True,
        "task_id": TASK_ID,
        "status": "training_started",
        "message": "Neural network training started",
        **SERIES,
        "config": TrainingConfig().model_dump(mode="json"),
        "estimated_duration_minutes": 30,
        "strategy": "default",
        "data": DATA_USED,
        "warnings": [],
        "similar_to": [],
    },
)
GET_TRAINING_STATUS: Final = Operation(
    name="get_training_status",
    method="GET",
    path="/training/{task_id}",
    request=requests.GetTrainingStatus,
    reply=responses.TrainingStatus,
    summary="State and progress of a task; wait_s waits for its end.",
    refusals=(404,),
    tool=Tool(
        title="Training status",
        description=(
            "State and progress of a task. Prefer wait_s=50 over polling: it returns as soon as "
            "the task has ended."
        ),
    ),
    command="status",
    reports_progress=True,
    reply_example={
        "success": True,
        "task_id": TASK_ID,
        "status": "training",
        "progress": 65,
        "current_epoch": 65,
        "total_epochs": 100,
        **SERIES,
        "started_at": "2025-06-10T12:34:56Z",
        "estimated_completion": "2025-06-10T13:04:56Z",
        "current_metrics": {
            "train_loss": 0.045,
            "val_loss": 0.052,
            "train_accuracy": 0.89,
            "val_accuracy": 0.87,
        },
        "error": None,
        "error_code": None,
        "queue_position": None,
        "alarm": None,
        "attempt": 1,
        "resumed_from": None,
    },
)
GET_MODEL_PERFORMANCE: Final = Operation(
    name="get_model_performance",
    method="GET",
    path="/training/{task_id}/performance",
    request=requests.TaskOnly,
    reply=responses.ModelPerformance,
    summary="What a completed task measured on bars that it was not trained on.",
    refusals=(404, 409),
    tool=Tool(
        title="Model performance",
        description=(
            "What a completed task is worth: the verdict first, then its figures on bars that it "
            "was not trained on, beside simple rules. Each call counts as a reading of the test "
            "set. The resource in details has the rest."
        ),
    ),
    command="performance",
    reply_example={
        "success": True,
        "task_id": TASK_ID,
        "status": "completed",
        "training_metrics": {
            "final_train_loss": 0.032,
            "final_val_loss": 0.038,
            "final_train_accuracy": 0.92,
            "final_val_accuracy": 0.89,
            "epochs_completed": 87,
            "early_stopped": True,
            "training_time_minutes": 25.5,
            "best_epoch": 77,
        },
        "test_metrics": {
            "test_loss": 0.041,
            "test_accuracy": 0.88,
            "precision": 0.87,
            "recall": 0.89,
            "f1_score": 0.88,
        },
        "model_info": {
            "model_size_mb": 12.5,
            "parameters_count": 125430,
            "architecture": "mlp_64_32_16",
        },
        "verdict": {
            "prediction": "inconclusive",
            "trading": "inconclusive",
            "reason": "Too few independent test bars to tell skill from luck.",
            "needs": "About four times as many test bars.",
            "as_of_trial": 1,
            "luck": "This is the first training on these test bars.",
        },
        "baselines": {
            "majority": {"accuracy": 0.36, "macro_f1": 0.18},
            "prior": {"accuracy": 0.33, "macro_f1": 0.33},
            "persistence": {"accuracy": 0.4, "macro_f1": 0.38},
            "logistic": {"accuracy": 0.41, "macro_f1": 0.39},
        },
        "beats_linear": True,
        "edge": {"accuracy": 0.53, "low": 0.49, "high": 0.57, "base_rate": 0.5},
        "trading": {
            "net_total_return": 0.021,
            "sharpe": 0.6,
            "sharpe_error": 0.9,
            "max_drawdown": -0.08,
            "trades": 41,
            "break_even_cost_bps": 4.5,
            "buy_and_hold_return": 0.034,
        },
        "collapsed": False,
        "leak_suspected": None,
        "seeds": None,
        "test_readings": 1,
        "next": "Train on a longer range.",
        "details": f"training://{TASK_ID}",
        "report": f"/training/{TASK_ID}/report",
    },
)
CANCEL_TRAINING: Final = Operation(
    name="cancel_training",
    method="POST",
    path="/training/{task_id}/cancel",
    request=requests.TaskOnly,
    reply=responses.TaskCancelled,
    summary="Stop a pending or running task for good; one that has ended stays as it is.",
    refusals=(404,),
    tool=Tool(
        title="Cancel training",
        description=(
            "Stop a pending or running task for good; what it learned is lost. One that has ended "
            "stays as it is."
        ),
        changes=True,
        destructive=True,
    ),
    command="cancel",
    reply_example={
        "success": True,
        "task_id": TASK_ID,
        "status": "cancelled",
        "message": "The task is cancelled.",
    },
)
COMPARE_TRAININGS: Final = Operation(
    name="compare_trainings",
    method="POST",
    path="/training/compare",
    request=requests.CompareTrainings,
    reply=responses.Comparison,
    summary="Set completed tasks side by side, ranked by validation only.",
    refusals=(404, 409),
    tool=Tool(
        title="Compare trainings",
        description=(
            "Set completed tasks on one symbol side by side: settings that differ, ranking by "
            "validation only, and whether the difference is more than luck."
        ),
    ),
    command="compare",
    request_example={"task_ids": [TASK_ID, "training_20250611_091500"]},
)
REPRODUCE_TRAINING: Final = Operation(
    name="reproduce_training",
    method="POST",
    path="/training/{task_id}/reproduce",
    request=requests.ReproduceTraining,
    reply=responses.Reproduction,
    summary="Train a completed task again from what is stored: match, or what differs.",
    refusals=(404, 409, 410, 429, 503),
    tool=Tool(
        title="Reproduce training",
        description=(
            "Train a completed task again from what is stored: match, or what differs. Call again "
            "while it trains."
        ),
        changes=True,
    ),
    command="reproduce",
)
BACKTEST_MODEL: Final = Operation(
    name="backtest_model",
    method="POST",
    path="/models/{model_name}/backtest",
    request=requests.BacktestModel,
    reply=responses.ModelBacktest,
    summary="Trade a saved model's signals over any range, after costs.",
    refusals=(404,),
    tool=Tool(
        title="Backtest a model",
        description=(
            "Trade a saved model's signals after costs. out_of_sample are fresh bars, the only "
            "evidence; each range tried counts."
        ),
    ),
    command="backtest",
    brief=drop_seen,
)
SAVE_TRAINED_MODEL: Final = Operation(
    name="save_trained_model",
    method="POST",
    path="/models/save",
    request=requests.SaveModel,
    reply=responses.ModelSaved,
    summary="Publish a completed task's model under a name; repeating it is safe.",
    refusals=(404, 409, 410, 507),
    tool=Tool(
        title="Save a model",
        description=(
            "Publish a completed task's model under a name. Another task makes the next version; "
            "nothing is overwritten."
        ),
        changes=True,
    ),
    command="models save",
    request_example={
        "task_id": TASK_ID,
        "model_name": MODEL_NAME,
        "description": MODEL_DESCRIPTION,
    },
    reply_example={
        "success": True,
        "model_id": "model_20250610_134567",
        "model_name": MODEL_NAME,
        "model_path": f"models/{MODEL_NAME}/AAPL_1h_v1",
        "task_id": TASK_ID,
        "saved_at": SAVED_AT,
        "model_size_mb": 12.5,
        "version": 1,
        "created": True,
        "ktrdr_backtest_compatible": True,
        "ktrdr_incompatibilities": [],
        "warnings": [],
    },
)
LOAD_TRAINED_MODEL: Final = Operation(
    name="load_trained_model",
    method="POST",
    path="/models/{model_name}/load",
    request=requests.LoadModel,
    reply=responses.ModelLoaded,
    summary="Check the newest version of a saved model and keep it in memory.",
    refusals=(404,),
    tool=Tool(
        title="Load a model",
        description=(
            "Check a saved model's files and keep it in memory. Not needed before "
            "test_model_prediction or backtest_model, which do so themselves."
        ),
    ),
    command="models load",
    reply_example={
        "success": True,
        "model_name": MODEL_NAME,
        "model_loaded": True,
        "model_info": {
            "created_at": SAVED_AT,
            **SERIES,
            "architecture": "mlp_64_32_16",
            "training_accuracy": 0.89,
            "test_accuracy": 0.88,
            "strategy": "default",
            "version": 1,
            "trained_on": ["2024-08-06T13:30:00Z", "2024-12-31T20:30:00Z"],
        },
    },
)
TEST_MODEL_PREDICTION: Final = Operation(
    name="test_model_prediction",
    method="POST",
    path="/models/predict",
    request=requests.Predict,
    reply=responses.ModelPrediction,
    summary="Predict one bar with a saved model, loading it if needed.",
    refusals=(404,),
    tool=Tool(
        title="Predict with a model",
        description=(
            "Predict with a saved model: signal, probabilities and indicator values of one bar. "
            "in_sample: the model has seen that bar."
        ),
    ),
    command="predict",
    brief=round_prediction,
    request_example={"model_name": MODEL_NAME, **SERIES, "test_date": "2025-06-09"},
    reply_example={
        "success": True,
        "model_name": MODEL_NAME,
        "symbol": "AAPL",
        "test_date": "2025-06-09",
        "prediction": {
            "signal": "buy",
            "most_probable": "buy",
            "confidence": 0.78,
            "signal_strength": 0.65,
            "fuzzy_outputs": {"bullish": 0.78, "bearish": 0.22, "neutral": 0.31},
            "probabilities": {"buy": 0.78, "hold": 0.09, "sell": 0.13},
        },
        "input_features": {"sma_20": 152.34, "rsi_14": 64.2, "macd_signal": 0.45},
        "as_of": "2025-06-09T19:30:00Z",
        "in_sample": False,
        "timeframe": "1h",
        "version": 1,
        "warnings": [],
        "novelty": None,
    },
)
LIST_TRAINED_MODELS: Final = Operation(
    name="list_trained_models",
    method="GET",
    path="/models",
    request=requests.ListModels,
    reply=responses.ModelList,
    summary="Saved models, newest first.",
    tool=Tool(
        title="Saved models",
        description="Saved models, newest first. For more, add returned to offset.",
    ),
    command="models",
    rows="models",
    reply_example={
        "success": True,
        "models": [
            {
                "model_id": "model_20250610_134567",
                "model_name": MODEL_NAME,
                **SERIES,
                "created_at": SAVED_AT,
                "training_accuracy": 0.89,
                "test_accuracy": 0.88,
                "description": MODEL_DESCRIPTION,
                "version": 1,
            }
        ],
        "returned": 1,
        "has_more": False,
    },
)
LIST_TRAINING_TASKS: Final = Operation(
    name="list_training_tasks",
    method="GET",
    path="/training",
    request=requests.ListTasks,
    reply=responses.TaskList,
    summary="Tasks, newest first.",
    tool=Tool(
        title="Training tasks",
        description="Tasks, newest first. For more, add returned to offset.",
    ),
    command="tasks",
    rows="tasks",
)
GET_MARKET_DATA_SUMMARY: Final = Operation(
    name="get_market_data_summary",
    method="GET",
    path="/data",
    request=requests.SummarizeData,
    reply=responses.DataSummary,
    summary="Which symbols and timeframes there are, with range, number of bars and defects.",
    tool=Tool(
        title="Market data",
        description=(
            "Which bars there are. With symbol and timeframe, what the series looks like before "
            "its test windows. For more, add returned to offset."
        ),
    ),
    command="data",
    rows="series",
    slow=True,
)
EXPLAIN_MODEL: Final = Operation(
    name="explain_model",
    method="GET",
    path="/explanation",
    request=requests.ExplainModel,
    reply=responses.Explanation,
    summary="What a trained network learned: importance of each indicator, response, rules.",
    refusals=(404, 409, 410),
    tool=Tool(
        title="Explain a model",
        description=(
            "Which indicators a network's foresight rests on, if any. Counts as a reading."
        ),
    ),
    resource=Resource(
        template="explanation://{task_id}",
        name="explanation",
        description="Every indicator's importance in a completed task.",
        content="groups",
    ),
    command="explain",
    brief=short_explanation,
    slow=True,
)
RESEARCH_LOG: Final = Operation(
    name="research_log",
    method="GET",
    path="/research",
    request=requests.ReadResearch,
    reply=responses.ResearchPage,
    summary="What was tried on a series, newest first, with verdicts and notes.",
    tool=Tool(
        title="Research log",
        description=(
            "What was tried, newest first, with verdicts and notes. Read it before you begin."
        ),
    ),
    command="research",
    rows="trials",
)
ADD_RESEARCH_NOTE: Final = Operation(
    name="add_research_note",
    method="POST",
    path="/research",
    request=requests.AddNote,
    reply=responses.NoteKept,
    summary="Keep a note with a task or a series, for whoever goes on.",
    refusals=(404, 507),
    tool=Tool(
        title="Note",
        description="Keep a note with a task or a series, for whoever goes on.",
        changes=True,
        idempotent=False,
    ),
    request_example={"note": "The hour carries nothing here; try gaps.", **SERIES},
)
IMPORT_BARS: Final = Operation(
    name="import_bars",
    method="POST",
    path="/data/import",
    request=requests.ImportBars,
    reply=responses.BarsImported,
    summary="Recognise files of bars that other tools wrote, and store them normalised in data/.",
    refusals=(404, 409, 507),
    command="data import",
    request_example={"files": ["downloads/BTCUSDT-1h-2024-01.zip"], "dry_run": True},
)
FETCH_MARKET_DATA: Final = Operation(
    name="fetch_market_data",
    method="POST",
    path="/data/fetch",
    request=requests.FetchData,
    reply=responses.FetchReply,
    summary="Fetch bars from a source, as a task; the same call again says how far it is.",
    refusals=(404, 409),
    tool=Tool(
        title="Fetch bars",
        description="Fetch or update bars; then get_training_status.",
        changes=True,
        open_world=True,
    ),
    command="data fetch",
    request_example={"source": "ccxt:binance", "symbol": "BTC/USDT", "timeframe": "1h"},
)
LIST_STORED_DATA: Final = Operation(
    name="list_stored_data",
    method="GET",
    path="/data/stored",
    request=requests.Empty,
    reply=responses.StoredManifests,
    summary="Every imported or fetched series, where it comes from, and its versions.",
)
LIST_DATA_VERSIONS: Final = Operation(
    name="list_data_versions",
    method="GET",
    path="/data/versions",
    request=requests.StoredSeries,
    reply=responses.DatasetVersions,
    summary="Where an imported or fetched series comes from, and its versions, newest first.",
    refusals=(404,),
    command="data versions",
)
REMOVE_DATA: Final = Operation(
    name="remove_data",
    method="POST",
    path="/data/remove",
    request=requests.StoredSeries,
    reply=responses.SeriesRemoved,
    summary="Remove an imported or fetched series with all its versions.",
    refusals=(404,),
    command="data remove",
    request_example=SERIES,
)
HEALTH: Final = Operation(
    name="health",
    method="GET",
    path="/health",
    request=requests.Empty,
    reply=responses.Health,
    summary="Whether the service answers, and its versions.",
    reply_example={
        "success": True,
        "status": "ok",
        "version": __version__,
        "contract_version": CONTRACT_VERSION,
    },
)
READY: Final = Operation(
    name="ready",
    method="GET",
    path="/ready",
    request=requests.Empty,
    reply=responses.Ready,
    summary="Whether the store is open and work is taken; else 503 with the reason.",
    refusals=(503,),
    reply_example={"success": True, "status": "ready", "running": 1, "waiting": 0},
)
TRAINING_HISTORY: Final = Operation(
    name="training_history",
    method="GET",
    path="/training/{task_id}/history",
    request=requests.TaskOnly,
    reply=responses.TrainingHistory,
    summary="A task's whole story: specification, metrics, every epoch; up to 200 of them where it"
    " has no result.",
    refusals=(404,),
    resource=Resource(
        template="training://{task_id}",
        name="training",
        description="A task's full history: specification, metrics, every epoch; while it trains,"
        " and where it failed or was cancelled, up to 200 of them.",
        content="history",
    ),
)
SWEEP_CANDIDATES: Final = Operation(
    name="sweep_candidates",
    method="GET",
    path="/training/{task_id}/sweep",
    request=requests.TaskOnly,
    reply=responses.SweepCandidates,
    summary="Every candidate of a completed search: settings and validation scores.",
    refusals=(404, 409),
    resource=Resource(
        template="sweep://{task_id}",
        name="sweep",
        description="Every candidate of a search: settings, seed, what became of it, T on"
        " validation rows of each fold and of the newest. No test figures.",
        content="sweep",
    ),
)
CANDIDATE_TEST: Final = Operation(
    name="candidate_test",
    method="POST",
    path="/training/{task_id}/sweep/{candidate}",
    request=requests.ReadCandidate,
    reply=responses.CandidateFigures,
    summary="One candidate's own test figures; every candidate of its search then counts as a"
    " trial.",
    refusals=(404, 409, 507),
    resource=Resource(
        template="sweep://{task_id}/{candidate}",
        name="candidate",
        description="One candidate's own test figures. Reading it adds as many trials as the search"
        " had candidates.",
        content="document",
    ),
)
MODEL_CARD: Final = Operation(
    name="model_card",
    method="GET",
    path="/models/{model_name}",
    request=requests.LoadModel,
    reply=responses.ModelCard,
    summary="What a model's newest version is, was trained on and measured.",
    refusals=(404,),
    resource=Resource(
        template="model://{model_name}",
        name="model",
        description="The card of a saved model's newest version.",
        content="card",
    ),
)
GET_AVAILABLE_INDICATORS: Final = Operation(
    name="get_available_indicators",
    method="GET",
    path="/indicators",
    request=requests.ListIndicators,
    reply=responses.IndicatorList,
    summary="What a strategy can be made of: indicators with parameters, outputs and units.",
    refusals=(404,),
    tool=Tool(
        title="Indicators",
        description=(
            "What a strategy can be made of, by group or name. For more, add returned to offset."
        ),
    ),
    rows="indicators",
)
GET_AVAILABLE_STRATEGIES: Final = Operation(
    name="get_available_strategies",
    method="GET",
    path="/strategies",
    request=requests.ListStrategies,
    reply=responses.StrategyList,
    summary="The strategies, those of the workspace and the built-in ones, with their defects.",
    refusals=(404,),
    tool=Tool(
        title="Strategies",
        description="The strategies; with name or task_id, the text of one.",
    ),
    rows="strategies",
    brief=drop_warnings,
)
SAVE_STRATEGY: Final = Operation(
    name="save_strategy",
    method="POST",
    path="/strategies",
    request=requests.SaveStrategy,
    reply=responses.StrategySaved,
    summary="Check a strategy and write it; with a series, see its features there untrained.",
    refusals=(404, 409, 507),
    tool=Tool(
        title="Save a strategy",
        description=(
            "Check and save your own strategy: indicators [{name, type, params, timeframe, window}]"
            " and fuzzy_sets {output: auto | crisp | cyclic | {set: [a, b, c]}}. With symbol and "
            "timeframe: how it looks there, no trial. Versions are kept."
        ),
        changes=True,
    ),
    brief=short_look,
    request_example={
        "name": "hours",
        "strategy": {
            "indicators": [{"name": "hour"}, {"name": "rsi_7", "type": "rsi", "period": 7}],
            "fuzzy_sets": {"hour": "cyclic", "rsi_7": "auto"},
        },
        "dry_run": True,
        **SERIES,
    },
)
STRATEGY_TEXT: Final = Operation(
    name="strategy_text",
    method="GET",
    path="/strategies/{name}",
    request=requests.ReadStrategy,
    reply=responses.StrategyText,
    summary="A strategy file as it stands.",
    refusals=(404,),
    resource=Resource(
        template="strategy://{name}",
        name="strategy",
        description="A strategy file: indicators, fuzzy sets and training defaults.",
        content="text",
        mime_type=YAML,
    ),
)
COMPLETE: Final = Operation(
    name="complete",
    method="GET",
    path="/complete",
    request=requests.CompleteName,
    reply=responses.Names,
    summary="Known names that begin with a text.",
)
RESOURCE_STATES: Final = Operation(
    name="resource_states",
    method="POST",
    path="/resources/states",
    request=requests.ReadResourceStates,
    reply=responses.ResourceStates,
    summary="Whether what can be read has changed; wait_s waits until it does.",
    posts_to_read=True,
)
CREATE_TASK_HANDLE: Final = Operation(
    name="create_task_handle",
    method="POST",
    path="/training/{task_id}/handle",
    request=requests.TaskOnly,
    reply=responses.TaskHandle,
    summary="Give out a handle that nobody guesses, by which a task is followed without its id.",
    refusals=(404,),
)
READ_TASK_HANDLE: Final = Operation(
    name="read_task_handle",
    method="GET",
    path="/handles/{handle}",
    request=requests.ReadTaskHandle,
    reply=responses.FollowedTask,
    summary="Where the task of a handle stands; with outcome, what it came to.",
    refusals=(404,),
)
EQUITY_CURVE: Final = Operation(
    name="equity_curve",
    method="POST",
    path="/models/{model_name}/equity",
    request=requests.ReadEquityCurve,
    posts_to_read=True,
    reply=responses.EquityCurve,
    summary="The equity curve and the trades of such a backtest.",
    refusals=(404,),
    resource=Resource(
        template="equity://{model_name}/{start_date}/{end_date}/{symbol}/{cost_bps}/{sides}",
        name="equity",
        description="Equity and figures of each part of a backtest_model call, which names it.",
        content="document",
        arguments=curve_arguments,
    ),
)
TRAINING_REPORT: Final = Operation(
    name="training_report",
    method="GET",
    path="/training/{task_id}/report",
    request=requests.TaskOnly,
    reply=responses.Report,
    summary="What a task came to, drawn: one HTML file. Counts as a reading of its test results.",
    refusals=(404,),
    command="report",
    page="html",
)
MODEL_REPORT: Final = Operation(
    name="model_report",
    method="POST",
    path="/models/{model_name}/report",
    request=requests.BacktestModel,
    posts_to_read=True,
    reply=responses.Report,
    summary="What a saved model's signals would have earned, drawn: one HTML file.",
    refusals=(404,),
    command="report",
    page="html",
)
COMPARISON_REPORT: Final = Operation(
    name="comparison_report",
    method="POST",
    path="/training/compare/report",
    request=requests.CompareTrainings,
    reply=responses.Report,
    summary="Completed tasks side by side, drawn: one HTML file.",
    refusals=(404, 409),
    posts_to_read=True,
    command="report",
    page="html",
    request_example={"task_ids": [TASK_ID, "training_20250611_091500"]},
)
TRAINING_CURVE: Final = Operation(
    name="training_curve",
    method="GET",
    path="/training/{task_id}/curve",
    request=requests.TaskOnly,
    reply=responses.Drawing,
    summary="The loss of a task's training and validation rows so far, drawn as SVG.",
    refusals=(404,),
    page="svg",
    page_type="image/svg+xml",
)
SHOW_TRAINING: Final = Operation(
    name="show_training",
    method="GET",
    path="/training/{task_id}/show",
    request=requests.ShowTraining,
    reply=responses.ShownTraining,
    summary="Where a task stands, in short; with draw, as HTML too, which counts as a reading.",
    refusals=(404,),
    tool=Tool(
        title="Show training",
        description="Show a task to the user: live losses, then verdict and equity.",
        view=TRAINING_VIEW_URI,
    ),
    command="status",
)
TRAINING_VIEW: Final = Operation(
    name="training_view",
    method="GET",
    path="/view/training",
    request=requests.Empty,
    reply=responses.Report,
    summary="The view that hosts with MCP Apps show a training in; it holds no data.",
    resource=Resource(
        template=TRAINING_VIEW_URI,
        name="training_view",
        description="The view of show_training.",
        content="html",
        mime_type=VIEW_TYPE,
    ),
)
LIVE_PAGE: Final = Operation(
    name="live_page",
    method="GET",
    path="/",
    request=requests.Empty,
    reply=responses.Report,
    summary="The live page; it holds no data and asks for what it shows, with a token.",
    command="open",
    page="html",
)

# In the order of the rows above, which is that of the tools in their list.
OPERATIONS: Final[Mapping[str, Operation[Any, Any]]] = {
    each.name: each for each in tuple(globals().values()) if isinstance(each, Operation)
}


def bound_pages(
    operation: Operation[Any, Any], most_rows: int, most_bytes: int | None = None
) -> Operation[Any, Any]:
    """The operation with pages of so many rows at most, and by default; unchanged without pages.

    Args:
        operation: a row of the table.
        most_rows: of a page.
        most_bytes: of a page, where reading a row counts; the service then reads no more.
    """
    if operation.rows is None:
        return operation

    def fits(rows: int) -> int:
        if rows > most_rows:
            raise LimitExceeded(
                f"limit is {quote(rows)}, but a page has at most {most_rows:,} rows here.",
                hint=f"Ask for {most_rows:,} and go on with offset while has_more is true.",
                field="limit",
            )
        return rows

    bounds = Field(ge=1, json_schema_extra={"maximum": most_rows})
    limit: Any = (Annotated[int, bounds, AfterValidator(fits)], most_rows)
    base = operation.request
    more: dict[str, Any] = {}
    if "page_bytes" in base.model_fields:
        more["page_bytes"] = (int | None, most_bytes)
    request = create_model(base.__name__, __base__=base, __doc__=base.__doc__, limit=limit, **more)
    return replace(operation, request=request)


async def next_states(
    service: ServiceProtocol, addresses: Sequence[str], seen: ResourceStates | None
) -> ResourceStates:
    """What there is once it is no longer what was seen, or after a while.

    Args:
        service: in this process or in another.
        addresses: resources to look after, beside the lists of all.
        seen: the last answer; None, or one for other addresses, is answered at once.
    Raises:
        KtrdrError: the service cannot be asked.
    """
    same = seen is not None and seen.states.keys() == set(addresses)
    known = {"mark": seen.mark, "wait_s": CHANGE_TIMEOUT_S} if seen is not None and same else {}
    return await RESOURCE_STATES.answer(service, {"addresses": list(addresses), **known})
