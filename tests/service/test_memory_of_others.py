"""A start is refused where the tasks that run or wait will need what is free now."""

from __future__ import annotations

import pytest

from ktrdr_mcp import memory
from ktrdr_mcp.errors import LimitExceeded
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [64]}


async def test_the_estimates_of_tasks_that_run_or_wait_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = (await bench.start(config=FOREVER)).task_id
    monkeypatch.setattr(memory, "free_bytes", lambda: [3 * 10**6])
    try:
        with pytest.raises(LimitExceeded, match="for other tasks"):
            await bench.start(config=SHORT)
    finally:
        await bench.cancel(running)
        await bench.finish(running)
    await bench.trained(config={**SHORT, "walk_forward": None})
