"""A request reaches the server that it is meant for, or none; one that is stuck is named."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ktrdr_mcp import daemon
from ktrdr_mcp.api import client
from ktrdr_mcp.api.client import Connection, ServiceClient
from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules
from ktrdr_mcp.api.http.presence import Prover
from ktrdr_mcp.api.http.server import listen, serving, url_of
from ktrdr_mcp.daemon import connection
from ktrdr_mcp.errors import LabUnavailable, Unauthorized, WorkspaceLocked
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.address import MAX_PID, DaemonAddress
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses, service
from ktrdr_mcp.schemas.parsing import parse
from tests.support.asgi_requests import LOCAL, ask
from tests.support.fake_service import FakeService

pytestmark = pytest.mark.asyncio

START = parse(requests.StartTraining, {"symbol": "AAPL", "timeframe": "1h"})
ALL_TASKS = parse(requests.ListTasks, {})


@asynccontextmanager
async def served(
    service: FakeService, instance: str, listener: socket.socket | None = None
) -> AsyncIterator[DaemonAddress]:
    """A server without a token."""
    listener = listener or listen("127.0.0.1", 0)
    async with serving(build_api(service, Rules(instance=instance)).guard, listener):
        yield DaemonAddress(url_of(listener), None, instance=instance)


@asynccontextmanager
async def mute(answer: bytes = b"") -> AsyncIterator[tuple[str, list[str]]]:
    """Somebody who takes every request and never says more than this: where, and what came."""
    came: list[str] = []
    visits: list[asyncio.Task[None]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(asyncio.current_task())
        came.append((await reader.readline()).decode().split(" HTTP")[0])
        if answer:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        else:
            await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    await asyncio.gather(*visits, return_exceptions=True)


@pytest.fixture
def absent_process() -> int:
    """A number that no process can have, so that none can take it meanwhile."""
    return MAX_PID


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SIGN_INTERVAL_S", 0.05)
    monkeypatch.setattr(client, "SIGN_TIMEOUT_S", 0.05)
    monkeypatch.setattr(client, "READ_TIMEOUT_S", 0.05)


async def test_a_training_never_begins_in_the_server_that_took_over_a_port() -> None:
    ours, theirs, next_of_ours = FakeService(), FakeService(), FakeService()
    places: list[DaemonAddress] = []

    async def find() -> DaemonAddress:
        return places[-1]

    async with ServiceClient(lambda: None, find) as service, served(next_of_ours, "c") as third:
        listener = listen("127.0.0.1", 0)
        same_port = listener.dup()  # keeps the port from everybody else
        async with served(ours, "a", listener) as first:
            places.append(first)
            await service.list_training_tasks(ALL_TASKS)
        async with served(theirs, "b", same_port):
            with pytest.raises(Unauthorized, match="another server"):
                await service.start_training(START)
            places.append(third)
            assert await service.start_training(START)
    assert theirs.calls == []
    assert [name for name, _ in ours.calls] == ["list_training_tasks"]
    assert [name for name, _ in next_of_ours.calls] == ["start_training"]


async def test_only_clients_that_mean_another_server_are_sent_away() -> None:
    door = build_api(FakeService(), Rules(instance="a")).guard
    for said, status in {(): 200, ("a",): 200, ("b",): 401, ("a", "a"): 401, ("",): 401}.items():
        head = [LOCAL, *((service.INSTANCE, each) for each in said)]
        assert (await ask(door, "GET", "/health", head)).status == status


async def test_a_stuck_server_is_named_and_one_that_died_is_not_called_alive(
    absent_process,
) -> None:
    async with mute() as (url, _):
        for pid, words in ((os.getpid(), "alive but does not answer"), (absent_process, "Timeout")):
            place = DaemonAddress(url, None, pid=pid)
            async with ServiceClient(lambda place=place: place) as service:
                with pytest.raises(LabUnavailable, match=words) as told:
                    await service.health()
                assert (f"end process {pid}" in told.value.hint) == (pid == os.getpid())
                waiting = {"task_id": "t", "wait_s": 0.05}
                with pytest.raises(LabUnavailable, match=words):
                    await service.get_training_status(parse(requests.GetTrainingStatus, waiting))


async def test_a_training_is_not_awaited_from_a_server_that_got_stuck() -> None:
    async with mute() as (url, came), ServiceClient(lambda: DaemonAddress(url, None)) as service:
        with pytest.raises(LabUnavailable, match="alive but does not answer") as told:
            await service.start_training(START)
        assert "list_training_tasks" in told.value.hint
    assert came == ["POST /training/start", "GET /health"]


class SlowService(FakeService):
    """Starts a training when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_start = asyncio.Event(), asyncio.Event()

    async def start_training(self, request: requests.StartTraining) -> responses.TrainingStarted:
        self.asked.set()
        await self.may_start.wait()
        return self.answer("start_training", request)


async def test_a_long_wait_ends_when_the_server_got_stuck() -> None:
    waiting = parse(requests.GetTrainingStatus, {"task_id": "t", "wait_s": 50})
    async with mute() as (url, came), ServiceClient(lambda: DaemonAddress(url, None)) as service:
        with pytest.raises(LabUnavailable, match="alive but does not answer"):
            await asyncio.wait_for(service.get_training_status(waiting), 60)
        with pytest.raises(LabUnavailable, match="alive but does not answer"):
            await asyncio.wait_for(
                service.get_market_data_summary(parse(requests.SummarizeData, {})), 60
            )
    assert came.count("GET /health") == 2


async def test_a_call_that_breaks_leaves_those_that_wait_on_the_same_connections(
    monkeypatch,
) -> None:
    service = SlowService()
    async with served(service, "a") as place, mute() as (url, _):
        places = [place, *[DaemonAddress(url, None)] * 8]

        async def find() -> DaemonAddress:
            return places.pop(0)

        async with ServiceClient(lambda: None, find) as line:
            monkeypatch.setattr(client, "SIGN_INTERVAL_S", 60)
            starting = asyncio.create_task(line.start_training(START))
            await service.asked.wait()
            line._connection.address = None
            while places:
                with pytest.raises(LabUnavailable):
                    await line.health()
            service.may_start.set()
            assert (await starting).success


async def test_a_slow_answer_is_awaited_while_the_service_gives_signs_of_life(
    monkeypatch,
) -> None:
    service, signs, sign = SlowService(), [], Connection._sign

    async def signed(connection: Connection, owner: DaemonAddress) -> None:
        await sign(connection, owner)
        signs.append(owner)
        if len(signs) == 3:
            service.may_start.set()

    monkeypatch.setattr(client, "SIGN_TIMEOUT_S", 20.0)
    monkeypatch.setattr(Connection, "_sign", signed)
    async with served(service, "a") as place, ServiceClient(lambda: place) as line:
        assert (await line.start_training(START)).success
    assert signs == [place] * len(signs)


async def test_a_call_that_is_given_up_is_withdrawn() -> None:
    service = SlowService()
    async with served(service, "a") as place, ServiceClient(lambda: place) as line:
        starting = asyncio.create_task(line.start_training(START))
        await service.asked.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert [task.get_name() for task in asyncio.all_tasks() if "post" in repr(task)] == []
        service.may_start.set()


async def test_the_address_of_a_workspace_that_nobody_owns_is_not_asked(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    async with mute() as (url, came):
        address.write(workspace, DaemonAddress(url, None, kind="detached"))
        assert await connection.find_usable(workspace) is None
        assert came == []


async def test_an_owner_that_gives_no_sign_is_given_up_and_can_not_be_ended(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(connection, "STOP_TIMEOUT_S", 0.2)
    workspace = Workspace(tmp_path)
    async with mute() as (url, came):
        with daemon.ownership(workspace):
            address.write(workspace, DaemonAddress(url, None, kind="detached"))
            with pytest.raises(LabUnavailable, match="alive but does not answer"):
                await connection.find_or_launch(workspace)
            assert came == ["GET /health"]
            with pytest.raises(LabUnavailable, match="alive but does not answer"):
                await daemon.stop_daemon(workspace)
            assert came.count("POST /lab/stop") > 1
            with (
                pytest.raises(WorkspaceLocked, match=str(os.getpid())) as locked,
                daemon.ownership(workspace),
            ):
                pass
            assert "ktrdr-mcp lab stop" in locked.value.hint


@pytest.mark.parametrize("answer", [b"\r\n", b"HTTP/1.1 404 no\r\ncontent-length: 2\r\n\r\nno"])
async def test_after_a_call_that_broke_the_next_one_looks_first(answer) -> None:
    service = FakeService()
    async with mute(answer) as (url, came), served(service, "a") as second:
        places = [DaemonAddress(url, None), second]

        async def find() -> DaemonAddress:
            return places.pop(0)

        async with ServiceClient(lambda: None, find) as line:
            with pytest.raises(LabUnavailable):
                await line.start_training(START)
            assert service.calls == []
            assert await line.start_training(START)
    assert came == ["POST /training/start"]
    assert len(service.calls) == 1


def with_secret(place: DaemonAddress, secret: str) -> DaemonAddress:
    """The address of an owner that says that it can prove itself."""
    return replace(place, token="the token", secret=secret)


async def test_no_token_goes_to_whoever_cannot_prove_that_it_wrote_the_address() -> None:
    heard: list[bytes] = []
    visits: list[asyncio.Task[None]] = []

    async def listen_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(asyncio.current_task())
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"proof": "' + b"0" * 64 + b'"}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        heard.append(await reader.read())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(listen_only, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        place = with_secret(DaemonAddress(url, None, instance="a"), "the secret")
        async with ServiceClient(lambda: place) as line:
            with pytest.raises(LabUnavailable):
                await line.start_training(START)
            with pytest.raises(LabUnavailable):
                await line.health()
    await asyncio.gather(*visits)
    said = b"".join(heard)
    assert said.count(b"GET /lab/proof?") == 2 or said.count(b"GET /lab/proof?") == 3
    assert b"the token" not in said
    assert b"the secret" not in said
    assert b"POST" not in said


async def test_every_connection_is_proven_and_then_carries_the_calls() -> None:
    service, listener = FakeService(), listen("127.0.0.1", 0)
    door = Prover(build_api(service, Rules("the token", instance="a")).guard, "the secret")
    async with serving(door, listener):
        place = DaemonAddress(url_of(listener), None, instance="a")
        async with ServiceClient(lambda: with_secret(place, "the secret")) as line:
            assert await line.start_training(START)
            assert await asyncio.gather(*(line.list_training_tasks(ALL_TASKS) for _ in range(9)))
        async with ServiceClient(lambda: with_secret(place, "another")) as line:
            with pytest.raises(LabUnavailable):
                await line.start_training(START)
    assert [name for name, _ in service.calls].count("start_training") == 1


async def test_a_challenge_is_answered_without_the_token_and_tells_nothing_else() -> None:
    door = Prover(build_api(FakeService(), Rules("the token")).guard, "the secret")
    challenge = "ab" * 16
    answer = await ask(door, "GET", f"/lab/proof?{challenge}", [LOCAL])
    proof = hmac.new(b"the secret", challenge.encode(), "sha256").hexdigest()
    assert json.loads(answer.body) == {"proof": proof}
    for malformed in ("", "?", "?short", "?" + "g" * 32, "?" + "a" * 65):
        assert (await ask(door, "GET", f"/lab/proof{malformed}", [LOCAL])).status == 401
