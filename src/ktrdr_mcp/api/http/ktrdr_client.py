"""What KTRDR's later client calls: routes beside the documented contract, in that client's form.

KTRDR's releases of 2026 have another HTTP interface than the one that the contract follows. Their
client trains, watches and cancels through these routes; each asks the operations of the table.
docs/ktrdr.md says what each answers. `/indicators/` with its slash, as that client asks, has
both forms; without, it is the contract's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ktrdr_mcp import limits
from ktrdr_mcp.api.http.arguments import raw_arguments
from ktrdr_mcp.api.http.replies import NOT_STORED
from ktrdr_mcp.api.operations import (
    CANCEL_TRAINING,
    GET_AVAILABLE_INDICATORS,
    GET_MARKET_DATA_SUMMARY,
    GET_MODEL_PERFORMANCE,
    GET_TRAINING_STATUS,
    JSON,
    LIST_TRAINING_TASKS,
    START_TRAINING,
    TERMINAL,
    TRAINING_HISTORY,
    Operation,
    bound_pages,
)
from ktrdr_mcp.errors import InvalidRequest, TaskNotCompleted, quote
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.config import Strict
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

Json = dict[str, Any]
Answer = Callable[[ServiceProtocol, object], Awaitable[Json]]

TRAINING: Final = "training"  # the one kind of operation that there is here
KEPT_SLASH: Final = frozenset({"/indicators/"})  # paths whose slash says which form is meant
RUNNING: Final = {"training": "running"}  # of our words those that KTRDR has others for
OURS: Final = {theirs: ours for ours, theirs in RUNNING.items()}
UNKNOWN: Final = "unknown"  # what KTRDR says of a symbol and this program does not know
PARAMETER: Final = re.compile(
    r"(?P<default>\S+) \((?:(?P<low>\S+) to (?P<high>\S+)|(?P<words>.+))\)"
)
BYTES_IN_MB: Final = 1_000_000

# What the service answers for these routes alone.
READ_BARS: Final = Operation(
    name="read_bars",
    method="GET",
    path="/data/{symbol}/{timeframe}",
    request=requests.ReadBars,
    reply=responses.BarRows,
    summary="The stored bars of a series.",
)
TRAINING_EPOCHS: Final = Operation(
    name="training_epochs",
    method="GET",
    path="/operations/{operation_id}/metrics",
    request=requests.TaskOnly,
    reply=responses.TrainingEpochs,
    summary="Every epoch of a task so far, by training and validation rows.",
)
TASK_TIMES: Final = Operation(
    name="task_times",
    method="GET",
    path="/operations",
    request=requests.TaskOnly,
    reply=responses.TaskTimes,
    summary="When a training began and ended, and how many epochs it has.",
)

Symbols = Annotated[list[requests.Symbol], Field(min_length=1)]
Timeframes = Annotated[list[requests.Timeframe], Field(min_length=1)]
Word = Annotated[str, StringConstraints(max_length=200)]


class StartTrainings(Strict):
    """Train with a strategy on one series."""

    symbols: Symbols
    timeframes: Timeframes
    strategy_name: requests.StrategyName
    start_date: requests.Text | None = None
    end_date: requests.Text | None = None
    task_id: requests.TaskId | None = None
    detailed_analytics: bool = False  # every training has them


class ListOperations(Strict):
    """Page through the tasks."""

    operation_type: Word | None = None
    status: Word | None = None
    active_only: bool = False
    limit: requests.Rows = 10
    offset: requests.Offset = 0


class OneOperation(Strict):
    """Name a task."""

    operation_id: requests.TaskId


class CancelOperation(OneOperation):
    """Cancel a task."""

    reason: Annotated[str, StringConstraints(max_length=1_000)] | None = None
    force: bool = False


class Unfinished(TaskNotCompleted):
    """A task without results, as KTRDR answers for one."""

    http_status = 400


def their_status(status: str) -> str:
    """A task's status in KTRDR's words."""
    return RUNNING.get(status, status)


def the_only(values: list[str], field: str, what: str) -> str:
    """The one value of a list. Raises InvalidRequest where there are several."""
    if len(set(values)) > 1:
        raise InvalidRequest(
            f"One training takes one {what}; {field} has {quote(', '.join(values))}.",
            hint=f"Start one training for each {what}, and compare what they come to.",
            field=field,
        )
    return values[0]


async def start(service: ServiceProtocol, raw: object) -> Json:
    """Starts a training of one series with a strategy. Raises KtrdrError."""
    wanted = parse(StartTrainings, raw)
    request: Json = {
        "symbol": the_only(wanted.symbols, "symbols", "symbol"),
        "timeframe": the_only(wanted.timeframes, "timeframes", "timeframe"),
        "strategy": wanted.strategy_name,
    }
    for name in ("start_date", "end_date", "task_id"):
        if (value := getattr(wanted, name)) is not None:
            request[name] = value
    started = await START_TRAINING.answer(service, request)
    told = {
        "task_id": started.task_id,
        "operation_id": started.task_id,
        "status": started.status,
        "message": started.message,
        "symbols": [started.symbol],
        "timeframes": [started.timeframe],
        "strategy_name": started.strategy,
        "estimated_duration_minutes": math.ceil(started.estimated_duration_minutes),
        "warnings": started.warnings,
    }
    return {**told, "data": told}  # its releases read one or the other


async def status(service: ServiceProtocol, raw: object) -> Json:
    """Where a training stands, as the contract says it and with lists. Raises KtrdrError."""
    reply = await GET_TRAINING_STATUS.answer(service, raw)
    lists = {"symbols": [reply.symbol], "timeframes": [reply.timeframe]}
    return {**reply.model_dump(mode="json"), **lists}


async def performance(service: ServiceProtocol, raw: object) -> Json:
    """What a training is worth, as the contract says it. Raises KtrdrError."""
    reply = await GET_MODEL_PERFORMANCE.answer(service, raw)
    told = reply.model_dump(mode="json")
    told["model_info"]["model_size_bytes"] = round(reply.model_info.model_size_mb * BYTES_IN_MB)
    return told


async def list_operations(service: ServiceProtocol, raw: object) -> Json:
    """A page of the trainings, newest first. Raises KtrdrError."""
    wanted = parse(ListOperations, raw)
    status = None if wanted.status is None else OURS.get(wanted.status, wanted.status)
    active = {each.task_id: each for each in await all_tasks(service, "pending")}
    active |= {each.task_id: each for each in await all_tasks(service, "training")}
    if wanted.active_only:
        found = sorted(active.values(), key=lambda task: task.created_at, reverse=True)
        found = [task for task in found if status in (None, task.status)]
    else:
        found = await all_tasks(service, status)
    if wanted.operation_type not in (None, TRAINING):
        found = []
    page = found[wanted.offset : wanted.offset + wanted.limit]
    return {
        "data": [
            operation_row(task, await TASK_TIMES.answer(service, {"task_id": task.task_id}))
            for task in page
        ],
        "total_count": len(found),
        "active_count": len(active),
    }


async def all_tasks(service: ServiceProtocol, status: str | None) -> list[responses.TaskSummary]:
    """Every training of a status, or of any. Raises KtrdrError."""
    found: list[responses.TaskSummary] = []
    more, offset = True, 0
    while more:
        query: Json = {"limit": limits.MAX_PAGE_ROWS, "offset": offset}
        reply = await LIST_TRAINING_TASKS.answer(
            service, query | ({"status": status} if status else {})
        )
        found += [task for task in reply.tasks if task.strategy]  # fetches of bars have none
        more, offset = reply.has_more, offset + reply.returned
    return found


def operation_row(task: responses.TaskSummary, times: responses.TaskTimes) -> Json:
    """One task of a list."""
    return {
        "operation_id": task.task_id,
        "operation_type": TRAINING,
        "status": their_status(task.status),
        "created_at": task.created_at,
        "progress_percentage": float(task.progress),
        "current_step": current_step(task.status, times.current_epoch, times.total_epochs),
        "symbol": task.symbol,
        "duration_seconds": times.duration_s,
    }


def current_step(status: str, epoch: int, epochs: int) -> str | None:
    """What a training does, while it runs."""
    return f"epoch {epoch} of {epochs}" if status == "training" else None


async def show_operation(service: ServiceProtocol, raw: object) -> Json:
    """Everything about one training; a reading of its results, if any. Raises KtrdrError."""
    task_id = parse(OneOperation, raw).operation_id
    history = (await TRAINING_HISTORY.answer(service, {"task_id": task_id})).history
    now = history["status"]
    step = current_step(now["status"], now["current_epoch"], now["total_epochs"])
    return {
        "data": {
            "operation_id": task_id,
            "operation_type": TRAINING,
            "status": their_status(now["status"]),
            "created_at": history["created_at"],
            "started_at": now["started_at"],
            "completed_at": history["completed_at"],
            "progress": {
                "percentage": float(now["progress"]),
                "current_step": step,
                "steps_completed": now["current_epoch"],
                "steps_total": now["total_epochs"],
                "items_processed": now["current_epoch"],
                "items_total": now["total_epochs"],
                "current_item": None,
                "context": {"metrics": now["current_metrics"]},
            },
            "metadata": {
                "symbol": now["symbol"],
                "timeframe": now["timeframe"],
                "mode": None,
                "start_date": None,
                "end_date": None,
                "parameters": {"strategy_name": history["strategy"], "config": history["config"]},
            },
            "error_message": now["error"],
            "warnings": [],
            "errors": [] if now["error"] is None else [now["error"]],
            "result_summary": history["performance"],
        }
    }


async def results(service: ServiceProtocol, raw: object) -> Json:
    """What a training came to, or why it failed. Raises KtrdrError."""
    task_id = parse(OneOperation, raw).operation_id
    now = await GET_TRAINING_STATUS.answer(service, {"task_id": task_id})
    if now.status not in TERMINAL:
        raise Unfinished(
            f"Task {task_id} has no results yet; it is {their_status(now.status)}.",
            hint=f"Wait: GET /trainings/{task_id}?wait_s=50 returns when it has ended.",
            field="operation_id",
        )
    if now.status == "completed":
        found = await performance(service, {"task_id": task_id})
        told = {name: value for name, value in found.items() if name not in IN_ENVELOPE}
    else:
        told = {"error": now.error, "error_code": now.error_code}
    envelope = {"operation_id": task_id, "operation_type": TRAINING}
    return {**envelope, "status": their_status(now.status), "results": told}


IN_ENVELOPE: Final = frozenset({"success", "task_id", "status"})


async def metrics(service: ServiceProtocol, raw: object) -> Json:
    """Every epoch of a training so far, by training and validation rows. Raises KtrdrError."""
    task_id = parse(OneOperation, raw).operation_id
    reply = await TRAINING_EPOCHS.answer(service, {"task_id": task_id})
    best = min(reply.epochs, key=lambda each: each["val_loss"], default=None)
    newest = reply.epochs[-1]["epoch"] if reply.epochs else 0
    return {
        "data": {
            "operation_id": reply.task_id,
            "operation_type": TRAINING,
            "metrics": {
                "epochs": reply.epochs,
                "best_epoch": best and best["epoch"],
                "best_val_loss": best and best["val_loss"],
                "epochs_since_improvement": best and newest - best["epoch"],
                "total_epochs_planned": reply.total_epochs,
                "total_epochs_completed": newest,
            },
        }
    }


async def cancel(service: ServiceProtocol, raw: object) -> Json:
    """Cancels a training; one that has ended stays as it is. Raises KtrdrError."""
    wanted = parse(CancelOperation, raw)
    reply = await CANCEL_TRAINING.answer(service, {"task_id": wanted.operation_id})
    return {
        "data": {
            "operation_id": reply.task_id,
            "status": their_status(reply.status),
            "message": reply.message,
            "cancellation_reason": wanted.reason,
        }
    }


async def symbols(service: ServiceProtocol, raw: object) -> Json:
    """The symbols that have bars, and in which timeframes. Raises KtrdrError."""
    parse(requests.Empty, raw)
    timeframes: dict[str, list[str]] = {}
    more, offset = True, 0
    while more:
        query = {"limit": limits.MAX_PAGE_ROWS, "offset": offset}
        reply = await GET_MARKET_DATA_SUMMARY.answer(service, query)
        for each in reply.series:
            timeframes.setdefault(each.symbol, []).append(each.timeframe)
        more, offset = reply.has_more, offset + reply.returned
    return {
        "data": [
            {
                "symbol": symbol,
                "name": symbol,
                "type": UNKNOWN,
                "exchange": UNKNOWN,
                "currency": UNKNOWN,
                "available_timeframes": found,
                "trading_hours": None,
            }
            for symbol, found in timeframes.items()
        ]
    }


async def indicators(service: ServiceProtocol, raw: object) -> Json:
    """The contract's page of indicators, and all of them in KTRDR's form. Raises KtrdrError."""
    operation = bound_pages(GET_AVAILABLE_INDICATORS, limits.MAX_PAGE_ROWS)
    page = await operation.answer(service, raw)
    whole = await operation.answer(service, {})
    return {
        **page.model_dump(mode="json"),
        "data": [describe_indicator(each) for each in whole.indicators],
    }


def describe_indicator(one: responses.IndicatorRow) -> Json:
    """An indicator as KTRDR describes one."""
    return {
        "id": one.type,
        "name": one.type,
        "description": one.about,
        "type": one.group,
        "parameters": [parameter(name, text) for name, text in one.parameters.items()],
    }


def parameter(name: str, text: str) -> Json:
    """A parameter as KTRDR describes one.

    Args:
        name: of the parameter.
        text: its default and bounds, "14 (2 to 10000)" or "close (open, close)".
    """
    told: Json = {"name": name, "description": text, "min_value": None, "max_value": None}
    found = PARAMETER.fullmatch(text)
    if found is None:
        return {**told, "type": "str", "default": text, "options": None}
    if found["words"] is not None:
        words, default = found["words"].split(", "), found["default"]
        numbered = dict(enumerate(words)).get(int(default)) if default.isdigit() else default
        if numbered is None:  # a number of TA-Lib's that none of the words has
            return {**told, "type": "int", "default": int(default), "options": None}
        return {**told, "type": "str", "default": numbered, "options": words}
    default, low, high = (number(found[key]) for key in ("default", "low", "high"))
    kind = "int" if isinstance(default, int) else "float"
    bounds = {"default": default, "min_value": low, "max_value": high, "options": None}
    return {**told, "type": kind, **bounds}


def number(text: str) -> int | float:
    """A number, whole where it is."""
    value = float(text)
    return int(value) if value.is_integer() else value


async def bars(service: ServiceProtocol, raw: object) -> Json:
    """The stored bars of a series. Raises KtrdrError."""
    reply = await READ_BARS.answer(service, raw)
    metadata = {
        "symbol": reply.symbol,
        "timeframe": reply.timeframe,
        "start": reply.dates[0],
        "end": reply.dates[-1],
        "points": len(reply.dates),
        "source": reply.source,
        "notes": reply.notes,
    }
    return {
        "data": {"dates": reply.dates, "ohlcv": reply.ohlcv, "points": None, "metadata": metadata}
    }


ROUTES: Final[Iterable[tuple[str, str, Answer]]] = (
    ("POST", "/trainings/start", start),
    ("GET", "/trainings/{task_id}", status),
    ("GET", "/trainings/{task_id}/performance", performance),
    ("GET", "/operations", list_operations),
    ("GET", "/operations/{operation_id}", show_operation),
    ("GET", "/operations/{operation_id}/results", results),
    ("GET", "/operations/{operation_id}/metrics", metrics),
    ("DELETE", "/operations/{operation_id}", cancel),
    ("GET", "/symbols", symbols),
    ("GET", "/indicators/", indicators),
    ("GET", "/data/{symbol:path}/{timeframe}", bars),
)


def bound_to(service: ServiceProtocol, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Answers requests with what a function here says."""

    async def respond(request: Request) -> Response:
        raw = await raw_arguments(request)
        if raw is None or isinstance(raw, Mapping):
            raw = {**(raw or {}), **request.path_params}
        told = await answer(service, raw)
        content = to_json({"success": True, **told}, inf_nan_mode="null")
        return Response(content, headers=NOT_STORED, media_type=JSON)

    return respond
