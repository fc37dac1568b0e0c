"""Requests whose frame, target or origin another program might read otherwise."""

from __future__ import annotations

import asyncio

import pytest

from ktrdr_mcp.api.http import guard
from ktrdr_mcp.api.http.server import listen, serving
from tests.support.asgi_requests import JSON, LOCAL, ask

pytestmark = pytest.mark.asyncio

CANCEL = "/training/task-2/cancel"


@pytest.mark.parametrize("page", ["http://localhost:3000", "http://127.0.0.1:8001", "http://[::1]"])
async def test_a_page_of_another_port_may_read_and_change_nothing(api, service, page) -> None:
    headers = [LOCAL, JSON, ("Origin", page)]
    assert (await ask(api.guard, "GET", "/health", headers)).status == 200
    answer = await ask(api.guard, "POST", CANCEL, headers)
    assert (answer.status, answer.error["code"]) == (403, "origin_refused")
    assert service.calls == []


async def test_a_page_of_the_server_itself_may_change_something(api, service) -> None:
    headers = [LOCAL, JSON, ("Origin", "http://localhost:8000")]
    assert (await ask(api.guard, "POST", CANCEL, headers)).status == 200
    assert [name for name, _ in service.calls] == ["cancel_training"]


async def test_a_target_that_is_a_url_of_this_server_is_its_path(api) -> None:
    assert (await ask(api.guard, "GET", "http://localhost:8000/health")).status == 200
    assert (await ask(api.guard, "GET", "http://127.0.0.1:8000/api/v1/health")).status == 200


@pytest.mark.parametrize("target", ["http://evil.com/health", "http://localhost@evil.com/health"])
async def test_a_target_that_is_a_url_elsewhere_is_refused(api, target) -> None:
    answer = await ask(api.guard, "GET", target, [LOCAL])
    assert (answer.status, answer.error["code"]) == (421, "host_refused")


async def test_two_lengths_close_the_connection(api, service) -> None:
    headers = [LOCAL, JSON, ("Content-Length", "2"), ("Transfer-Encoding", "chunked")]
    answer = await ask(api.guard, "POST", CANCEL, headers, b"{}")
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert service.calls == []


async def test_two_lengths_end_a_real_connection_before_what_follows_is_read(api, service) -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    head = f"POST {CANCEL} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    async with serving(api.guard, listener):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        smuggled = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        length = "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        writer.write(f"{head}{length}{smuggled}".encode())
        answer = await asyncio.wait_for(reader.read(), 20)  # to the end of the connection
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert service.calls == []


async def test_a_body_in_too_many_pieces_is_refused(api, monkeypatch) -> None:
    monkeypatch.setattr(guard, "MAX_CHUNKS", 3)
    answer = await ask(api.guard, "POST", CANCEL, [LOCAL, JSON], b"{", b" ", b" ", b"}")
    assert (answer.status, answer.headers["connection"]) == (400, "close")
