"""Whoever holds connections open takes nothing from the server's work."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from ktrdr_mcp.api.http import server
from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules
from tests.support.asgi_requests import TOKEN
from tests.support.background_servers import wait_until
from tests.support.fake_service import FakeService

pytestmark = pytest.mark.asyncio

HEAD = b"POST /training/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SLOW = {
    "a head without an end": (HEAD, 408),
    "a body without an end": (HEAD + b"Content-Length: 100\r\n\r\n{", 408),
    "chunks without an end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 408),
    "nothing": (b"", None),
}


@asynccontextmanager
async def served(token: str | None = None) -> AsyncIterator[tuple[str, int]]:
    """A server on a free port."""
    listener = server.listen("127.0.0.1", 0)
    async with server.serving(build_api(FakeService(), Rules(token)).guard, listener):
        yield listener.getsockname()[:2]


async def status_of(reader: asyncio.StreamReader) -> int | None:
    """The status of the answer; None if the connection ends without one."""
    line = await asyncio.wait_for(reader.readline(), 20)
    return int(line.split()[1]) if line else None


@pytest.mark.parametrize(("sent", "status"), SLOW.values(), ids=SLOW.keys())
async def test_a_request_that_does_not_come_to_its_end_is_ended(monkeypatch, sent, status) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(server, "BODY_TIMEOUT_S", 0.2)
    async with served() as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(sent)
        assert await status_of(reader) == status
        rest = await asyncio.wait_for(reader.read(), 20)
        if status is not None:
            assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
        writer.close()


async def test_bytes_that_trickle_in_do_not_put_off_the_end(monkeypatch) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.3)
    async with served() as place:
        reader, writer = await asyncio.open_connection(*place)

        async def trickle() -> None:
            while True:
                writer.write(b"G")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await status_of(reader) == 408
        trickling.cancel()
        writer.close()


async def test_a_connection_that_is_used_again_has_its_limits_anew(monkeypatch) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.3)
    async with served() as place:
        reader, writer = await asyncio.open_connection(*place)
        for _ in range(3):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
            await asyncio.sleep(0.4)  # between requests it may wait longer than for a head
        writer.write(b"GET")
        assert await status_of(reader) == 408
        writer.close()


async def test_too_many_connections_end_the_oldest_that_asked_nothing(monkeypatch) -> None:
    monkeypatch.setattr(server, "most_connections", lambda: 4)
    async with served() as place, AsyncExitStack() as stack:
        url = f"http://{place[0]}:{place[1]}"
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, trust_env=False))
        assert (await client.get("/health")).status_code == 200
        idle = [await asyncio.open_connection(*place) for _ in range(12)]
        for reader, _ in idle[:8]:
            assert await asyncio.wait_for(reader.read(), 20) == b""
        assert (await client.get("/health")).status_code == 200
        for _, writer in idle:
            writer.close()


async def test_whoever_is_refused_holds_no_connection_open() -> None:
    async with served(TOKEN) as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await status_of(reader) == 401
        await asyncio.wait_for(reader.read(), 20)
        writer.close()


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
runpy.run_module("ktrdr_mcp", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
@pytest.mark.slow
async def test_a_training_completes_while_a_stranger_holds_all_the_connections_it_can(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "token"
    secret.write_text(TOKEN, encoding="ascii")
    options = ("--workspace", str(tmp_path), "serve", "--port", "0", "--token-file", str(secret))
    with (tmp_path / "errors").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LIMITED, *options, stderr=errors
        )
    try:
        place = tmp_path / ".ktrdr" / "lab.json"
        await asyncio.to_thread(wait_until, place.exists)
        url = json.loads(place.read_bytes())["url"]
        host, port = url.removeprefix("http://").split(":")
        strangers = [await asyncio.open_connection(host, int(port)) for _ in range(600)]
        head = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(base_url=url, trust_env=False, headers=head) as client:
            config = {"epochs": 2, "walk_forward": None}
            body = {"symbol": "AAPL", "timeframe": "1h", "task_id": "t", "config": config}
            assert (await client.post("/training/start", json=body, timeout=60)).status_code == 200
            ended = await client.get("/training/t?wait_s=50", timeout=60)
            assert ended.json()["status"] == "completed", ended.json()
            saved = await client.post(
                "/models/save", json={"task_id": "t", "model_name": "m"}, timeout=60
            )
            assert saved.status_code == 200, saved.json()
        for _, writer in strangers:
            writer.close()
    finally:
        process.terminate()
        await process.wait()
    assert b"Too many open files" not in (tmp_path / "errors").read_bytes()


REFUSED = HEAD + b"Content-Length: 4000000\r\n\r\n"


async def test_a_refusal_reaches_a_client_that_goes_on_sending() -> None:
    async with served() as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(REFUSED)
        assert await status_of(reader) == 413
        writer.write(b" " * 4_000_000)
        await asyncio.wait_for(writer.drain(), 20)
        rest = await asyncio.wait_for(reader.read(), 20)
        assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_large"
        writer.close()
        await writer.wait_closed()


async def send_for_ever(writer: asyncio.StreamWriter) -> None:
    """Sends until the connection breaks."""
    while True:
        writer.write(b" " * 65_536)
        await writer.drain()


async def test_a_refused_client_that_never_stops_sending_is_cut_off(monkeypatch) -> None:
    monkeypatch.setattr(server, "LINGER_BYTES", 100_000)
    async with served() as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(REFUSED)
        assert await status_of(reader) == 413
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionError):
                await send_for_ever(writer)
        writer.close()


async def test_a_refused_client_that_keeps_its_connection_is_cut_off(monkeypatch) -> None:
    monkeypatch.setattr(server, "LINGER_TIMEOUT_S", 0.1)
    gone: asyncio.Event = asyncio.Event()
    real = server.Protocol.connection_lost

    def lost(self: server.Protocol, error: Exception | None) -> None:
        real(self, error)
        gone.set()

    monkeypatch.setattr(server.Protocol, "connection_lost", lost)
    async with served() as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(REFUSED)
        assert await status_of(reader) == 413
        await asyncio.wait_for(gone.wait(), 20)
        writer.close()
