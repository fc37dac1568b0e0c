"""What the live page is told of, and that it holds nothing itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from ktrdr_mcp.api.http import events as events_of_http
from ktrdr_mcp.api.http.events import all_events
from ktrdr_mcp.report.live import live_page
from tests.support.service_calls import Bench

FOREVER = {"epochs": 100_000, "early_stopping": None, "walk_forward": None, "hidden_layers": [8]}
LIMIT_S = 60


@pytest.mark.asyncio
async def test_what_runs_is_followed_however_many_newer_tasks_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_of_http, "MOST_FOLLOWED", 3)
    names = [f"task-{number}" for number in range(5)]
    for name in names:
        await bench.start(task_id=name, config=FOREVER)
    seen: set[str] = set()
    events = all_events(bench.service)
    async with asyncio.timeout(LIMIT_S):
        async for part in events:
            for line in part.decode().splitlines():
                if line.startswith("data: {") and "task_id" in line:
                    seen.add(json.loads(line.removeprefix("data: "))["task_id"])
            if names[0] in seen:
                break
    await events.aclose()
    for name in reversed(names):
        await bench.cancel(name)


@pytest.mark.asyncio
async def test_a_task_that_never_ran_and_is_cancelled_changes_the_list(bench: Bench) -> None:
    await bench.start(task_id="running", config=FOREVER)
    while (await bench.status("running", wait_s=0.1)).status != "training":
        pass
    for name in ("waiting", "newest"):
        await bench.start(task_id=name, config=FOREVER)
    events = all_events(bench.service)
    async with asyncio.timeout(LIMIT_S):
        await changed(events)
        await bench.cancel("waiting")
        await changed(events)
    await events.aclose()
    for name in ("newest", "running"):
        await bench.cancel(name)


async def changed(events: AsyncIterator[bytes]) -> None:
    """Reads events until the list of tasks is another one."""
    async for part in events:
        if b"event: tasks" in part:
            return


def test_the_page_names_no_other_origin_and_carries_no_address() -> None:
    html, policy = live_page()
    assert "http://" not in html
    assert "https://" not in html
    assert "connect-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "Bearer ${token}" in html  # made in the tab; none is written into the page
