"""What tools answer: replies, errors and internal errors in one shape."""

from __future__ import annotations

import json
import logging
from typing import Any

import jsonschema
import pytest
from mcp.types import CallToolResult, TextContent

from ktrdr_mcp import errors
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.labels.registry import complete
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.config import DEFAULT_LABELS, EarlyStopping, TrainingConfig
from tests.support import sample_replies
from tests.support.fake_service import CANNED, FakeService
from tests.support.mcp_clients import Connect

TASK = {"task_id": sample_replies.UUID}
MODEL = {"model_name": "alpha"}
SERIES = {"symbol": "AAPL", "timeframe": "1h"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "start_training": {**SERIES, "config": {"epochs": 3, "early_stopping": {"patience": 5}}},
    "get_training_status": TASK,
    "get_model_performance": TASK,
    "cancel_training": TASK,
    "save_trained_model": {**TASK, **MODEL, "description": "from Zürich"},
    "load_trained_model": MODEL,
    "test_model_prediction": {**MODEL, **SERIES, "test_date": "2025-06-09"},
    "list_trained_models": {},
    "list_training_tasks": {"status": "failed"},
    "get_market_data_summary": {"offset": 5},
    "backtest_model": {**MODEL, "start_date": "2025-01-01", "long_only": True},
    "compare_trainings": {"task_ids": [sample_replies.UUID, "task-2"]},
    "reproduce_training": TASK,
}


def text_of(result: CallToolResult) -> str:
    """The result's only text."""
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def error_of(result: CallToolResult) -> dict[str, Any]:
    """The error that the result carries, after a check of its shape."""
    assert result.is_error is True
    body = result.structured_content
    assert body is not None
    assert set(body) == {"success", "detail", "error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "hint", "field"}
    assert body["success"] is False
    assert body["detail"] == error["message"]
    assert text_of(result) == f"{error['message']} {error['hint']}"
    assert len(text_of(result)) < 1_000
    return error


@pytest.mark.asyncio
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
async def test_a_reply_is_complete_as_data_and_as_compact_text(
    connect: Connect, service: FakeService, name: str
) -> None:
    async with connect() as client:
        result = await client.call_tool(name, ARGUMENTS[name])
    assert result.is_error is False
    brief = OPERATIONS[name].brief
    reply = CANNED[name] if brief is None else brief(CANNED[name])
    assert result.structured_content == reply.model_dump(mode="json")
    assert json.loads(text_of(result)) == result.structured_content
    assert text_of(result) == json.dumps(result.structured_content, separators=(",", ":"))
    assert [method for method, _ in service.calls] == [name]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
async def test_replies_and_errors_both_fit_the_advertised_output_schema(
    connect: Connect, service: FakeService, name: str
) -> None:
    async with connect() as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        reply = await client.call_tool(name, ARGUMENTS[name])
        service.failure = errors.TaskNotFound("No task has this id.", hint="List them.")
        failure = await client.call_tool(name, ARGUMENTS[name])
    schema = schemas[name]
    assert schema is not None
    jsonschema.validate(reply.structured_content, schema)
    jsonschema.validate(failure.structured_content, schema)


@pytest.mark.asyncio
async def test_a_start_says_which_settings_differ_from_the_defaults(
    connect: Connect, service: FakeService
) -> None:
    whole = {**TrainingConfig().model_dump(mode="json"), "labels": DEFAULT_LABELS}
    changed = {"epochs": 3, "early_stopping": None, "labels": {**DEFAULT_LABELS, "horizon": 4}}
    for config, said in ((whole, {}), ({**whole, **changed}, changed)):
        update = {"config": config}
        service.replies["start_training"] = sample_replies.STARTED.model_copy(update=update)
        async with connect() as client:
            result = await client.call_tool("start_training", ARGUMENTS["start_training"])
        assert result.structured_content is not None
        assert result.structured_content["config"] == said


def test_the_default_labels_are_those_of_the_labels() -> None:
    assert complete({}) == DEFAULT_LABELS


@pytest.mark.asyncio
async def test_a_prediction_has_four_digits(connect: Connect, service: FakeService) -> None:
    figures = {"confidence": 0.3533382425420848, "probabilities": {"buy": 0.3533382425420848}}
    one = sample_replies.PREDICTION.prediction.model_copy(update=figures)
    service.replies["test_model_prediction"] = sample_replies.PREDICTION.model_copy(
        update={"prediction": one}
    )
    async with connect() as client:
        result = await client.call_tool("test_model_prediction", MODEL)
    assert result.structured_content is not None
    told = result.structured_content["prediction"]
    assert (told["confidence"], told["probabilities"]) == (0.3533, {"buy": 0.3533})


@pytest.mark.asyncio
async def test_null_fields_fit_the_status_schema(connect: Connect, service: FakeService) -> None:
    for reply in (sample_replies.PENDING, sample_replies.FAILED):
        service.replies["get_training_status"] = reply
        async with connect() as client:
            await client.list_tools()
            result = await client.call_tool("get_training_status", TASK)
        assert result.structured_content == reply.model_dump(mode="json")


@pytest.mark.asyncio
async def test_the_request_reaches_the_server_parsed(
    connect: Connect, service: FakeService
) -> None:
    async with connect() as client:
        await client.call_tool("start_training", {**ARGUMENTS["start_training"], "symbol": "aapl"})
    (_, request), *_ = service.calls
    assert request.symbol == "AAPL"
    assert isinstance(request.config, TrainingConfig)
    assert request.config.early_stopping == EarlyStopping(patience=5)
    assert request.config.model_fields_set == {"epochs", "early_stopping"}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
async def test_an_error_of_the_server_keeps_its_shape(
    connect: Connect, service: FakeService, name: str
) -> None:
    service.failure = errors.ModelNameTaken(
        "It is taken.", hint="Choose another.", field="model_name"
    )
    async with connect() as client:
        result = await client.call_tool(name, ARGUMENTS[name])
    assert error_of(result) == {
        "code": "model_name_taken",
        "message": "It is taken.",
        "hint": "Choose another.",
        "field": "model_name",
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
async def test_a_defect_is_logged_and_not_shown(
    connect: Connect, service: FakeService, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    service.failure = RuntimeError("secret /root/.ktrdr/lab.json")
    with caplog.at_level(logging.ERROR):
        async with connect() as client:
            result = await client.call_tool(name, ARGUMENTS[name])
    assert error_of(result)["code"] == "internal_error"
    assert "secret" not in result.model_dump_json()
    assert "Traceback" not in result.model_dump_json()
    assert "secret /root/.ktrdr/lab.json" in caplog.text


@pytest.mark.asyncio
async def test_a_number_that_is_not_finite_arrives_as_null(
    connect: Connect, service: FakeService
) -> None:
    service.replies["get_training_status"] = sample_replies.PENDING.model_copy(
        update={"current_metrics": responses.CurrentMetrics(val_loss=float("nan"))}
    )
    async with connect() as client:
        result = await client.call_tool("get_training_status", TASK)
    assert result.structured_content is not None
    assert result.structured_content["current_metrics"]["val_loss"] is None


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["strat_training", "", "x" * 10_000, "a\0b", "ünknown"])
async def test_an_unknown_tool_is_an_error_of_our_shape(
    connect: Connect, service: FakeService, name: str
) -> None:
    async with connect() as client:
        error = error_of(await client.call_tool(name, {}))
    assert error["code"] == "not_found"
    assert "start_training" in error["hint"]
    assert service.calls == []


@pytest.mark.asyncio
async def test_a_misspelt_tool_is_told_the_nearest(connect: Connect) -> None:
    async with connect() as client:
        error = error_of(await client.call_tool("strat_training", {}))
    assert "Did you mean 'start_training'?" in error["message"]


def labels(**settings: object) -> dict[str, Any]:
    """A start request with these labels."""
    return {**SERIES, "config": {"labels": settings}}


HOSTILE: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("get_training_status", {}, "invalid_request", "task_id"),
    ("get_training_status", {"task_id": None}, "invalid_request", "task_id"),
    ("get_training_status", {"task_id": 7}, "invalid_request", "task_id"),
    ("get_training_status", {"task_id": "../x"}, "invalid_name", "task_id"),
    ("get_training_status", {"task_id": "/etc/passwd"}, "invalid_name", "task_id"),
    ("get_training_status", {"task_id": "a\0b"}, "invalid_name", "task_id"),
    ("get_training_status", {"task_id": "a" * 10_000}, "invalid_name", "task_id"),
    ("get_training_status", {"task_id": "ok", "wait_s": "soon"}, "invalid_request", "wait_s"),
    ("get_training_status", {"task_id": "ok", "wait_s": 51}, "limit_exceeded", "wait_s"),
    ("get_training_status", {"task_id": "ok", "wait": 5}, "invalid_request", "wait"),
    ("get_training_status", {"task_id": "ok", "x" * 10_000: 5}, "invalid_request", None),
    ("get_training_status", {"task_id": "ok", "a\0b": 5}, "invalid_request", None),
    ("load_trained_model", {"model_name": "UPPER"}, "invalid_name", "model_name"),
    ("load_trained_model", {"model_name": "a\0"}, "invalid_name", "model_name"),
    ("start_training", {"timeframe": "1h"}, "invalid_request", "symbol"),
    ("start_training", {**SERIES, "timeframe": "2h"}, "invalid_name", "timeframe"),
    ("start_training", {**SERIES, "symbol": "A_B"}, "invalid_name", "symbol"),
    ("start_training", {**SERIES, "config": "{"}, "invalid_request", "config"),
    (
        "start_training",
        {**SERIES, "config": {"epochs": "many"}},
        "invalid_request",
        "config.epochs",
    ),
    ("start_training", {**SERIES, "config": {"epochs": True}}, "invalid_request", "config.epochs"),
    ("start_training", {**SERIES, "config": {"epochs": 0}}, "limit_exceeded", "config.epochs"),
    ("start_training", {**SERIES, "config": {"epoch": 7}}, "invalid_request", "config.epoch"),
    ("start_training", {**SERIES, "start_date": "2" * 10_000}, "invalid_request", "start_date"),
    ("start_training", labels(str=None), "invalid_request", "config.labels.str"),
    ("start_training", labels(**{"x" * 10_000: 1}), "invalid_request", None),
    ("start_training", labels(**{"x" * 10_000: None}), "invalid_request", None),
    ("save_trained_model", {**TASK, **MODEL, "description": 7}, "invalid_request", "description"),
    ("list_trained_models", {"limit": 10**4_000}, "limit_exceeded", "limit"),
    ("list_trained_models", {"limit": 0}, "limit_exceeded", "limit"),
    ("list_trained_models", {"limit": 2.5}, "invalid_request", "limit"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "arguments", "code", "field"), HOSTILE)
async def test_bad_arguments_are_named_and_change_nothing(
    connect: Connect,
    service: FakeService,
    name: str,
    arguments: dict[str, Any],
    code: str,
    field: str,
) -> None:
    async with connect() as client:
        result = await client.call_tool(name, arguments)
    error = error_of(result)
    assert error["code"] == code
    assert field is None or error["field"] == field
    assert "pydantic" not in result.model_dump_json()
    assert text_of(result).isascii()
    assert text_of(result).isprintable()
    assert service.calls == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "name", ["list_trained_models", "list_training_tasks", "get_market_data_summary"]
)
async def test_a_page_beyond_the_limit_is_refused_with_the_way_on(
    connect: Connect, service: FakeService, name: str
) -> None:
    async with connect() as client:
        error = error_of(await client.call_tool(name, {"limit": 21}))
        assert (await client.call_tool(name, {"limit": 20})).is_error is False
    assert error["code"] == "limit_exceeded"
    assert error["field"] == "limit"
    assert "offset" in error["hint"]
    assert len(service.calls) == 1


@pytest.mark.asyncio
async def test_missing_arguments_mean_none(connect: Connect, service: FakeService) -> None:
    async with connect() as client:
        assert (await client.call_tool("list_training_tasks")).is_error is False
    assert service.calls[0][1].limit == 20
