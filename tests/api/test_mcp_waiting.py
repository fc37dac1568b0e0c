"""Waiting for a task's end: progress, and waits that are cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from mcp.shared.exceptions import MCPError

from ktrdr_mcp.api.mcp import tools
from ktrdr_mcp.api.mcp.tools import ProgressNotifier, progress_message
from tests.support import sample_replies
from tests.support.fake_service import FakeService
from tests.support.mcp_clients import Connect

WAIT = {"task_id": sample_replies.UUID, "wait_s": 50}

Notification = tuple[float, float | None, str | None]


class Recorder:
    """Keeps the notifications that were sent."""

    def __init__(self) -> None:
        self.sent: list[Notification] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.sent.append((progress, total, message))


def ticking(step_s: float) -> Iterator[float]:
    """Moments that lie the step apart."""
    now = 0.0
    while True:
        yield now
        now += step_s


@pytest.mark.asyncio
async def test_a_waiting_client_is_told_of_progress(
    connect: Connect, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "NOTIFICATION_INTERVAL_S", 0.0)
    service.progress = [sample_replies.PENDING, *(sample_replies.status(epoch) for epoch in (1, 2))]
    recorder = Recorder()
    async with connect() as client:
        result = await client.call_tool("get_training_status", WAIT, progress_callback=recorder)
    assert result.is_error is False
    assert recorder.sent == [
        (0, 100, "pending, tasks ahead: 2"),
        (1, 100, "epoch 1/100, val loss 0.981, val accuracy 0.41"),
        (2, 100, "epoch 2/100, val loss 0.981, val accuracy 0.41"),
    ]


@pytest.mark.asyncio
async def test_notifications_come_about_once_a_second() -> None:
    recorder, clock = Recorder(), ticking(0.25)
    notify = ProgressNotifier(recorder, clock=lambda: next(clock))
    for epoch in range(1, 14):
        await notify(sample_replies.status(epoch))
    assert [done for done, _, _ in recorder.sent] == [1, 5, 9, 13]


@pytest.mark.asyncio
async def test_progress_never_goes_backwards_or_stands_still() -> None:
    recorder, clock = Recorder(), ticking(2.0)
    notify = ProgressNotifier(recorder, clock=lambda: next(clock))
    for epoch in (3, 3, 1, 2, 4):
        await notify(sample_replies.status(epoch))
    assert [done for done, _, _ in recorder.sent] == [3, 4]


def test_a_message_leaves_out_what_is_not_known() -> None:
    unknown = sample_replies.PENDING.model_copy(update={"status": "training"})
    assert progress_message(unknown) == "epoch 0/100"
    ended = sample_replies.status(100, "completed")
    assert progress_message(ended) == "completed"


def test_a_message_ends_with_the_alarm_if_there_is_one() -> None:
    alarmed = sample_replies.status(12).model_copy(update={"alarm": "flat: raise learning_rate"})
    assert progress_message(alarmed).endswith(", flat: raise learning_rate")
    assert "epoch 12/" in progress_message(alarmed)


@pytest.mark.asyncio
async def test_a_client_that_asks_for_no_progress_waits_in_silence(
    connect: Connect, service: FakeService
) -> None:
    service.progress = [sample_replies.status(1)]
    async with connect() as client:
        assert (await client.call_tool("get_training_status", WAIT)).is_error is False


@pytest.mark.asyncio
async def test_a_cancelled_wait_ends_and_cancels_no_task(
    connect: Connect, service: FakeService
) -> None:
    service.finished = asyncio.Event()
    async with connect() as client:
        wait = asyncio.ensure_future(client.call_tool("get_training_status", WAIT))
        await service.waiting.wait()
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        await service.wait_was_cancelled.wait()
        result = await client.call_tool("list_training_tasks")
    assert result.is_error is False
    assert [method for method, _ in service.calls] == ["get_training_status", "list_training_tasks"]


@pytest.mark.asyncio
async def test_a_client_that_gives_up_waiting_cancels_no_task(
    connect: Connect, service: FakeService
) -> None:
    service.finished = asyncio.Event()
    async with connect() as client:
        with pytest.raises(MCPError):
            await client.call_tool("get_training_status", WAIT, read_timeout_seconds=0.05)
        await service.wait_was_cancelled.wait()
    assert [method for method, _ in service.calls] == ["get_training_status"]


@pytest.mark.asyncio
async def test_other_calls_are_answered_while_one_waits(
    connect: Connect, service: FakeService
) -> None:
    service.finished = asyncio.Event()
    async with connect() as client:
        wait = asyncio.ensure_future(client.call_tool("get_training_status", WAIT))
        await service.waiting.wait()
        assert (await client.call_tool("list_trained_models")).is_error is False
        assert not wait.done()
        service.finished.set()
        assert (await wait).is_error is False
