"""One process owns a workspace; every other works through it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import httpx2
import pytest

from ktrdr_mcp import daemon
from ktrdr_mcp.api.client import ServiceClient
from ktrdr_mcp.api.http.guard import MAX_CHUNKS, Rules
from ktrdr_mcp.api.http.server import is_loopback, listen, url_of
from ktrdr_mcp.cli.serve import read_token
from ktrdr_mcp.daemon import connection
from ktrdr_mcp.errors import InvalidRequest, LabUnavailable, StorageError, WorkspaceLocked
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.asgi_requests import TOKEN
from tests.support.background_servers import wait_until
from tests.support.http_process import ServeProcess

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None}
START = {"symbol": "AAPL", "timeframe": "1h", "config": FOREVER}
ALL_TASKS = parse(requests.ListTasks, {})


async def test_a_signal_ends_the_server_in_mid_training_and_keeps_the_task(tmp_path) -> None:
    secret = tmp_path / "token"
    secret.write_text(f"{TOKEN}\n", encoding="ascii")
    options = ["--token-file", str(secret), "--allow-host", "backend"]
    with ServeProcess(tmp_path, *options) as first:
        async with client_of(first) as client:
            await only_the_token_opens(client)
            for task_id in ("one", "two"):
                started = await client.post("/training/start", json={**START, "task_id": task_id})
                assert started.status_code == 200
            waiting = asyncio.create_task(client.get("/training/one?wait_s=50"))
            async with client.stream("GET", "/training/one/events") as stream:
                lines = stream.aiter_lines()
                while not (await anext(lines)).startswith("id: 1"):
                    pass
                os.kill(first.process.pid, signal.SIGTERM)
                rest = [line async for line in lines]
            assert (await waiting).json()["status"] in {"training", "pending"}
        assert "event: end" not in rest
        assert await asyncio.to_thread(first.process.wait, 10) == 0
        assert "Traceback" not in first.log()
        assert TOKEN not in first.log()
    assert not (tmp_path / ".ktrdr" / "lab.json").exists()
    with ServeProcess(tmp_path) as second:
        async with client_of(second) as client:
            tasks = (await client.get("/training")).json()["tasks"]
            assert {task["status"] for task in tasks} <= {"pending", "training"}
            assert {task["task_id"] for task in tasks} == {"one", "two"}
        assert await asyncio.to_thread(second.end, signal.SIGINT) == 0


def client_of(server: ServeProcess) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=60)


async def only_the_token_opens(client: httpx2.AsyncClient) -> None:
    """Checks what `serve` was told about its visitors; leaves the token with the client."""
    assert (await client.get("/health")).status_code == 401
    client.headers["Authorization"] = f"Bearer {TOKEN}"
    backend = await client.get("/api/v1/health", headers={"Host": "backend:8000"})
    assert backend.status_code == 200
    assert (await client.get("/health", headers={"Host": "other"})).status_code == 421


async def test_another_process_works_through_the_owner(served) -> None:
    workspace = Workspace(served.workspace)
    async with daemon.connect(workspace, in_process=True) as service:
        assert isinstance(service, ServiceClient)
        started = await service.start_training(
            parse(requests.StartTraining, {**START, "task_id": "from-another-process"})
        )
        await service.cancel_training(parse(requests.TaskOnly, {"task_id": started.task_id}))
    async with client_of(served) as client:
        tasks = (await client.get("/training")).json()["tasks"]
    assert started.task_id in [task["task_id"] for task in tasks]


async def test_two_servers_on_one_workspace_are_refused_naming_the_owner(served) -> None:
    program = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(served.workspace)]
    second = await asyncio.to_thread(
        subprocess.run, [*program, "serve", "--port", "0"], capture_output=True, timeout=60
    )
    assert second.returncode == 3
    assert f"process {served.process.pid}".encode() in second.stderr
    assert b"Traceback" not in second.stderr


async def test_the_owner_in_this_process_is_reached_by_others_with_its_token(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    async with daemon.connect(workspace, in_process=True) as service:
        assert not isinstance(service, ServiceClient)
        place = address.read(workspace)
        async with httpx2.AsyncClient(base_url=place.url, trust_env=False) as client:
            assert (await client.get("/health")).status_code == 401
        async with daemon.connect(workspace, in_process=True) as other:
            assert isinstance(other, ServiceClient)
            started = await other.start_training(parse(requests.StartTraining, START))
            assert await other.list_training_tasks(ALL_TASKS)
            mine = await service.list_training_tasks(ALL_TASKS)
            assert [task.task_id for task in mine.tasks] == [started.task_id]
    assert address.read(workspace) is None
    async with ServiceClient(lambda: place) as orphan:
        with pytest.raises(LabUnavailable):
            await orphan.health()


@pytest.mark.skipif(sys.platform != "linux", reason="others have one loopback address only")
async def test_an_owner_that_listens_at_another_address_is_reached_there(tmp_path) -> None:
    workspace, rules = Workspace(tmp_path), Rules(token=TOKEN)
    listener = listen("127.0.0.2", 0)
    async with (
        daemon.serve_workspace(workspace, rules, listener, kind="serve"),
        daemon.connect(workspace, in_process=True) as other,
    ):
        assert isinstance(other, ServiceClient)
        assert "127.0.0.2" in address.read(workspace).url
        assert (await other.list_training_tasks(ALL_TASKS)).tasks == []


async def test_an_owner_whose_address_was_damaged_is_found_again(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    async with daemon.connect(workspace, in_process=True):
        address.file_of(workspace).write_bytes(b"{")
        async with daemon.connect(workspace, in_process=True) as other:
            assert (await other.list_training_tasks(ALL_TASKS)).tasks == []


async def test_an_address_that_cannot_be_taken_back_keeps_nobody_from_the_end(
    tmp_path, monkeypatch
) -> None:
    def fail(workspace: Workspace) -> None:
        raise StorageError("The disk failed.", hint="")

    workspace = Workspace(tmp_path)
    async with daemon.serve_workspace(workspace) as opened:
        monkeypatch.setattr(address, "remove", fail)
    assert address.read(workspace) == opened.place
    assert await connection.find_usable(workspace) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
async def test_a_signal_while_the_server_starts_ends_it_before_it_works(tmp_path) -> None:
    options = ("--workspace", str(tmp_path), "serve", "--port", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ktrdr_mcp", *options, stderr=asyncio.subprocess.PIPE
    )
    await asyncio.to_thread(wait_until, Workspace(tmp_path).database.exists)
    process.terminate()
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    (line,) = errors.splitlines()
    assert b"before any work began" in line


async def test_an_address_that_a_crash_left_misleads_nobody(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # nobody listens there, and nobody else can take it
        address.write(workspace, DaemonAddress(f"http://127.0.0.1:{port}", TOKEN, pid=1))
        async with daemon.connect(workspace, in_process=True) as service:
            assert not isinstance(service, ServiceClient)
            assert address.read(workspace).pid == os.getpid()


async def test_an_owner_that_never_says_where_it_is_is_given_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(connection, "START_TIMEOUT_S", 0.2)
    workspace = Workspace(tmp_path)
    with daemon.ownership(workspace), pytest.raises(WorkspaceLocked) as refused:
        async with daemon.connect(workspace, in_process=True):
            pass
    assert "--workspace" in refused.value.hint


async def test_an_owner_of_another_contract_is_named(tmp_path, monkeypatch) -> None:
    workspace = Workspace(tmp_path)
    async with daemon.connect(workspace, in_process=True):
        monkeypatch.setattr(connection, "CONTRACT_VERSION", "2.0")
        with pytest.raises(LabUnavailable, match=str(os.getpid())):
            async with daemon.connect(workspace, in_process=True):
                pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
async def test_an_address_beyond_this_machine_needs_a_token(tmp_path, host) -> None:
    assert not is_loopback(host)
    with pytest.raises(InvalidRequest, match="token"):
        await daemon.serve_http(Workspace(tmp_path), host=host)
    assert not (tmp_path / ".ktrdr").exists()


async def test_a_port_that_is_taken_is_named(tmp_path) -> None:
    taken = listen("127.0.0.1", 0)
    with taken, pytest.raises(InvalidRequest, match="in use"):
        await daemon.serve_http(Workspace(tmp_path), port=taken.getsockname()[1])


async def test_a_socket_on_every_address_is_reached_on_the_loopback() -> None:
    with listen("0.0.0.0", 0) as every:
        assert url_of(every).startswith("http://127.0.0.1:")
    with listen("localhost", 0) as local:
        assert local.proto == socket.IPPROTO_TCP
        assert local.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("content", [b"", b"short", b"two words of a token", b"\xff" * 32])
async def test_a_file_that_holds_no_token_is_refused(tmp_path, content) -> None:
    path = tmp_path / "token"
    with pytest.raises(InvalidRequest, match="No such file"):
        read_token(path)
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="token file"):
        read_token(path)


MALFORMED = {
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", 421),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 421),
    "no host, as HTTP/1.0 allows": (b"GET /health HTTP/1.0\r\n\r\n", 421),
    "no HTTP": (b"HELLO\r\n\r\n", 400),
    "a header without an end": (b"GET /health HTTP/1.1\r\nHost: " + b"a" * 66_000, 400),
    "two lengths": (
        b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        400,
    ),
    "chunks without number": (
        b"POST /training/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * (MAX_CHUNKS + 1),
        400,
    ),
    "chunks over the limit": (
        b"POST /training/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        # one byte too many: a server that closes while more is on its way resets the connection
        b"Transfer-Encoding: chunked\r\n\r\n" + b"80000\r\n" + b" " * 0x80000 + b"\r\n"
        b"80001\r\n" + b" " * 0x80001 + b"\r\n",
        413,
    ),
}


@pytest.mark.parametrize(("data", "status"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_hardly_http_gets_an_error_of_our_shape(served, data, status) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    assert int(head.split()[1]) == status
    [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    body = json.loads(await reader.readexactly(int(length.split(b":")[1])))
    assert body["success"] is False
    assert body["error"]["hint"]
    writer.close()
