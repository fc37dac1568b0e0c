"""Tools and routes are the same use cases: the same requests, the same replies."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from mcp.client import Client
from pydantic.fields import FieldInfo

from ktrdr_mcp.api.mcp.server import build_server
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.api.schema import OURS
from ktrdr_mcp.schemas import responses
from tests.support.asgi_requests import JSON, LOCAL, ask
from tests.support.fake_service import CANNED
from tests.support.mcp_clients import in_mcp_form

pytestmark = pytest.mark.asyncio

TASK = {"task_id": "task-2"}
MODEL = {"model_name": "alpha"}
START = {"symbol": "aapl", "timeframe": "1h", "config": {"epochs": 3, "early_stopping": None}}
CALLS = {
    "start_training": ("POST", "/training/start", START, START),
    "get_training_status": ("GET", "/training/task-2?wait_s=1.5", None, {**TASK, "wait_s": 1.5}),
    "get_model_performance": ("GET", "/training/task-2/performance", None, TASK),
    "cancel_training": ("POST", "/training/task-2/cancel", None, TASK),
    "save_trained_model": ("POST", "/models/save", {**TASK, **MODEL}, {**TASK, **MODEL}),
    "load_trained_model": ("POST", "/models/alpha/load", None, MODEL),
    "test_model_prediction": (
        "POST",
        "/models/predict",
        {**MODEL, "symbol": "AAPL", "timeframe": "1h"},
        {**MODEL, "symbol": "AAPL", "timeframe": "1h"},
    ),
    "list_trained_models": ("GET", "/models?limit=2&offset=1", None, {"limit": 2, "offset": 1}),
    "list_training_tasks": ("GET", "/training?status=failed&limit=20", None, {"status": "failed"}),
    "get_market_data_summary": ("GET", "/data?limit=20", None, {}),
}


@pytest.mark.parametrize("tool", CALLS)
async def test_route_and_tool_ask_the_same_and_answer_the_same(api, service, tool) -> None:
    method, path, body, arguments = CALLS[tool]
    page = type(CANNED[tool])
    if page in (responses.ModelList, responses.TaskList, responses.DataSummary):
        field = {"models", "tasks", "series"} & set(page.model_fields)
        [rows] = field
        # so small that no page is cut to what a conversation can bear
        few = {rows: getattr(CANNED[tool], rows)[:1], "returned": 1}
        service.replies[tool] = CANNED[tool].model_copy(update=few)
    chunks = [] if body is None else [json.dumps(body).encode()]
    answer = await ask(api.guard, method, path, [LOCAL, JSON], *chunks)
    assert answer.status == 200
    async with Client(build_server(service)) as client:
        result = await client.call_tool(tool, arguments)
    seen = dict(result.structured_content)
    assert in_mcp_form(json.loads(answer.body), seen) == seen
    (_, over_http), (_, over_mcp) = service.calls
    ours = {"page_bytes"}  # what a conversation bears
    assert over_http.model_dump(exclude=ours) == over_mcp.model_dump(exclude=ours)
    if tool == "start_training":
        assert over_http.config.model_fields_set == over_mcp.config.model_fields_set


def takes_null(field: FieldInfo) -> bool:
    """Whether null is one of a field's values."""
    return type(None) in get_args(field.annotation)


async def test_every_tool_has_a_route_with_the_same_fields(service) -> None:
    async with Client(build_server(service)) as client:
        tools = (await client.list_tools()).tools
    assert set(CALLS) <= {tool.name for tool in tools}
    for tool in tools:
        route = OPERATIONS[tool.name]
        assert set(tool.input_schema["properties"]) == set(route.request.model_fields) - OURS
        told = set(tool.output_schema["properties"])
        fields = route.reply.model_fields
        # what may be null is shown by the reply itself
        said = {name for name, field in fields.items() if not takes_null(field)}
        assert said <= told | {"success"} <= set(fields)
