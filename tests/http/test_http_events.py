"""Progress as server-sent events."""

from __future__ import annotations

import asyncio
import json

import pytest

from ktrdr_mcp.api.http import events
from ktrdr_mcp.api.http.events import event_stream
from ktrdr_mcp.errors import StorageError, TaskNotFound
from tests.support import sample_replies
from tests.support.asgi_requests import LOCAL, ask

pytestmark = pytest.mark.asyncio

PATH = f"/training/{sample_replies.UUID}/events"


def parsed(stream: bytes) -> list[dict[str, str]]:
    """The events of a stream, comments left out."""
    blocks = [block for block in stream.decode().split("\n\n") if block and block[0] != ":"]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


async def test_a_finished_task_is_one_event_and_the_end(api, service) -> None:
    service.replies["get_training_status"] = sample_replies.status(state="completed")
    answer = await ask(api.guard, "GET", PATH)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    retry, end = parsed(answer.body)
    assert retry == {"retry": "2000"}
    assert (end["event"], end["id"]) == ("end", "end")
    assert json.loads(end["data"])["progress"] == 100


async def test_an_event_source_that_saw_the_end_is_told_not_to_come_again(api, service) -> None:
    service.replies["get_training_status"] = sample_replies.status(state="failed")
    answer = await ask(api.guard, "GET", PATH, [LOCAL, ("Last-Event-ID", "end")])
    assert (answer.status, answer.body) == (204, b"")
    again = await ask(api.guard, "GET", PATH, [LOCAL, ("Last-Event-ID", "7")])
    assert again.status == 200


async def test_an_unknown_task_is_an_error_and_no_stream(api, service) -> None:
    service.failure = TaskNotFound("No task has this id.", hint="Look.")
    answer = await ask(api.guard, "GET", PATH)
    assert (answer.status, answer.error["code"]) == (404, "task_not_found")


async def test_progress_is_told_as_it_happens_until_the_end(service) -> None:
    service.progress = [sample_replies.status(epoch) for epoch in (13, 14)]
    service.finished = asyncio.Event()
    stream = event_stream(service, sample_replies.status(12))
    first = await anext(stream)
    second = await anext(stream)
    service.replies["get_training_status"] = sample_replies.status(state="completed")
    service.finished.set()
    rest = b"".join([part async for part in stream])
    told = [one for one in parsed(first + second + rest) if "event" in one]
    assert [one["id"] for one in told][:2] == ["12", "14"]  # 13 was old before it was taken


async def test_silence_is_filled_with_comments(service, monkeypatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.01)
    service.finished = asyncio.Event()
    stream = event_stream(service, sample_replies.status())
    await anext(stream)
    assert await anext(stream) == b": keep-alive\n\n"
    await stream.aclose()
    await asyncio.wait_for(service.wait_was_cancelled.wait(), 60)


async def test_the_stream_ends_without_an_end_when_the_server_shuts_down(service) -> None:
    # A server that shuts down answers at once, and the task is not over.
    stream = event_stream(service, sample_replies.status(11))
    told = parsed(b"".join([part async for part in stream]))
    assert [one["event"] for one in told if "event" in one] == ["progress", "progress"]


async def test_a_task_that_cannot_be_read_any_more_ends_the_stream(service) -> None:
    service.failure = StorageError("The disk is gone.", hint="Look.")
    stream = event_stream(service, sample_replies.status())
    told = parsed(b"".join([part async for part in stream]))
    assert [one["event"] for one in told if "event" in one] == ["progress"]
