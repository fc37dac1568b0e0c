"""The tasks extension over MCP: what clients that declare it get, and what the others do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
)

from ktrdr_mcp.errors import LabUnavailable, NotFound, StorageFull
from ktrdr_mcp.schemas import responses
from tests.support import sample_replies
from tests.support.mcp_clients import Connect
from tests.support.mcp_tasks import (
    EXTENSION,
    Detailed,
    FollowTasks,
    Listen,
    ListenParams,
    ask,
    begin,
)

pytestmark = pytest.mark.asyncio

START = {"symbol": "AAPL", "timeframe": "1h"}
HANDLE = sample_replies.HANDLE.handle


def ended(status: str, **more: Any) -> responses.FollowedTask:
    """What the service says of the handle once its task has ended."""
    outcome = sample_replies.STARTED.model_copy(update={"status": status, "progress": 40, **more})
    return at(sample_replies.status().model_copy(update={"status": status}), outcome)


def at(
    now: responses.TrainingStatus, outcome: responses.TrainingStarted | None = None
) -> responses.FollowedTask:
    """What the service says of the handle."""
    return sample_replies.FOLLOWED.model_copy(update={"now": now, "outcome": outcome})


@pytest.fixture
def declaring(service_and_server) -> Callable[..., Client]:
    """Makes a client that declares the extension."""
    return lambda *extensions, mode="auto": Client(
        service_and_server[1], mode=mode, extensions=extensions or (FollowTasks(),)
    )


async def test_a_declaring_client_gets_a_task_and_sees_where_it_stands(declaring, service) -> None:
    async with declaring() as client:
        assert EXTENSION in client.server_capabilities.extensions
        task = await begin(client, "start_training", **START)
        assert (task.task_id, task.status, task.ttl_ms) == (HANDLE, "working", None)
        service.replies["read_task_handle"] = at(sample_replies.status(7))
        state = await ask(client, "get", task.task_id)
    assert state["ttlMs"] is None
    assert {name: state[name] for name in ("resultType", "taskId", "status", "statusMessage")} == {
        "resultType": "complete",
        "taskId": HANDLE,
        "status": "working",
        "statusMessage": "epoch 7/100, val loss 0.981, val accuracy 0.41",
    }
    assert state["createdAt"] < state["lastUpdatedAt"]
    assert not {"result", "error", "inputRequests", "requestState"} & state.keys()


async def test_the_result_of_a_completed_training_is_the_reply_of_a_start(
    declaring, service
) -> None:
    outcome = ended("completed", performance=sample_replies.PERFORMANCE)
    service.replies["read_task_handle"] = outcome
    follower = FollowTasks()
    async with declaring(follower) as client:  # which also checks it against the tool's schema
        result = await client.call_tool("start_training", START)
    assert result.is_error is False
    assert result.structured_content == json.loads(result.content[0].text)
    assert result.structured_content["performance"]["verdict"]
    assert follower.seen[-1]["status"] == "completed"


async def test_a_failed_training_is_a_completed_task_with_an_error(declaring, service) -> None:
    service.replies["read_task_handle"] = ended(
        "failed", error="Loss is NaN.", error_code="diverged"
    )
    follower = FollowTasks()
    async with declaring(follower) as client:
        result = await client.call_tool("start_training", START)
    assert result.is_error is True
    assert result.structured_content["error_code"] == "diverged"
    assert (follower.seen[-1]["status"], "error" in follower.seen[-1]) == ("completed", False)


async def test_cancelling_cancels_the_training_and_its_task_has_no_result(
    declaring, service
) -> None:
    async with declaring() as client:
        assert (await ask(client, "cancel", HANDLE))["resultType"] == "complete"
        name, request = service.calls[-1]
        assert (name, request.task_id) == ("cancel_training", sample_replies.UUID)
        service.replies["read_task_handle"] = ended("cancelled")
        state = await ask(client, "get", HANDLE)
    assert state["status"] == "cancelled"
    assert not {"result", "error"} & state.keys()


async def test_answers_that_nobody_asked_for_are_acknowledged_and_change_nothing(
    declaring, service
) -> None:
    async with declaring() as client:
        answer = await ask(client, "update", HANDLE, inputResponses={"name": {"action": "accept"}})
    assert answer["resultType"] == "complete"
    assert [name for name, _ in service.calls] == ["read_task_handle"]


@pytest.mark.parametrize("method", ["get", "update", "cancel"])
async def test_unknown_and_malformed_ids_are_invalid_parameters(declaring, service, method) -> None:
    more = {"inputResponses": {}} if method == "update" else {}
    async with declaring() as client:
        service.failure = NotFound("No task was given this handle.", hint="Look.")
        for task_id in ("0" * 32, sample_replies.UUID, "", "../" * 9):
            with pytest.raises(MCPError) as refused:
                await ask(client, method, task_id, **more)
            assert refused.value.error.code == INVALID_PARAMS
        service.failure = LabUnavailable("The server is away.", hint="Try again.")
        with pytest.raises(MCPError) as refused:
            await ask(client, method, HANDLE, **more)
        assert refused.value.error.code == INTERNAL_ERROR


async def test_other_tools_and_refused_starts_are_answered_as_ever(declaring, service) -> None:
    async with declaring() as client:
        listed = await client.session.call_tool("list_training_tasks", {}, allow_claimed=True)
        refused = await client.session.call_tool("start_training", {}, allow_claimed=True)
    assert listed.structured_content["tasks"]
    assert refused.is_error
    assert [name for name, _ in service.calls] == ["list_training_tasks"]


async def test_a_start_that_waited_for_the_end_needs_no_task(declaring, service) -> None:
    service.replies["start_training"] = ended("completed").outcome
    async with declaring() as client:
        result = await client.session.call_tool(
            "start_training", {**START, "wait_s": 50}, allow_claimed=True
        )
    assert result.structured_content["status"] == "completed"


async def test_a_training_without_a_handle_runs_and_says_how_to_follow_it(
    declaring, service, monkeypatch
) -> None:
    async def full(request: object) -> None:
        raise StorageFull("The disk is full.", hint="Free space.")

    monkeypatch.setattr(service, "create_task_handle", full, raising=False)
    async with declaring() as client:
        result = await client.session.call_tool("start_training", START, allow_claimed=True)
    assert result.structured_content["task_id"] == sample_replies.STARTED.task_id
    assert result.is_error is False


async def test_clients_that_do_not_declare_it_notice_nothing(connect: Connect, service) -> None:
    async with connect() as client:
        result = await client.call_tool("start_training", START)
        assert result.structured_content["status"] == "training_started"
        modern = client.protocol_version == "2026-07-28"
        for method, more in (("get", {}), ("update", {"inputResponses": {}}), ("cancel", {})):
            with pytest.raises(MCPError) as refused:
                await ask(client, method, HANDLE, **more)
            expected = MISSING_REQUIRED_CLIENT_CAPABILITY if modern else METHOD_NOT_FOUND
            assert refused.value.error.code == expected
    assert [name for name, _ in service.calls] == ["start_training"]


async def test_who_listens_to_tasks_must_declare_them(service_and_server) -> None:
    request = Listen(params=ListenParams(notifications={"taskIds": [HANDLE]}))
    async with Client(service_and_server[1]) as client:
        with pytest.raises(MCPError) as refused:
            await client.session.send_request(request, Detailed)
        assert refused.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY


async def test_an_older_protocol_has_no_tasks_even_if_the_client_declares_them(
    declaring, service
) -> None:
    async with declaring(mode="legacy") as client:
        result = await client.call_tool("start_training", START)
    assert result.structured_content["status"] == "training_started"
    assert [name for name, _ in service.calls] == ["start_training"]
