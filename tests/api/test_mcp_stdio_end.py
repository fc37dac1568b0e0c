"""When a client closes its end, what it has asked for is answered first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage, jsonrpc_message_adapter

from ktrdr_mcp.api.mcp import server
from ktrdr_mcp.api.mcp.server import build_server
from ktrdr_mcp.schemas import requests, responses
from tests.api.test_mcp_stdio_purity import HANDSHAKE, message
from tests.support.fake_service import FakeService


class SlowService(FakeService):
    """Lists tasks when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def list_training_tasks(self, request: requests.ListTasks) -> responses.TaskList:
        self.begun.set()
        await self.go.wait()
        reply: responses.TaskList = self.answer("list_training_tasks", request)
        return reply


class Client:
    """The other end of a server's streams, with one slow call on its way."""

    def __init__(self, incoming: Any, outgoing: Any, service: SlowService) -> None:
        self.service = service
        self._incoming = incoming
        self._outgoing = outgoing

    async def send(self, method: str, params: dict[str, Any], number: int | None = None) -> None:
        line = jsonrpc_message_adapter.validate_json(message(method, params, number))
        await self._incoming.send(SessionMessage(line))

    async def call(self) -> None:
        """Begins the slow call, whose id is 2."""
        await self.send("initialize", HANDSHAKE, 1)
        await self.send("notifications/initialized", {})
        await self.send("tools/call", {"name": "list_training_tasks", "arguments": {}}, 2)
        await self.service.begun.wait()

    def leave(self) -> None:
        self._incoming.close()

    async def rest(self) -> list[JSONRPCMessage]:
        """All that comes until the server ends."""
        return [each.message async for each in self._outgoing]


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """A client of a server that runs in this process."""
    incoming, reader = anyio.create_memory_object_stream[Any](20)
    writer, outgoing = anyio.create_memory_object_stream[Any](20)
    service = SlowService()
    low_level = build_server(service).low_level
    streams = server.answer_all(reader, writer)
    with incoming, outgoing, anyio.fail_after(60):
        async with asyncio.TaskGroup() as group:
            options = low_level.create_initialization_options()
            group.create_task(low_level.run(*streams, options))
            yield Client(incoming, outgoing, service)


@pytest.mark.asyncio
async def test_a_call_that_runs_when_the_client_leaves_is_answered() -> None:
    async with client() as left:
        await left.call()
        left.leave()
        await anyio.wait_all_tasks_blocked()
        left.service.go.set()
        answers = {each.id: each for each in await left.rest() if hasattr(each, "id")}
    assert answers[2].result["structuredContent"]["success"] is True


@pytest.mark.asyncio
async def test_a_cancelled_call_does_not_hold_the_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_TIMEOUT_S", 600.0)
    async with client() as left:
        await left.call()
        await left.send("notifications/cancelled", {"requestId": 2})
        left.leave()
        assert [each.id for each in await left.rest() if hasattr(each, "id")] == [1]


@pytest.mark.asyncio
async def test_a_call_without_end_is_refused_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_TIMEOUT_S", 0.0)
    async with client() as left:
        await left.call()
        left.leave()
        answers = {each.id: each for each in await left.rest() if hasattr(each, "id")}
    assert answers[2].error.message == "Connection closed"
