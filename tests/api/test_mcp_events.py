"""Clients that listen are told of changes, whoever made them, and of nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp.client import Client
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated

from ktrdr_mcp.api.mcp import events
from ktrdr_mcp.api.mcp.tools import build_server
from ktrdr_mcp.errors import LabUnavailable
from ktrdr_mcp.schemas import requests, responses
from tests.support import sample_replies
from tests.support.fake_service import FakeService

pytestmark = pytest.mark.asyncio

TASK = f"training://{sample_replies.UUID}"


class Changing(FakeService):
    """Has one task that trains, and says when it was looked at."""

    def reset(self) -> None:
        super().reset()
        self.epoch = 1
        self.state = "training"
        self.looks = asyncio.Semaphore(0)
        self.readings = 0

    async def list_training_tasks(self, request: requests.ListTasks) -> responses.TaskList:
        self.looks.release()  # an earlier look is over
        update = {"status": self.state, "task_id": sample_replies.UUID, "progress": self.epoch}
        row = sample_replies.TASKS.tasks[0].model_copy(update=update)
        return responses.TaskList(tasks=[row], returned=1, has_more=False)

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: Any = None
    ) -> responses.TrainingStatus:
        return sample_replies.status(self.epoch, self.state)

    async def looked_at_twice(self) -> None:
        for _ in range(2):
            await asyncio.wait_for(self.looks.acquire(), 20)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Changing:
    monkeypatch.setattr(events, "LOOK_INTERVAL_S", 0.01)
    return Changing()


async def test_a_task_that_gets_on_or_ends_is_told_at_its_address(service: Changing) -> None:
    async with (
        Client(build_server(service)) as client,
        client.listen(resource_subscriptions=[TASK]) as changes,
    ):
        await service.looked_at_twice()
        service.epoch = 2
        assert await asyncio.wait_for(anext(aiter(changes)), 20) == ResourceUpdated(uri=TASK)
        service.state = "completed"
        assert await asyncio.wait_for(anext(aiter(changes)), 20) == ResourceUpdated(uri=TASK)


async def test_a_saved_model_and_a_new_strategy_change_the_lists(service: Changing) -> None:
    async with (
        Client(build_server(service)) as client,
        client.listen(resources_list_changed=True) as changes,
    ):
        for kind in ("model_name", "strategy"):
            await service.looked_at_twice()
            service.names[kind] = [*service.names[kind], "gamma"]
            assert await asyncio.wait_for(anext(aiter(changes)), 20) == ResourcesListChanged()


async def test_nothing_is_looked_at_once_nobody_listens(service: Changing) -> None:
    server = build_server(service)
    async with Client(server) as client:
        async with client.listen(resource_subscriptions=[TASK]):
            await service.looked_at_twice()
        following = [task for task in asyncio.all_tasks() if task.get_name() == "service-events"]
        await asyncio.wait_for(asyncio.gather(*following, return_exceptions=True), 20)


async def test_listening_goes_on_when_the_service_comes_back(service: Changing) -> None:
    async with (
        Client(build_server(service)) as client,
        client.listen(resource_subscriptions=[TASK]) as changes,
    ):
        await service.looked_at_twice()
        service.failure = LabUnavailable("It is away.", hint="Wait.")
        await service.looked_at_twice()
        service.failure, service.epoch = None, 9
        assert await asyncio.wait_for(anext(aiter(changes)), 20) == ResourceUpdated(uri=TASK)


async def test_looking_reads_no_test_results(service: Changing) -> None:
    await events.look(service)
    assert {name for name, _ in service.calls} <= {"complete", "get_available_strategies"}
