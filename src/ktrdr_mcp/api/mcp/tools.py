"""The MCP tools: names, descriptions, annotations, argument checks, pages, progress."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final, TypeVar

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    Resource,
    TextContent,
    ToolAnnotations,
)
from pydantic import AfterValidator, AnyUrl, BaseModel, Field

from ktrdr_mcp import __version__, limits
from ktrdr_mcp.api.internal_errors import internal_error
from ktrdr_mcp.api.mcp.prompts import add_completion, add_prompt
from ktrdr_mcp.api.mcp.resources import TEMPLATES, NameNotFound, add_resources, listed_resources
from ktrdr_mcp.api.schema import input_schema, output_schema
from ktrdr_mcp.errors import KtrdrError, LimitExceeded, NotFound, did_you_mean, shown
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.responses import Reply, TrainingStatus
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)

Call = Callable[[Any, Context[Any, Any]], Awaitable[Reply]]


class ContractTool(Tool):
    """One use case of the laboratory as an MCP tool."""

    request_model: type[BaseModel] = Field(exclude=True)

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,
    ) -> CallToolResult:
        """Checks the raw arguments, asks the laboratory and answers in the contract's shapes.

        The result is always converted, so `convert_result` changes nothing.
        """
        try:
            request = parse(self.request_model, arguments)
            return success_result(await self.fn(request, context))
        except KtrdrError as error:
            return error_result(error)
        except MCPError:
            raise
        except Exception:
            logger.exception("The tool %s failed unexpectedly", self.name)
            return error_result(internal_error(self.name))


def contract_tool(
    name: str,
    call: Call,
    request: type[BaseModel],
    reply: type[Reply],
    description: str,
    annotations: ToolAnnotations,
) -> ContractTool:
    """A tool that advertises flat schemas.

    Args:
        name: what clients call it.
        call: takes the parsed request and the SDK's context, and returns the reply.
        request: the model of its arguments.
        reply: the model of its result.
        description: when and how to use it.
        annotations: what it changes.
    """
    return ContractTool(
        fn=call,
        name=name,
        description=description,
        parameters=input_schema(request),
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=output_schema(reply)),
        is_async=True,
        annotations=annotations,
        request_model=request,
    )


def success_result(reply: Reply) -> CallToolResult:
    """A reply as structured content and as the same data in text: clients read one or the other."""
    text = reply.model_dump_json()
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=json.loads(text)
    )


def error_result(error: KtrdrError) -> CallToolResult:
    """An error that the model reads, with what to do next."""
    return CallToolResult(
        content=[TextContent(type="text", text=f"{error.message} {error.hint}")],
        structured_content=error.to_dict(),
        is_error=True,
    )


class ContractServer(MCPServer[Any]):
    """An MCP server whose every tool is a LabTool.

    Args:
        lab: knows which resources there are.
        settings: those of the SDK's server.
    """

    def __init__(self, lab: ServiceProtocol, **settings: Any) -> None:
        super().__init__(**settings)
        self._lab = lab

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool; an unknown one is an error of our shape."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError:  # a LabTool raises none, so there is no such tool
            names = [tool.name for tool in await self.list_tools()]
            unknown = NotFound(
                f"{shown(name)} is not a tool.{did_you_mean(name[:64], names)}",
                hint=f"Call one of {', '.join(names)}.",
            )
            return error_result(unknown)

    async def list_resources(self) -> list[Resource]:
        """The resources that are worth naming, as they are now: the SDK knows no changing ones."""
        return await listed_resources(self._lab)

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Reads a resource; an address of no known form is told which forms there are."""
        try:
            return await super().read_resource(uri, context)
        except NameNotFound:
            raise
        except ResourceNotFoundError:
            forms = ", ".join(TEMPLATES)
            raise ResourceNotFoundError(
                f"{shown(str(uri))} is not a resource. Resources are {forms}."
            ) from None

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[Any, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Renders a prompt; unknown prompts and arguments are the caller's mistake."""
        prompts = {prompt.name: prompt for prompt in await self.list_prompts()}
        if name not in prompts:
            known = ", ".join(prompts)
            raise MCPError(INVALID_PARAMS, f"{shown(name)} is not a prompt. Prompts are {known}.")
        accepted = [argument.name for argument in prompts[name].arguments or []]
        for given in arguments or {}:
            if given not in accepted:
                raise MCPError(
                    INVALID_PARAMS,
                    f"{shown(given)} is not an argument of {name}. It takes {', '.join(accepted)}.",
                )
        return await super().get_prompt(name, arguments, context)


NOTIFICATION_INTERVAL_S: Final = 1.0

Report = Callable[[float, float | None, str | None], Awaitable[None]]


class ProgressNotifier:
    """Passes a task's progress on, about once a second and never backwards.

    Args:
        report: sends one notification: progress, total, message.
        clock: seconds since any fixed moment.
    """

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self.report = report
        self.clock = clock
        self.last_epoch = -1
        self.last_time: float | None = None

    async def __call__(self, status: TrainingStatus) -> None:
        """Sends the status, unless it is no news or comes too soon."""
        now = self.clock()
        too_soon = self.last_time is not None and now - self.last_time < NOTIFICATION_INTERVAL_S
        if too_soon or status.current_epoch <= self.last_epoch:
            return
        self.last_epoch, self.last_time = status.current_epoch, now
        await self.report(status.current_epoch, status.total_epochs, progress_message(status))


def progress_message(status: TrainingStatus) -> str:
    """Where a task stands, in a few words."""
    if status.status != "training":
        ahead = status.queue_position
        return status.status if ahead is None else f"{status.status}, tasks ahead: {ahead}"
    metrics = status.current_metrics
    parts = [f"epoch {status.current_epoch}/{status.total_epochs}"]
    if metrics.val_loss is not None:
        parts.append(f"val loss {metrics.val_loss:.3g}")
    if metrics.val_accuracy is not None:
        parts.append(f"val accuracy {metrics.val_accuracy:.2f}")
    if status.alarm is not None:
        parts.append(status.alarm)
    return ", ".join(parts)


Page = TypeVar("Page", responses.ModelList, responses.TaskList, responses.DataSummary)

ROWS_FIELD: Final[dict[type[responses.Success], str]] = {
    responses.ModelList: "models",
    responses.TaskList: "tasks",
    responses.DataSummary: "series",
}


def at_most_one_page(rows: int) -> int:
    """The limit itself, if a page may have so many rows. Raises LimitExceeded."""
    if rows > limits.MCP_PAGE_ROWS:
        raise LimitExceeded(
            f"limit is {shown(rows)}, but over MCP it must be at most {limits.MCP_PAGE_ROWS}.",
            hint=f"Ask for {limits.MCP_PAGE_ROWS} and go on with offset while has_more is true.",
            field="limit",
        )
    return rows


PageRows = Annotated[
    int,
    Field(ge=1, json_schema_extra={"maximum": limits.MCP_PAGE_ROWS}),
    AfterValidator(at_most_one_page),
]


class ListModels(requests.ListModels):
    """A page of the registry."""

    limit: PageRows = limits.MCP_PAGE_ROWS


class ListTasks(requests.ListTasks):
    """A page of the tasks."""

    limit: PageRows = limits.MCP_PAGE_ROWS


class SummarizeData(requests.SummarizeData):
    """A page of the stored series."""

    limit: PageRows = limits.MCP_PAGE_ROWS


def fitted(page: Page) -> Page:
    """The page without the last rows that would take it beyond its size; one row always stays.

    Args:
        page: a page as the laboratory gave it.
    """
    field = ROWS_FIELD[type(page)]
    rows = getattr(page, field)
    while len(rows) > 1 and len(page.model_dump_json().encode()) > limits.PAGE_BYTES:
        rows = rows[:-1]
        page = page.model_copy(update={field: rows, "returned": len(rows), "has_more": True})
    return page


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


def build_server(lab: ServiceProtocol) -> ContractServer:
    """The laboratory as an MCP server, for any transport.

    Call `faces.logs.configure_logging` before, or the SDK sets up logging its own way.

    Args:
        lab: the laboratory behind every tool.
    """
    server = ContractServer(
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


def paged(method: Callable[[Request], Awaitable[Page]]) -> Call:
    """A method of the laboratory whose page must fit a conversation."""

    async def call(request: Request, context: Context[Any, Any]) -> Page:
        return fitted(await method(request))

    return call


def training_tools(lab: ServiceProtocol) -> list[ContractTool]:
    """The tools that start, watch, judge and stop a training."""

    async def status(
        request: requests.GetTrainingStatus, context: Context[Any, Any]
    ) -> responses.TrainingStatus:
        return await lab.get_training_status(request, ProgressNotifier(context.report_progress))

    return [
        contract_tool(
            "start_training",
            plain(lab.start_training),
            requests.StartTraining,
            responses.TrainingStarted,
            "Start training a network. Answers at once with a task_id and the effective config; "
            "then call get_training_status with wait_s=50, and do not send it again meanwhile.",
            annotated(idempotent=False),
        ),
        contract_tool(
            "get_training_status",
            status,
            requests.GetTrainingStatus,
            responses.TrainingStatus,
            "State and progress of a task. Prefer wait_s=50 over polling: it returns as soon as "
            "the task has ended.",
            READS,
        ),
        contract_tool(
            "get_model_performance",
            plain(lab.get_model_performance),
            requests.TaskOnly,
            responses.ModelPerformance,
            "What a completed task is worth: the verdict first, then its figures on bars that it "
            "was not trained on, beside simple rules. The resource in details has the rest.",
            READS,
        ),
        contract_tool(
            "cancel_training",
            plain(lab.cancel_training),
            requests.TaskOnly,
            responses.TaskCancelled,
            "Stop a pending or running task for good; what it learned is lost. One that has ended "
            "stays as it is.",
            annotated(destructive=True, idempotent=True),
        ),
    ]


def judging_tools(lab: ServiceProtocol) -> list[ContractTool]:
    """The tools that set trainings and models beside one another, or beside themselves."""
    return [
        contract_tool(
            "compare_trainings",
            plain(lab.compare_trainings),
            requests.CompareTrainings,
            responses.Comparison,
            "Set completed tasks on one symbol side by side: settings that differ, ranking by "
            "validation only, and whether the difference is more than luck.",
            READS,
        ),
        contract_tool(
            "reproduce_training",
            plain(lab.reproduce_training),
            requests.ReproduceTraining,
            responses.Reproduction,
            "Train a completed task again from what is stored: match, or what differs. Call again "
            "while it trains.",
            annotated(idempotent=True),
        ),
        contract_tool(
            "backtest_model",
            plain(lab.backtest_model),
            requests.BacktestModel,
            responses.ModelBacktest,
            "Trade a saved model's signals after costs; only out_of_sample says anything.",
            READS,
        ),
    ]


def model_tools(lab: ServiceProtocol) -> list[ContractTool]:
    """The tools that publish and use a model."""
    return [
        contract_tool(
            "save_trained_model",
            plain(lab.save_trained_model),
            requests.SaveModel,
            responses.ModelSaved,
            "Publish a completed task's model under a name. Another task makes the next version; "
            "nothing is overwritten.",
            annotated(idempotent=True),
        ),
        contract_tool(
            "load_trained_model",
            plain(lab.load_trained_model),
            requests.LoadModel,
            responses.ModelLoaded,
            "Check a saved model's files and keep it in memory; test_model_prediction does so "
            "by itself.",
            READS,
        ),
        contract_tool(
            "test_model_prediction",
            plain(lab.test_model_prediction),
            requests.Predict,
            responses.ModelPrediction,
            "Predict one bar with a saved model: signal, probabilities, indicator values. "
            "in_sample: the model has seen that bar.",
            READS,
        ),
    ]


def listing_tools(lab: ServiceProtocol) -> list[ContractTool]:
    """The tools that show what there is."""
    return [
        contract_tool(
            "list_trained_models",
            paged(lab.list_trained_models),
            ListModels,
            responses.ModelList,
            "Saved models, newest first. For more, add returned to offset.",
            READS,
        ),
        contract_tool(
            "list_training_tasks",
            paged(lab.list_training_tasks),
            ListTasks,
            responses.TaskList,
            "Tasks, newest first. For more, add returned to offset.",
            READS,
        ),
        contract_tool(
            "get_market_data_summary",
            paged(lab.get_market_data_summary),
            SummarizeData,
            responses.DataSummary,
            "Which bars there are: symbols, timeframes, ranges, defects. For more, add returned to "
            "offset.",
            READS,
        ),
    ]
