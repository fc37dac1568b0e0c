"""All routes over a real socket, in every form of their path, beside the same calls over MCP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp.client.client import Client

from ktrdr_mcp.api.operations import GET_MODEL_PERFORMANCE
from tests.support.mcp_clients import in_mcp_form
from tests.support.specification import differences

pytestmark = pytest.mark.asyncio

FORMS = [("", ""), ("", "/"), ("/api/v1", ""), ("/api/v1", "/")]
TOOLS = {
    "start": "start_training",
    "status": "get_training_status",
    "performance": "get_model_performance",
    "save": "save_trained_model",
    "load": "load_trained_model",
    "predict": "test_model_prediction",
    "list": "list_trained_models",
}
PASSING = {
    "next",
    "test_readings",
    "verdict",
    "estimated_duration_minutes",
    "similar_to",
    "created",
}


@pytest_asyncio.fixture
async def http(served):
    async with httpx2.AsyncClient(base_url=served.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def connect(served):
    """Opens an MCP client on the same server."""
    return lambda: Client(f"{served.url}/mcp")


async def in_every_form(client: Any, method: str, path: str, **content: Any) -> dict[str, Any]:
    """The answer, which must be the same whatever form the path has."""
    target, _, query = path.partition("?")
    answers = []
    for prefix, slash in FORMS:
        url = f"{prefix}{target}{slash}" + (f"?{query}" if query else "")
        response = await client.request(method, url, **content)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        answers.append(response.json())
    assert [lasting(answer) for answer in answers] == [lasting(answers[0])] * len(FORMS)
    return dict(answers[0])


def lasting(answer: dict[str, Any]) -> dict[str, Any]:
    """What is the same however often one asks."""
    return {name: value for name, value in answer.items() if name not in PASSING}


async def over_mcp(client: Any, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.structured_content
    assert json.loads(answer.content[0].text) == answer.structured_content
    return dict(answer.structured_content)


async def test_the_specifications_example_works_over_http_as_over_mcp(
    http, connect, specification
) -> None:
    start = {**specification["start"].request, "task_id": "the-main-job"}
    asked: dict[str, tuple[str, str, dict[str, Any] | None, dict[str, Any]]] = {
        "start": ("POST", "/training/start", start, start),
    }
    replies = {"start": await in_every_form(http, "POST", "/training/start", json=start)}
    task = {"task_id": replies["start"]["task_id"]}
    path = f"/training/{task['task_id']}"
    ended = await http.get(f"{path}?wait_s=50")
    assert (ended.json()["status"], ended.json()["progress"]) == ("completed", 100)
    save = {**specification["save"].request, **task}
    name = {"model_name": save["model_name"]}
    predict = specification["predict"].request
    asked |= {
        "status": ("GET", path, None, task),
        "performance": ("GET", f"{path}/performance", None, task),
        "save": ("POST", "/models/save", save, save),
        "load": ("POST", f"/models/{name['model_name']}/load", None, name),
        "predict": ("POST", "/models/predict", predict, predict),
        "list": ("GET", "/models", None, {}),
    }
    for kind, (method, route, body, _) in asked.items():
        content = {} if body is None else {"json": body}
        replies[kind] = await in_every_form(http, method, route, **content)
    async with connect() as mcp:
        for kind, (*_, arguments) in asked.items():
            same = await over_mcp(mcp, TOOLS[kind], arguments)
            assert lasting(same) == lasting(in_mcp_form(replies[kind], same))
            assert set(same) == set(replies[kind])
    found = {
        kind: differences(example.response, replies[kind])
        for kind, example in specification.items()
    }
    assert found == {kind: [] for kind in specification}
    documented = GET_MODEL_PERFORMANCE.reply_example
    for reply in (replies["performance"], documented):
        assert reply["trading"]["max_drawdown"] < 0


async def test_the_other_routes_say_what_their_tools_and_resources_say(http, connect) -> None:
    tasks = await in_every_form(http, "GET", "/training?limit=20")
    data = await in_every_form(http, "GET", "/data?symbol=AAPL&limit=5")
    strategy = await in_every_form(http, "GET", "/strategies/default")
    async with connect() as mcp:
        assert tasks == await over_mcp(mcp, "list_training_tasks", {})
        assert data == await over_mcp(mcp, "get_market_data_summary", {"symbol": "AAPL"})
        resource = await mcp.read_resource("strategy://default")
        resources = (await mcp.list_resources()).resources
    listed = [each for each in resources if str(each.uri).startswith("strategy:")]
    assert resource.contents[0].text == strategy["text"]
    strategies = await in_every_form(http, "GET", "/strategies")
    assert sorted(resource.name for resource in listed) == [
        each["name"] for each in strategies["strategies"]
    ]
    names = await in_every_form(http, "GET", "/complete?kind=strategy&prefix=d")
    assert "default" in names["names"]
    health = await in_every_form(http, "GET", "/health")
    assert (health["status"], health["contract_version"]) == ("ok", "1.0")


async def test_a_task_can_be_cancelled_and_its_story_read(http, connect) -> None:
    forever = {"epochs": 100_000, "early_stopping": None, "seed": 7}
    body = {"symbol": "AAPL", "timeframe": "1h", "config": forever, "task_id": "to-be-cancelled"}
    assert (await http.post("/training/start", json=body)).status_code == 200
    path = f"/training/{body['task_id']}"
    assert (await http.post(f"{path}/cancel")).json()["success"] is True
    assert (await http.get(f"{path}?wait_s=50")).json()["status"] == "cancelled"
    cancelled = await in_every_form(http, "POST", f"{path}/cancel")
    history = await in_every_form(http, "GET", f"{path}/history")
    async with connect() as mcp:
        again = await over_mcp(mcp, "cancel_training", {"task_id": body["task_id"]})
        resource = await mcp.read_resource(f"training://{body['task_id']}")
    assert again == cancelled
    assert json.loads(resource.contents[0].text) == history["history"]
    assert history["history"]["status"]["status"] == "cancelled"


async def test_an_error_over_http_is_the_error_over_mcp(http, connect) -> None:
    for method, path, body, tool, arguments, status in (
        ("GET", "/training/none", None, "get_training_status", {"task_id": "none"}, 404),
        ("POST", "/models/none/load", None, "load_trained_model", {"model_name": "none"}, 404),
        ("POST", "/training/start", {"symbol": "X"}, "start_training", {"symbol": "X"}, 422),
    ):
        response = await http.request(method, path, **({"json": body} if body else {}))
        async with connect() as mcp:
            answer = await mcp.call_tool(tool, arguments)
        assert response.status_code == status
        assert response.json() == answer.structured_content


ONCE = {
    "symbol": "AAPL",
    "timeframe": "1h",
    "config": {"epochs": 1, "hidden_layers": [4], "walk_forward": None},
}


async def test_fifty_equal_starts_at_once_make_one_task(http) -> None:
    body = {**ONCE, "idempotency_key": "fifty"}
    starts = [http.post("/training/start", json=body) for _ in range(50)]
    answers = await asyncio.gather(*starts)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    other = {**body, "config": {"epochs": 2}}
    refused = await http.post("/training/start", json=other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "task_conflict")


async def test_a_start_whose_caller_leaves_is_found_again_by_its_key(http) -> None:
    body = {**ONCE, "idempotency_key": "impatient"}
    with pytest.raises(httpx2.ReadTimeout):
        await http.post("/training/start", json=body, timeout=httpx2.Timeout(60, read=0.0001))
    again = await http.post("/training/start", json=body)
    once_more = await http.post("/training/start", json=body)
    assert again.json()["task_id"] == once_more.json()["task_id"]
    tasks = (await http.get("/training")).json()["tasks"]
    assert [task["task_id"] for task in tasks].count(again.json()["task_id"]) == 1


async def test_the_documentation_pages_are_served(http) -> None:
    for path in ("/docs", "/api/v1/docs/"):
        response = await http.get(path)
        assert response.headers["content-type"].startswith("text/html")
        assert "/openapi.json" in response.text
