"""Who counts as a client of a server that ends when it has none."""

from __future__ import annotations

import asyncio
import time

import httpx2
import pytest

from ktrdr_mcp.api.client import ServiceClient
from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules
from ktrdr_mcp.api.http.presence import Activity, owner_routes
from ktrdr_mcp.api.http.server import listen, serving, url_of
from ktrdr_mcp.errors import Draining, LabUnavailable
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.asgi_requests import TOKEN
from tests.support.fake_service import FakeService

pytestmark = pytest.mark.asyncio

ALL_TASKS = parse(requests.ListTasks, {})


class Owner:
    """A fake server behind the routes that its owner adds."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.closing = asyncio.Event()
        self.stopped = asyncio.Event()
        routes = owner_routes(self.closing, self.stopped.set)
        self.door = build_api(self.service, Rules(TOKEN), routes).guard
        self.door.app = self.activity = Activity(self.door.app)
        self.listener = listen("127.0.0.1", 0)
        self.place = DaemonAddress(url_of(self.listener), TOKEN)

    def serving(self):
        return serving(self.door, self.listener)


async def test_a_ping_is_a_request_that_starts_the_idle_time_anew() -> None:
    owner = Owner()
    async with owner.serving(), ServiceClient(lambda: owner.place) as remote:
        assert owner.activity.idle_s > 0
        before = time.monotonic()
        await remote.ping(owner.place)
        assert 0 < owner.activity.idle_s <= time.monotonic() - before


async def test_a_client_of_an_older_version_holds_a_stream_that_counts_until_the_owner_ends() -> (
    None
):
    owner = Owner()
    head = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        owner.serving(),
        httpx2.AsyncClient(trust_env=False, headers=head) as client,
        client.stream("GET", f"{owner.place.url}/presence") as stream,
    ):
        signs = stream.aiter_raw()
        assert await anext(signs)
        assert owner.activity.idle_s == 0
        owner.closing.set()
        assert [sign async for sign in signs] == []
    assert owner.activity.idle_s > 0


async def test_whoever_has_no_token_is_no_client_and_cannot_end_it() -> None:
    owner = Owner()
    stranger = DaemonAddress(owner.place.url, "a guess")
    async with owner.serving(), ServiceClient(lambda: stranger) as remote:
        idle_s = owner.activity.idle_s
        await remote.ping(stranger)
        assert owner.activity.idle_s > idle_s
        with pytest.raises(Exception, match="token"):
            await remote.stop()
    assert not owner.stopped.is_set()


async def test_a_server_ends_when_it_is_asked_to() -> None:
    owner = Owner()
    async with owner.serving(), ServiceClient(lambda: owner.place) as remote:
        await remote.stop()
    assert owner.stopped.is_set()


async def test_a_call_that_meets_an_ending_server_goes_to_the_next() -> None:
    first, second = Owner(), Owner()
    places = [first.place, second.place]
    searches = []

    async def find() -> DaemonAddress:
        searches.append(places[len(searches)])
        return searches[-1]

    async with first.serving(), second.serving(), ServiceClient(lambda: None, find) as remote:
        assert await remote.list_training_tasks(ALL_TASKS)
        first.door.closed = True
        calls = [remote.list_training_tasks(ALL_TASKS) for _ in range(5)]
        assert len(await asyncio.gather(*calls)) == 5
        assert [name for name, _ in first.service.calls] == ["list_training_tasks"]
        assert len(second.service.calls) == 5
        second.door.closed = True
        places += [second.place] * 5
        with pytest.raises(Draining):
            await remote.list_training_tasks(ALL_TASKS)


async def test_a_server_that_is_gone_is_looked_for_once_for_each_call() -> None:
    gone = Owner()
    gone.listener.close()
    searches = []

    async def find() -> DaemonAddress:
        searches.append(gone.place)
        return gone.place

    async with ServiceClient(lambda: None, find) as remote:
        with pytest.raises(LabUnavailable) as told:
            await remote.list_training_tasks(ALL_TASKS)
    assert "the next call starts it again" in told.value.hint
    assert len(searches) == 2  # to find it at all, and when it did not answer
