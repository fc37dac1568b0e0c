"""The server in another process answers as one in this process would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ktrdr_mcp import files
from ktrdr_mcp.api.client import POLLS_AT_ONCE, ServiceClient
from ktrdr_mcp.api.http.app import HttpApi, build_api
from ktrdr_mcp.api.http.guard import Rules
from ktrdr_mcp.api.http.server import listen, serving, url_of
from ktrdr_mcp.errors import KtrdrError, LabUnavailable
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import OnProgress, ServiceProtocol
from tests.support import sample_replies
from tests.support.asgi_requests import TOKEN
from tests.support.fake_service import FakeService, every_error_class
from tests.support.service_calls import card_of, history_of, names_of, strategy_of

pytestmark = pytest.mark.asyncio

TASK = {"task_id": sample_replies.UUID}
MODEL = {"model_name": "alpha"}
START = {
    "symbol": "AAPL",
    "timeframe": "1h",
    "config": {"epochs": 3, "early_stopping": {"patience": 5}, "lr_scheduler": None},
}
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "start_training": (requests.StartTraining, START),
    "get_training_status": (requests.GetTrainingStatus, {**TASK, "wait_s": 0.5}),
    "get_model_performance": (requests.TaskOnly, TASK),
    "save_trained_model": (requests.SaveModel, {**TASK, **MODEL, "description": "ä"}),
    "load_trained_model": (requests.LoadModel, MODEL),
    "test_model_prediction": (
        requests.Predict,
        {**MODEL, "symbol": "EURUSD=X", "timeframe": "1h", "test_date": "2025-06-09"},
    ),
    "list_trained_models": (requests.ListModels, {"symbol": "BRK.B^"}),
    "list_training_tasks": (requests.ListTasks, {"status": "failed", "offset": 3}),
    "cancel_training": (requests.TaskOnly, TASK),
    "get_market_data_summary": (requests.SummarizeData, {"limit": 7}),
}


@asynccontextmanager
async def served(api: HttpApi) -> AsyncIterator[DaemonAddress]:
    """The API on a real socket."""
    listener = listen("127.0.0.1", 0)
    async with serving(api.guard, listener):
        yield DaemonAddress(url_of(listener), api.guard.rules.token)


@pytest.fixture(scope="module")
def locked_api() -> tuple[FakeService, HttpApi]:
    """An API with a token."""
    service = FakeService()
    return service, build_api(service, Rules(TOKEN))


@pytest.fixture
def remote_api(locked_api: tuple[FakeService, HttpApi]) -> tuple[FakeService, HttpApi]:
    """The same, with nothing asked yet."""
    locked_api[0].reset()
    return locked_api


def as_service(service: ServiceClient) -> ServiceProtocol:
    """A type checker proves that it fits the protocol."""
    return service


async def test_every_use_case_reaches_the_owner_as_it_was_asked(remote_api) -> None:
    fake, api = remote_api
    async with served(api) as place, ServiceClient(lambda: place) as remote:
        for name, (model, raw) in CALLS.items():
            request = parse(model, raw)
            assert await getattr(remote, name)(request) == fake.replies[name]
            called, argument = fake.calls.pop()
            assert (called, argument.model_dump()) == (name, request.model_dump())
            if name == "start_training":
                left_out = request.model_dump(exclude_unset=True)
                assert argument.model_dump(exclude_unset=True) == left_out
    assert fake.calls == []


async def test_documents_and_names_are_the_owners(remote_api) -> None:
    fake, api = remote_api
    async with served(api) as place, ServiceClient(lambda: place) as remote:
        identifier = sample_replies.UUID
        told = await history_of(remote, identifier)
        assert told == await history_of(fake, identifier)
        assert await card_of(remote, "alpha") == await card_of(fake, "alpha")
        assert await strategy_of(remote, "default") == await strategy_of(fake, "default")
        for kind, prefix in (("symbol", ""), ("strategy", "d"), ("task_id", "task")):
            assert await names_of(remote, kind, prefix) == await names_of(fake, kind, prefix)


async def test_an_error_of_the_owner_is_the_same_error_here(remote_api) -> None:
    fake, api = remote_api
    first_of_code: dict[str, type[KtrdrError]] = {KtrdrError.code: KtrdrError}
    async with served(api) as place, ServiceClient(lambda: place) as remote:
        for kind in every_error_class():
            fake.failure = kind("Something is wrong.", hint="Do that.", field="config.epochs")
            with pytest.raises(KtrdrError) as raised:
                await remote.list_trained_models(parse(requests.ListModels, {}))
            assert raised.value.to_dict() == fake.failure.to_dict()
            assert type(raised.value) is first_of_code.setdefault(kind.code, kind)


class TrainingService(FakeService):
    """Has one task, which ends once its thirteenth epoch has been seen."""

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        if request.wait_s == 0:
            return sample_replies.status(12)
        await on_progress(sample_replies.status(13))
        await self.finished.wait()
        return sample_replies.status(100, state="completed")


async def test_progress_is_told_while_a_caller_waits() -> None:
    service = TrainingService()
    service.finished = asyncio.Event()
    told = []

    async def on_progress(status: responses.TrainingStatus) -> None:
        told.append(status.current_epoch)
        if status.current_epoch == 13:
            service.finished.set()

    request = parse(requests.GetTrainingStatus, {**TASK, "wait_s": 50.0})
    async with served(build_api(service, Rules())) as place, ServiceClient(lambda: place) as remote:
        status = await remote.get_training_status(request, on_progress)
    assert told == [12, 13]
    assert status == sample_replies.status(100, state="completed")


async def test_a_wait_ends_when_its_time_is_over(remote_api) -> None:
    fake, api = remote_api
    request = parse(requests.GetTrainingStatus, {**TASK, "wait_s": 0.05})

    async def on_progress(status) -> None:
        pass

    async with served(api) as place, ServiceClient(lambda: place) as remote:
        status = await remote.get_training_status(request, on_progress)
    assert status == fake.replies["get_training_status"]


class SlowService(FakeService):
    """Answers polls once all that it lets in at a time have come, and waiting callers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = self.most = 0
        self.gate = asyncio.Condition()

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        if request.wait_s == 0:
            async with self.gate:
                self.inside += 1
                self.most = max(self.most, self.inside)
                self.gate.notify_all()
                await self.gate.wait_for(lambda: self.most == POLLS_AT_ONCE)
                self.inside -= 1
        return sample_replies.status(12)


async def test_a_burst_of_polls_takes_turns_on_a_few_connections() -> None:
    service = SlowService()
    poll = parse(requests.GetTrainingStatus, TASK)
    async with served(build_api(service, Rules())) as place, ServiceClient(lambda: place) as remote:
        burst = [remote.get_training_status(poll) for _ in range(5 * POLLS_AT_ONCE)]
        statuses = await asyncio.gather(*burst)
    assert statuses == [sample_replies.status(12)] * len(burst)
    assert service.most == POLLS_AT_ONCE


async def test_polls_that_hang_hold_up_no_other_call() -> None:
    service = SlowService()
    poll = parse(requests.GetTrainingStatus, TASK)
    wait = parse(requests.GetTrainingStatus, {**TASK, "wait_s": 50.0})
    async with served(build_api(service, Rules())) as place, ServiceClient(lambda: place) as remote:
        hanging = [
            asyncio.create_task(remote.get_training_status(poll)) for _ in range(POLLS_AT_ONCE - 1)
        ]
        assert (await remote.get_training_status(wait)).current_epoch == 12
        assert (await remote.list_training_tasks(parse(requests.ListTasks, {}))).tasks
        assert not any(task.done() for task in hanging)
        await asyncio.gather(*hanging, remote.get_training_status(poll))


async def test_an_owner_that_is_gone_is_a_clear_error(remote_api) -> None:
    _, api = remote_api
    async with served(api) as place:
        pass
    async with ServiceClient(lambda: place) as remote:
        with pytest.raises(LabUnavailable, match="does not answer") as raised:
            await remote.list_trained_models(parse(requests.ListModels, {}))
    assert raised.value.hint
    assert TOKEN not in str(raised.value)


async def test_an_owner_without_an_address_is_a_clear_error() -> None:
    async with ServiceClient(lambda: None) as remote:
        with pytest.raises(LabUnavailable, match="where it is"):
            await remote.health()


async def test_an_owner_that_moved_is_found_again(remote_api) -> None:
    _, api = remote_api
    places: list[DaemonAddress] = []
    async with served(api) as first:
        places.append(first)
        async with ServiceClient(lambda: places[-1]) as remote:
            await remote.health()
            async with served(api) as second:
                places.append(second)
                line = remote._connection
                line.address = DaemonAddress("http://127.0.0.1:9", TOKEN)  # nobody listens there
                assert (await remote.health()).status == "ok"
                line.address = DaemonAddress(first.url, "the token of a process before")
                assert (await remote.health()).status == "ok"


async def test_something_else_at_the_address_is_a_clear_error() -> None:
    async def stranger(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 x\r\ncontent-length: 5\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        ServiceClient(lambda: DaemonAddress(f"http://127.0.0.1:{port}", None)) as remote,
    ):
        with pytest.raises(LabUnavailable, match="something else"):
            await remote.health()


async def test_the_address_is_for_its_user_alone_and_never_printed(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    place = DaemonAddress("http://127.0.0.1:1234", TOKEN)
    address.write(workspace, place)
    path = tmp_path / ".ktrdr" / "lab.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert address.read(workspace) == place
    assert TOKEN not in repr(place)
    address.remove(workspace)
    address.remove(workspace)
    assert address.read(workspace) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2, "url": "x"}', b'{"format": 1}', b"\xff" * 100_000],
)
async def test_an_address_that_cannot_be_read_is_none(tmp_path, content) -> None:
    files.replace(tmp_path / ".ktrdr" / "lab.json", content)
    assert address.read(Workspace(tmp_path)) is None
