"""What the official clients of both eras get from the real server over stdio and HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import node
from tests.clients.sessions import VERSIONS, Called, Refused, Session, Target, opened
from tests.support.background_servers import IDLE, end_labs
from tests.support.http_process import ServeProcess

CLIENTS = [
    ("python", "modern"),
    ("python", "legacy"),
    ("typescript 2", "modern"),
    ("typescript 2", "legacy"),
    ("typescript 1", "legacy"),
]
QUICK = {"epochs": 2, "hidden_layers": [8], "walk_forward": None}
FOREVER = {"epochs": 100_000, "early_stopping": None, "walk_forward": None}
SERIES = {"symbol": "AAPL", "timeframe": "1h"}
NOT_FOUND = -32_602
UPDATE_LIMIT_S = 60
STRATEGIES = ("default", "mean_reversion", "trend_following", "volatility_breakout")

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module", params=CLIENTS, ids=" ".join)
def client(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The client's name and the era that it speaks."""
    if request.param[0] != "python":
        try:
            node.install()
        except node.Unavailable as reason:
            pytest.skip(f"{reason}")
    return request.param


@pytest.fixture(scope="module", params=["stdio", "HTTP"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """The real server on a workspace that the tests of one transport share."""
    workspace = tmp_path_factory.mktemp("clients")
    if request.param == "HTTP":
        with ServeProcess(workspace) as server:
            yield Target(url=f"{server.url}/mcp")
        return
    line = (sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace))
    yield Target(command=line, environment=dict(IDLE))
    end_labs(workspace)


@pytest.fixture
def connect(client: tuple[str, str], target: Target, tmp_path: Path) -> Any:
    """Opens the client on the server."""
    return lambda tasks=False: opened(*client, target, tmp_path, tasks)


@pytest.fixture
def connect_with_tasks(client: tuple[str, str], connect: Any) -> Any:
    """Opens the client as one that takes tasks."""
    if client[1] != "modern":
        pytest.skip("the tasks extension is for clients of 2026-07-28")
    return lambda: connect(tasks=True)


async def tool(session: Session, name: str, **arguments: Any) -> dict[str, Any]:
    called = await session.call(name, **arguments)
    assert not called.is_error, called.content
    return called.content


async def start(session: Session, **config: Any) -> str:
    return str((await tool(session, "start_training", **SERIES, config=config))["task_id"])


async def ended(session: Session, task_id: str) -> Called:
    """The status once the task has ended, with all progress that was reported meanwhile."""
    reports: list[dict[str, Any]] = []
    for _ in range(10):
        called = await session.call(
            "get_training_status", progress=True, task_id=task_id, wait_s=50.0
        )
        reports += called.progress
        if called.content["status"] in {"completed", "failed", "cancelled"}:
            return Called(content=called.content, progress=reports)
    raise AssertionError("the task did not end")


def numbers(document: Any) -> set[float]:
    """Every number in a document."""
    if isinstance(document, dict):
        return set().union(*map(numbers, document.values()))
    if isinstance(document, list):
        return set().union(*map(numbers, document))
    return {document} if isinstance(document, float) else set()


async def test_the_era_that_was_asked_for_is_spoken_and_everything_is_listed(
    connect, client
) -> None:
    async with connect() as session:
        about = await session.about()
        tools = await session.names("tools")
        if about["server"] is not None:  # the era of 2026 leaves it to the server to say
            assert about["server"]["name"] == "ktrdr-mcp"
        if about["version"] is not None:  # an SDK of version 1 does not tell it on stdio
            assert about["version"] == VERSIONS[client[1]]
        assert {"start_training", "get_training_status", "get_model_performance"} <= set(tools)
        assert len(tools) == len(set(tools))
        assert "research_session" in await session.names("prompts")
        assert {f"strategy://{name}" for name in STRATEGIES} <= set(
            await session.names("resources")
        )
        assert "training://{task_id}" in await session.names("templates")


async def test_a_training_is_followed_by_its_progress_to_its_verdict(connect) -> None:
    async with connect() as session:
        task_id = await start(session, **QUICK, seed=1)
        last = await ended(session, task_id)
        steps = [report["progress"] for report in last.progress]
        assert steps == sorted(set(steps))
        assert all(report["total"] == QUICK["epochs"] for report in last.progress)
        assert last.content["status"] == "completed"
        performance = await tool(session, "get_model_performance", task_id=task_id)
        assert performance["verdict"]["prediction"] in {"no_skill", "inconclusive", "skill"}
        history = json.loads(await session.read(f"training://{task_id}"))
        accuracy = performance["test_metrics"]["test_accuracy"]
        assert accuracy in {round(number, 4) for number in numbers(history)}


async def test_an_aborted_wait_leaves_the_training_at_work_until_it_is_cancelled(connect) -> None:
    async with connect() as session:
        task_id = await start(session, **FOREVER)
        waited = await session.call("get_training_status", abort=True, task_id=task_id, wait_s=50.0)
        assert waited.aborted
        assert waited.progress
        seen = await tool(session, "get_training_status", task_id=task_id)
        assert seen["status"] == "training"
    async with connect() as another:  # nor does the client's end end it
        later = await tool(another, "get_training_status", task_id=task_id)
        assert later["status"] == "training"
        assert later["current_epoch"] >= seen["current_epoch"]
        await tool(another, "cancel_training", task_id=task_id)
        assert (await ended(another, task_id)).content["status"] == "cancelled"


async def test_errors_reach_the_model_with_what_to_do_next(connect) -> None:
    async with connect() as session:
        refused = await session.call("start_training", **SERIES, config={"epochz": 5})
        assert refused.is_error
        error = refused.content["error"]
        assert "epochs" in error["message"] + error["hint"]
        unknown = await session.call("get_training_status", task_id="training_of_nobody")
        assert unknown.is_error
        assert unknown.content["error"]["code"] == "task_not_found"
        assert unknown.content["error"]["hint"]
        assert (await session.call("trane")).is_error


async def test_resources_are_read_and_unknown_ones_are_a_protocol_error(connect) -> None:
    async with connect() as session:
        text = await session.read("strategy://default")
        assert re.search(r"^name: default$", text, re.MULTILINE)
        with pytest.raises(Refused) as refused:
            await session.read("strategy://nobody_wrote_this")
        assert refused.value.code == NOT_FOUND
        with pytest.raises(Refused):
            await session.prompt("nobody_wrote_this")
        assert "AAPL" in await session.prompt("research_session", symbol="AAPL")


async def test_arguments_of_prompts_and_resources_are_completed(connect) -> None:
    async with connect() as session:
        strategy = {"type": "ref/resource", "uri": "strategy://{name}"}
        assert await session.complete(strategy, "name", "mean") == ["mean_reversion"]
        prompt = {"type": "ref/prompt", "name": "research_session"}
        assert await session.complete(prompt, "symbol", "AA") == ["AAPL"]
        assert "1h" in await session.complete(prompt, "timeframe", "1")


async def test_a_watched_training_says_that_it_changed(connect) -> None:
    async with connect() as session:
        offered = (await session.about())["capabilities"].get("resources", {})
    if not offered.get("subscribe"):
        pytest.skip("the server declares no subscriptions on this era")
    async with connect() as session:
        task_id = await start(session, **FOREVER)
        await session.watch(f"training://{task_id}")
        async with asyncio.timeout(UPDATE_LIMIT_S):
            assert await session.update() == f"training://{task_id}"
        await tool(session, "cancel_training", task_id=task_id)


async def test_a_task_is_followed_to_the_verdict_by_the_client_itself(connect_with_tasks) -> None:
    async with connect_with_tasks() as session:
        called = await session.follow("start_training", **SERIES, config=QUICK)
        assert [state["status"] for state in called.tasks][-1] == "completed"
        assert len({state["taskId"] for state in called.tasks}) == 1
        assert all(state["ttlMs"] is None for state in called.tasks)
        assert not called.is_error
        verdict = called.content["performance"]["verdict"]
        assert verdict["prediction"] in {"no_skill", "inconclusive", "skill"}
        listed = await session.call("list_training_tasks")  # which is no task itself
        assert called.content["task_id"] in {row["task_id"] for row in listed.content["tasks"]}


async def test_a_task_outlives_its_client_and_only_its_handle_leads_to_it(
    connect_with_tasks,
) -> None:
    async with connect_with_tasks() as first:
        handle = await first.begin("start_training", **SERIES, config=FOREVER)
    async with connect_with_tasks() as second:
        assert (await second.task("get", handle))["status"] == "working"
        rows = (await second.call("list_training_tasks", status="training")).content["tasks"]
        rows += (await second.call("list_training_tasks", status="pending")).content["tasks"]
        assert rows
        for unknown in (rows[0]["task_id"], "0" * 32, handle[:-1]):
            for method in ("get", "update", "cancel"):
                with pytest.raises(Refused) as refused:
                    await second.task(method, unknown)
                assert refused.value.code == NOT_FOUND
        assert (await second.task("update", handle))["resultType"] == "complete"
        assert (await second.task("cancel", handle))["resultType"] == "complete"
        async with asyncio.timeout(UPDATE_LIMIT_S):
            while (state := await second.task("get", handle))["status"] == "working":
                pass
        assert state["status"] == "cancelled"
        assert "result" not in state
