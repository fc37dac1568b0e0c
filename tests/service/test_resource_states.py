"""What has changed of what can be read: tasks, models, strategies, whoever changed them."""

from __future__ import annotations

import asyncio

import pytest

from ktrdr_mcp.schemas import requests, responses
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

FOREVER = {**SHORT, "epochs": 100_000, "early_stopping": None, "walk_forward": None}


async def states(bench: Bench, *addresses: str, **more: object) -> responses.ResourceStates:
    """The reply for these addresses."""
    request = requests.ReadResourceStates.model_validate({"addresses": list(addresses), **more})
    return await bench.service.resource_states(request)


async def test_a_wait_ends_when_a_task_starts_gets_on_or_ends(bench) -> None:
    nothing = await states(bench)
    assert (await states(bench, mark=nothing.mark, wait_s=0.01)).mark == nothing.mark
    waiting = asyncio.create_task(states(bench, mark=nothing.mark, wait_s=50))
    task_id = (await bench.start(config=FOREVER)).task_id
    assert (await waiting).lists != nothing.lists
    address = f"training://{task_id}"
    seen = await states(bench, address)
    for _ in range(2):
        later = await states(bench, address, mark=seen.mark, wait_s=50)
        assert later.states[address] != seen.states[address]
        seen = later
    await bench.cancel(task_id)
    while not seen.states[address].startswith("cancelled"):
        seen = await states(bench, address, mark=seen.mark, wait_s=50)


async def test_saving_a_version_and_writing_a_strategy_change_their_states(
    bench, write_strategy
) -> None:
    addresses = ("model://m", "strategy://changing", "strategy://default", "what://ever")
    before = await states(bench, *addresses)
    assert before.states["model://m"] == before.states["strategy://changing"] == "absent"
    await bench.save(await bench.trained(), "m")
    saved = await states(bench, *addresses)
    await bench.save(await bench.trained(config={**SHORT, "seed": 4}), "m")
    again = await states(bench, *addresses)
    assert len({each.states["model://m"] for each in (before, saved, again)}) == 3
    assert len({each.lists for each in (before, saved, again)}) == 3
    write_strategy(bench.workspace, 7)
    written = await states(bench, *addresses)
    assert written.states["strategy://changing"] != "absent"
    assert written.lists != again.lists
    for steady in ("strategy://default", "what://ever"):
        assert written.states[steady] == before.states[steady]
