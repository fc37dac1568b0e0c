"""The second token reads everything and changes nothing, over HTTP and over MCP."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from mcp.client import Client
from mcp.client.extension import ClientExtension
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST

from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules, make_rules
from ktrdr_mcp.api.http.server import listen, serving, url_of
from ktrdr_mcp.api.mcp.server import build_server
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.report.live import live_page
from tests.support import sample_replies
from tests.support.asgi_requests import JSON, LOCAL, TOKEN, ask
from tests.support.fake_service import FakeService
from tests.support.mcp_tasks import FollowTasks, begin
from tests.support.mcp_tasks import ask as follow

pytestmark = pytest.mark.asyncio

READER = "fedcba9876543210fedcba9876543210"
RULES = Rules(TOKEN, read_token=READER)
READS = [LOCAL, JSON, ("Authorization", f"Bearer {READER}")]
CHANGES = [LOCAL, JSON, ("Authorization", f"Bearer {TOKEN}")]
TOOLS = [name for name, each in OPERATIONS.items() if each.tool is not None]
# by hand: what takes, gives or keeps something, of whatever kind its row in the table says it is
CHANGING = {
    "start_training",
    "cancel_training",
    "candidate_test",  # it adds trials
    "create_task_handle",
    "reproduce_training",
    "save_trained_model",
    "save_strategy",
    "add_research_note",
    "import_bars",
    "fetch_market_data",
    "remove_data",
}

SHOWN = ("/training?limit=", "/models?limit=", "/data", "/research?limit=")


@pytest.fixture(scope="module")
def door():
    mcp = build_server(FakeService()).streamable_http_app()
    return build_api(FakeService(), RULES, mcp.routes)


def filled(path: str) -> str:
    """A route's path with a name in the place of each field."""
    return re.sub(r"{\w+}", "alpha", path)


async def test_the_table_knows_what_changes_something() -> None:
    assert {name for name, each in OPERATIONS.items() if each.changes} == CHANGING


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_route_is_open_to_the_second_token_unless_it_changes_something(door, name) -> None:
    operation = OPERATIONS[name]
    for path in (operation.path, f"/api/v1{operation.path}/"):
        read = await ask(door.guard, operation.method, filled(path), READS, b"{}")
        changed = await ask(door.guard, operation.method, filled(path), CHANGES, b"{}")
        assert changed.status != 403
        if name in CHANGING:
            assert (read.status, read.error["code"]) == (403, "reading_only")
        else:
            assert read.status == changed.status


@pytest.mark.parametrize("path", ["/page/code", "/lab/stop", "/operations/x", "/nowhere", "/"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_what_no_row_calls_reading_is_refused(door, method, path) -> None:
    answer = await ask(door.guard, method, path, READS)
    assert (answer.status, answer.error["code"]) == (403, "reading_only")


async def test_the_live_page_shows_what_there_is_to_the_second_token_and_changes_nothing(
    door,
) -> None:
    script = live_page()[0]
    shown = [path for path in SHOWN if f'call("{path}' in script or f"call(`{path}" in script]
    assert shown == list(SHOWN)
    for path in SHOWN:
        route = path.partition("?")[0]
        assert (await ask(door.guard, "GET", route, READS)).status == 200, path
    for path in ("/models/save", "/training/alpha/cancel"):
        assert (await ask(door.guard, "POST", path, READS, b"{}")).status == 403, path


async def test_a_token_that_is_neither_is_refused(door) -> None:
    for wrong in (f"{READER}x", READER[:-1], READER.upper(), f"{TOKEN}{READER}"):
        headers = [LOCAL, ("Authorization", f"Bearer {wrong}")]
        assert (await ask(door.guard, "GET", "/health", headers)).status == 401


@pytest.mark.parametrize("token", [None, READER])
async def test_a_second_token_needs_a_first_that_is_another(token) -> None:
    with pytest.raises(InvalidRequest, match="another"):
        make_rules(token, [], [], READER)


@contextlib.asynccontextmanager
async def server_url() -> AsyncIterator[str]:
    service = FakeService()
    server = build_server(service)
    routes = server.streamable_http_app().routes
    listener = listen("127.0.0.1", 0)
    where = url_of(listener)
    async with (
        serving(build_api(service, RULES, routes).guard, listener),
        server.session_manager.run(),
    ):
        yield where


@contextlib.asynccontextmanager
async def client(
    url: str, token: str, mode: str, *extensions: ClientExtension
) -> AsyncIterator[Client]:
    head = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=head, trust_env=False) as http,
        Client(
            streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, extensions=extensions
        ) as opened,
    ):
        yield opened


ARGUMENTS = {
    "task_id": sample_replies.UUID,
    "model_name": "alpha",
    "symbol": "AAPL",
    "timeframe": "1h",
    "note": "why",
    "source": "yfinance",
    "name": "mine",
    "strategy": "indicators: []",
    "task_ids": ["a", "b"],
}


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_tools_that_change_something_are_refused_to_the_second_token(mode) -> None:
    async with (
        server_url() as url,
        client(url, READER, mode) as reader,
        client(url, TOKEN, mode) as owner,
    ):
        assert (await reader.list_tools()).tools
        for name in TOOLS:
            fields = OPERATIONS[name].request.model_fields
            arguments = {
                field: ARGUMENTS[field] for field, about in fields.items() if about.is_required()
            }
            refused = await reader.call_tool(name, arguments)
            allowed = await owner.call_tool(name, arguments)
            codes = [
                each.is_error and each.structured_content["error"]["code"]
                for each in (refused, allowed)
            ]
            assert codes[1] != "reading_only", name
            assert (codes[0] == "reading_only") == (name in CHANGING), name


async def test_a_task_is_followed_but_neither_begun_nor_cancelled_with_the_second_token() -> None:
    async with (
        server_url() as url,
        client(url, READER, "2026-07-28", FollowTasks()) as reader,
        client(url, TOKEN, "2026-07-28", FollowTasks()) as owner,
    ):
        series = {"symbol": "AAPL", "timeframe": "1h"}
        refused = await reader.session.call_tool("start_training", series, allow_claimed=True)
        assert refused.structured_content["error"]["code"] == "reading_only"
        task = await begin(owner, "start_training", **series)
        assert (await follow(reader, "get", task.task_id))["status"] == "working"
        with pytest.raises(MCPError) as error:
            await follow(reader, "cancel", task.task_id)
        assert error.value.error.code == INVALID_REQUEST
        assert (await follow(owner, "cancel", task.task_id))["resultType"] == "complete"


async def test_a_session_of_the_first_token_gives_the_second_no_rights() -> None:
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "cancel_training", "arguments": {"task_id": "task-2"}},
    }
    begin = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    head = {"Accept": "application/json, text/event-stream"}
    async with (
        server_url() as url,
        httpx2.AsyncClient(base_url=url, headers=head, trust_env=False) as http,
    ):
        own = {"Authorization": f"Bearer {TOKEN}"}
        opened = await http.post("/mcp", json=begin, headers=own)
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post("/mcp", json=done, headers={**own, **session})
        mine = await http.post("/mcp", json=call, headers={**own, **session})
        other = {"Authorization": f"Bearer {READER}"}
        theirs = await http.post("/mcp", json=call, headers={**other, **session})
    assert "reading_only" not in mine.text
    assert "reading_only" in theirs.text
