"""What a caller may ask for: one model for each tool and route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from ktrdr_mcp import limits, paths
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas.config import Strict, TrainingConfig
from ktrdr_mcp.schemas.parsing import REFUSED


def form(**schema: Any) -> WithJsonSchema:
    """What programs read of the form of a name; the check itself says more."""
    return WithJsonSchema({"type": "string", **schema})


def check_with(check: Callable[[str], str]) -> AfterValidator:
    """Checks the form of a name with a function of `paths`, whose errors say what it must be."""

    def validate(text: str) -> str:
        try:
            return check(text)
        except KtrdrError as error:
            raise PydanticCustomError(REFUSED, "refused", {"refusal": error}) from None

    return AfterValidator(validate)


ANY_CASE_SYMBOL_PATTERN: Final = paths.SYMBOL_PATTERN.replace("[A-Z", "[A-Za-z")
MAX_TEXT_CHARACTERS: Final = 200
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)]
Note = Annotated[str, StringConstraints(max_length=limits.MAX_NOTE_CHARACTERS, min_length=1)]
TaskId = Annotated[str, check_with(paths.task_id), form(pattern=paths.TASK_ID_PATTERN)]
Handle = Annotated[str, check_with(paths.handle), form(pattern=paths.HANDLE_PATTERN)]
ModelName = Annotated[str, check_with(paths.model_name), form(pattern=paths.NAME_PATTERN)]
StrategyName = Annotated[str, check_with(paths.strategy_name), form(pattern=paths.NAME_PATTERN)]
Symbol = Annotated[str, check_with(paths.symbol), form(pattern=ANY_CASE_SYMBOL_PATTERN)]
Timeframe = Annotated[str, check_with(paths.timeframe), form(enum=list(paths.TIMEFRAME_MINUTES))]
Rows = Annotated[int, Field(ge=1, le=limits.MAX_PAGE_ROWS)]
Version = Annotated[
    int, Field(ge=1, le=1_000_000), WithJsonSchema({"type": "integer", "minimum": 1})
]
PageBytes = Annotated[
    int | None, Field(ge=1, description="of the reply at most; what is beyond is not read")
]
OFFSET_SCHEMA: Final = {"type": "integer", "minimum": 0}  # the list of tools is short of bytes
Offset = Annotated[int, Field(ge=0, le=1_000_000), WithJsonSchema(OFFSET_SCHEMA)]
BUILT_IN_STRATEGIES: Final = ("default", "mean_reversion", "trend_following", "volatility_breakout")
Status = Literal["pending", "training", "completed", "failed", "cancelled"]


class Empty(Strict):
    """A request without arguments."""


class StartTraining(Strict):
    """Train a network on one series of bars."""

    symbol: Symbol
    timeframe: Timeframe
    config: TrainingConfig = Field(
        TrainingConfig(),
        description="only what you want to change; left out: the strategy's value, else the"
        " default; null: off",
    )
    start_date: Text | None = Field(None, description="first day, YYYY-MM-DD, UTC")
    end_date: Text | None = Field(None, description="last day, inclusive")
    strategy: StrategyName | None = Field(
        None, description=f"{', '.join(BUILT_IN_STRATEGIES)} or your own; default if left out"
    )
    task_id: TaskId | None = Field(None, description="your own id; repeating it is safe")
    idempotency_key: Text | None = Field(
        None, min_length=1, description="repeat it to retry safely: same key, same task"
    )
    note: Note | None = Field(None, description="why; the log keeps it")
    wait_s: float = Field(
        0, ge=0, le=limits.MAX_WAIT_S, description="seconds for the end and result"
    )


class GetTrainingStatus(Strict):
    """Read one task's state, or wait for its end."""

    task_id: TaskId
    wait_s: float = Field(0, ge=0, le=limits.MAX_WAIT_S)


class TaskOnly(Strict):
    """A request about one task."""

    task_id: TaskId


class ReadTaskHandle(Strict):
    """A request about the task that a handle was given out for."""

    handle: Handle
    outcome: bool = Field(
        False, description="also what the task came to, once it has ended; a reading of its results"
    )


class ReadCandidate(Strict):
    """A request for one candidate's own test figures; all candidates count as trials from then."""

    task_id: TaskId
    candidate: int = Field(ge=1, description="its number in the search")


class ShowTraining(Strict):
    """A request to show a task to a person."""

    task_id: TaskId
    draw: bool = False  # as the view asks; the reply is then too large for a conversation


class SaveModel(Strict):
    """Publish a completed task's model under a name."""

    task_id: TaskId
    model_name: ModelName = Field(description="lower case letters, digits, _ and -")
    description: str = Field(
        "", max_length=limits.MAX_DESCRIPTION_CHARACTERS, description="what the model is for"
    )


class LoadModel(Strict):
    """Read, verify and keep a saved model in memory."""

    model_name: ModelName


class Predict(Strict):
    """Predict one bar with a saved model."""

    model_name: ModelName
    symbol: Symbol | None = Field(None, description="else the model's own")
    timeframe: Timeframe | None = Field(None, description="no other than the model's own")
    test_date: Text | None = Field(
        None, description="YYYY-MM-DD: the last bar of that day, else the newest"
    )


class ListModels(Strict):
    """Page through the registry, newest first."""

    symbol: Symbol | None = None
    limit: Rows = limits.MCP_PAGE_ROWS
    offset: Offset = 0
    page_bytes: PageBytes = None


class ListTasks(Strict):
    """Page through the tasks, newest first."""

    status: Status | None = None
    symbol: Symbol | None = None
    limit: Rows = limits.MCP_PAGE_ROWS
    offset: Offset = 0


class ReadResearch(Strict):
    """Read what was tried."""

    symbol: Symbol | None = None
    timeframe: Timeframe | None = None
    limit: Rows = limits.MCP_PAGE_ROWS
    offset: Offset = 0
    page_bytes: PageBytes = None


class AddNote(Strict):
    """Keep a note with a task or a series."""

    note: Note
    task_id: TaskId | None = None
    symbol: Symbol | None = None
    timeframe: Timeframe | None = None


class SummarizeData(Strict):
    """See which bars there are."""

    symbol: Symbol | None = None
    timeframe: Timeframe | None = None
    limit: Rows = limits.MCP_PAGE_ROWS
    offset: Offset = 0


class ReadBars(Strict):
    """Read the bars of a series."""

    symbol: Symbol
    timeframe: Timeframe
    start_date: Text | None = None
    end_date: Text | None = None


class ImportBars(Strict):
    """Recognise and store files of bars that other tools wrote."""

    files: list[Annotated[str, StringConstraints(min_length=1, max_length=4_096)]] = Field(
        min_length=1,
        max_length=limits.MAX_IMPORTED_FILES,
        description="on this machine: whole paths, or relative to the workspace",
    )
    symbol: Symbol | None = Field(None, description="what was traded, if no file says it")
    timeframe: Timeframe | None = Field(None, description="else by the distance of the bars")
    timezone: Text | None = Field(
        None, description="of times that name none: Europe/Athens, +02:00, NY+7"
    )
    dialect: Text | None = Field(None, description="else it is recognised")
    dry_run: bool = Field(False, description="only say what is understood")


class FetchData(Strict):
    """Fetch bars from a source, as a task."""

    source: str = Field(description="ccxt:EXCHANGE, alpaca, yfinance")
    symbol: Symbol
    timeframe: Annotated[str, check_with(paths.timeframe)]  # which ones, other tools say
    since: str = ""  # a day or a year

    @field_validator("source", "since")
    @classmethod
    def _is_short(cls, text: str) -> str:
        """Bounds what is stored and quoted; the list of tools has no bytes for it."""
        if len(text) > MAX_TEXT_CHARACTERS:
            raise PydanticCustomError("too_long", "has too many characters")
        return text


class StoredSeries(Strict):
    """One series that was imported or fetched."""

    symbol: Symbol
    timeframe: Timeframe


class BacktestModel(Strict):
    """Trade a saved model's signals over any range, after costs."""

    model_name: ModelName
    symbol: Symbol | None = Field(None, description="else the model's own")
    start_date: Text | None = Field(None, description="first day, YYYY-MM-DD, UTC")
    end_date: Text | None = Field(None, description="last day, inclusive")
    cost_bps: float | None = Field(None, ge=0, le=1_000, description="per unit of position change")
    long_only: bool | None = Field(None, description="sell means no position; else the strategy's")


class ReadEquityCurve(BacktestModel):
    """Read the equity curve and the trades of such a backtest."""

    points: int = Field(500, ge=2, le=limits.MAX_CURVE_POINTS, description="of each part at most")


class ExplainModel(Strict):
    """See what a trained network learned."""

    model_name: ModelName | None = None
    task_id: TaskId | None = Field(None, description="or this")


class CompareTrainings(Strict):
    """Set completed tasks side by side."""

    task_ids: list[TaskId] = Field(min_length=2, max_length=limits.MAX_COMPARED_TASKS)


class ExchangeCode(Strict):
    """Exchange a code that works once for a browser's token."""

    code: Text


class ReproduceTraining(Strict):
    """Train a completed task again from what is stored, and compare."""

    task_id: TaskId
    wait_s: float = Field(
        limits.MAX_WAIT_S, ge=0, le=limits.MAX_WAIT_S, description="seconds to wait for the end"
    )


class ListIndicators(Strict):
    """See what a strategy can be made of."""

    group: Text | None = Field(None, description="as calendar")
    name: Text | None = Field(None, description="or a part")
    limit: Rows = limits.MCP_PAGE_ROWS
    offset: Offset = 0


class ListStrategies(Strict):
    """See the strategies, or read one."""

    name: StrategyName | None = Field(None, description="for its text")
    version: Version | None = None
    task_id: TaskId | None = Field(None, description="as this task used it")
    limit: Rows = limits.MCP_PAGE_ROWS
    offset: Offset = 0


class SaveStrategy(Strict):
    """Write a strategy, or see what it would be."""

    name: ModelName
    strategy: Annotated[
        dict[str, Any] | str,
        WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "string"}]}),
    ] = Field(description="object or YAML")
    dry_run: bool = Field(False, description="write nothing")
    symbol: Symbol | None = Field(None, description="look at it there")
    timeframe: Timeframe | None = None


class ReadResourceStates(Strict):
    """See whether what can be read has changed, or wait until it does."""

    addresses: list[Text] = Field([], max_length=1_000, description="of resources")
    mark: Text | None = Field(None, description="of an earlier reply: answer once it has changed")
    wait_s: float = Field(0, ge=0, le=limits.MAX_WAIT_S, description="seconds to wait at most")


class ReadStrategy(Strict):
    """Read a strategy file."""

    name: StrategyName
    version: Version | None = None


class CompleteName(Strict):
    """Find the known names that begin with a text."""

    kind: Literal["task_id", "model_name", "symbol", "timeframe", "strategy"]
    prefix: Text = ""
