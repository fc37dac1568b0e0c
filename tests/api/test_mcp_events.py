"""Clients that listen are told of changes, whoever made them, and of nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from mcp.client import Client
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.types import ResourceListChangedNotification

from ktrdr_mcp.api.mcp import events
from ktrdr_mcp.api.mcp.server import build_server
from ktrdr_mcp.errors import LabUnavailable
from ktrdr_mcp.schemas import requests, responses
from tests.support.fake_service import FakeService

pytestmark = pytest.mark.asyncio

TASK = "training://some_task"
BOUND_S = 20


class Changing(FakeService):
    """Has resources in states that a test sets, and says when it was asked for them."""

    def reset(self) -> None:
        super().reset()
        self.asked: asyncio.Queue[requests.ReadResourceStates] = asyncio.Queue()
        self.changed = asyncio.Event()
        self.state, self.lists = "1", "1"

    def change(self, state: str | None = None, lists: str | None = None) -> None:
        self.state, self.lists = state or self.state, lists or self.lists
        self.changed.set()

    async def resource_states(
        self, request: requests.ReadResourceStates
    ) -> responses.ResourceStates:
        self.asked.put_nowait(request)
        if self.failure is not None:
            raise self.failure
        if request.mark == f"{self.state} {self.lists}":
            self.changed.clear()
            await self.changed.wait()
        states = dict.fromkeys(request.addresses, self.state)
        mark = f"{self.state} {self.lists}"
        return responses.ResourceStates(states=states, lists=self.lists, mark=mark)

    async def is_followed(self, *addresses: str) -> None:
        """Returns once somebody waits for these, whose states are known."""
        while True:
            request = await asyncio.wait_for(self.asked.get(), BOUND_S)
            if request.mark is not None and request.addresses == list(addresses):
                return


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Changing:
    monkeypatch.setattr(events, "PAUSE_S", 0.01)
    return Changing()


async def test_what_is_listened_to_is_told_at_its_address(service: Changing) -> None:
    async with (
        Client(build_server(service)) as client,
        client.listen(resource_subscriptions=[TASK]) as changes,
    ):
        for state in ("2", "3"):
            await service.is_followed(TASK)
            service.change(state)
            found = await asyncio.wait_for(anext(aiter(changes)), BOUND_S)
            assert found == ResourceUpdated(uri=TASK)


async def test_a_second_listener_adds_its_addresses_without_false_news(service: Changing) -> None:
    async with (
        Client(build_server(service)) as client,
        client.listen(resource_subscriptions=[TASK]) as changes,
    ):
        await service.is_followed(TASK)
        async with client.listen(resource_subscriptions=["model://alpha"]) as others:
            await service.is_followed("model://alpha", TASK)
            service.change("2")
            assert await asyncio.wait_for(anext(aiter(others)), BOUND_S) == ResourceUpdated(
                uri="model://alpha"
            )
        assert await asyncio.wait_for(anext(aiter(changes)), BOUND_S) == ResourceUpdated(uri=TASK)


async def test_changed_lists_are_told_to_who_listens(service: Changing) -> None:
    async with (
        Client(build_server(service)) as client,
        client.listen(resources_list_changed=True) as changes,
    ):
        await service.is_followed()
        service.change(lists="2")
        assert await asyncio.wait_for(anext(aiter(changes)), BOUND_S) == ResourcesListChanged()


@asynccontextmanager
async def shaking_hands(service: Changing) -> AsyncIterator[asyncio.Queue[object]]:
    """A client of the handshake era, and what it is told unasked."""
    told: asyncio.Queue[object] = asyncio.Queue()

    async def hear(message: object) -> None:
        told.put_nowait(message)

    async with Client(build_server(service), mode="legacy", message_handler=hear) as client:
        capabilities = client.server_capabilities
        assert capabilities.resources is not None
        assert (capabilities.resources.list_changed, capabilities.resources.subscribe) == (
            True,
            False,
        )
        assert capabilities.tools is not None
        assert not capabilities.tools.list_changed
        yield told


async def test_changed_lists_are_told_to_clients_of_the_handshake_era(service: Changing) -> None:
    async with shaking_hands(service) as told:
        await service.is_followed()
        service.change(lists="2")
        heard = await asyncio.wait_for(told.get(), BOUND_S)
        assert isinstance(heard, ResourceListChangedNotification)
    await nobody_follows()


async def test_nothing_is_followed_once_nobody_listens(service: Changing) -> None:
    async with Client(build_server(service)) as client:
        async with client.listen(resource_subscriptions=[TASK]):
            await service.is_followed(TASK)
        await nobody_follows()


async def nobody_follows() -> None:
    """Returns once every task that follows the service has ended."""
    names = {"service-events", "list-changes"}
    left = [task for task in asyncio.all_tasks() if task.get_name() in names]
    await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), BOUND_S)


async def test_a_service_that_no_longer_waits_is_not_asked_without_pause(
    service: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAUSE_S", 3_600)
    monkeypatch.setattr(service.changed, "clear", lambda: None)
    service.changed.set()  # it answers at once, as one that shuts down
    async with (
        Client(build_server(service)) as client,
        client.listen(resources_list_changed=True),
    ):
        await service.is_followed()
        for _ in range(100):
            await asyncio.sleep(0)
        assert service.asked.empty()


async def test_listening_goes_on_when_the_service_comes_back(service: Changing) -> None:
    async with (
        Client(build_server(service)) as client,
        client.listen(resource_subscriptions=[TASK]) as changes,
    ):
        await service.is_followed(TASK)
        service.failure = LabUnavailable("It is away.", hint="Wait.")
        service.change("2")  # which ends the wait before the failure
        assert await asyncio.wait_for(anext(aiter(changes)), BOUND_S) == ResourceUpdated(uri=TASK)
        await asyncio.wait_for(service.asked.get(), BOUND_S)
        service.failure = None
        service.change("3")
        assert await asyncio.wait_for(anext(aiter(changes)), BOUND_S) == ResourceUpdated(uri=TASK)
