"""Starts, cancels and ends in every order."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol
from tests.support.background_servers import wait_until
from tests.support.fault_table import LONG
from tests.support.made_workspace import SHORT
from tests.support.nothing_lost import assert_nothing_lost, tasks_of
from tests.support.process_footprint import LISTED, children, open_descriptors
from tests.support.typed_calls import FOREVER, cancel, start_of, status_of, until_it_trains

PARALLEL = 50


@pytest.mark.asyncio
async def test_fifty_parallel_identical_starts_are_one_task(tmp_path: Path, new_fault) -> None:
    new_fault("identical starts at once", tries=PARALLEL)
    names = [{"task_id": "mine", "idempotency_key": "once"}, {"idempotency_key": "once"}]
    async with open_workspace(Workspace(tmp_path)) as opened:
        starts = [opened.service.start_training(start_of(**names[n % 2])) for n in range(PARALLEL)]
        answers = await asyncio.gather(*starts)
        task_ids = {answer.task_id for answer in answers}
        assert len(task_ids) == 1
        assert all(answer.config == answers[0].config for answer in answers)
        assert await status_of(opened.service, *task_ids, wait_s=50.0) == "completed"
    assert_nothing_lost(tmp_path, task_ids)
    assert set(tasks_of(tmp_path)) == task_ids


async def turns_of_a_training(service: ServiceProtocol) -> int:
    """How often the event loop turns while nothing but a training goes on."""
    await service.start_training(start_of(task_id="whole"))
    waiting, turns = asyncio.create_task(status_of(service, "whole", wait_s=50.0)), 0
    while not waiting.done():
        await asyncio.sleep(0)
        turns += 1
    assert await waiting == "completed"
    return turns


@pytest.mark.asyncio
async def test_cancel_and_finish_agree_whatever_comes_first(tmp_path: Path, new_fault) -> None:
    fault, ended = new_fault("cancel against finish"), {"whole": "completed"}
    moments = 120 if LONG else 12  # from a training's start until well after its end
    async with open_workspace(Workspace(tmp_path)) as opened:
        whole = await turns_of_a_training(opened.service)
        for number in range(moments):
            task_id = f"task-{number}"
            config = {**SHORT, "seed": number}
            await opened.service.start_training(start_of(task_id=task_id, config=config))
            for _ in range(whole * number * 3 // (2 * moments)):
                await asyncio.sleep(0)
            if number == moments - 1:
                assert await status_of(opened.service, task_id, wait_s=50.0) == "completed"
            await cancel(opened.service, task_id)
            await cancel(opened.service, task_id)
            ended[task_id] = await status_of(opened.service, task_id, wait_s=50.0)
            assert await cancel(opened.service, task_id) == ended[task_id]
            fault.tries += 1
    assert set(ended.values()) == {"completed", "cancelled"}
    assert_nothing_lost(tmp_path, ended)
    assert {name: row["status"] for name, row in tasks_of(tmp_path).items()} == ended


@pytest.mark.asyncio
async def test_a_drain_keeps_the_last_epoch_and_a_cancel_keeps_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        for task_id in ("drained", "cancelled"):
            raw = start_of(task_id=task_id, config=FOREVER | {"seed": len(task_id)})
            await opened.service.start_training(raw)
            await until_it_trains(opened.service, task_id)
        await cancel(opened.service, "cancelled")
        assert await status_of(opened.service, "cancelled", wait_s=50.0) == "cancelled"
    rows = tasks_of(tmp_path)
    assert (rows["drained"]["status"], rows["drained"]["crashes"]) == ("pending", 0)
    assert rows["drained"]["current_epoch"] >= 1
    assert workspace.checkpoints_directory("drained").is_dir()
    assert not workspace.checkpoints_directory("cancelled").exists()
    async with open_workspace(workspace) as opened:
        await until_it_trains(opened.service, "drained")
        status = await opened.service.get_training_status(
            parse(requests.GetTrainingStatus, {"task_id": "drained"})
        )
        assert status.attempt == 2
        assert status.resumed_from == f"epoch {rows['drained']['current_epoch']}"
        assert status.current_epoch >= rows["drained"]["current_epoch"]
        await cancel(opened.service, "drained")
        assert await status_of(opened.service, "drained", wait_s=50.0) == "cancelled"
    assert not workspace.checkpoints_directory("drained").exists()
    assert_nothing_lost(
        tmp_path,
        {"drained", "cancelled"},
        reported={"drained": rows["drained"]["current_epoch"]},
    )


@pytest.mark.asyncio
async def test_a_drained_task_that_is_cancelled_while_it_waits_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        for number in range(limits.CONCURRENT_TRAININGS):
            raw = start_of(task_id=f"t{number}", config=FOREVER | {"seed": number})
            await opened.service.start_training(raw)
            await until_it_trains(opened.service, f"t{number}")
    assert workspace.checkpoints_directory("t1").is_dir()
    monkeypatch.setattr(limits, "CONCURRENT_TRAININGS", 1)
    async with open_workspace(workspace) as opened:
        for number in range(limits.CONCURRENT_TRAININGS + 1):
            await cancel(opened.service, f"t{number}")
            assert await status_of(opened.service, f"t{number}", wait_s=50.0) == "cancelled"
    for task_id in ("t0", "t1"):
        assert not workspace.checkpoints_directory(task_id).exists()
    assert_nothing_lost(tmp_path, {"t0", "t1"})


@pytest.mark.skipif(not LISTED, reason="counts what Linux lists")
def test_many_starts_and_stops_leak_nothing(tmp_path: Path, new_fault) -> None:
    fault = new_fault("start and stop")
    cycles = 200 if LONG else 2

    async def cycle(number: int) -> None:
        async with open_workspace(Workspace(tmp_path)) as opened:
            config = SHORT | {"epochs": 1, "seed": number}
            await opened.service.start_training(start_of(task_id=f"t{number}", config=config))
            if number % 2:
                await status_of(opened.service, f"t{number}", wait_s=50.0)

    asyncio.run(cycle(0))  # whatever is opened once and for all
    descriptors_before, threads_before = open_descriptors(), threading.active_count()
    children_before = children()
    for number in range(1, cycles + 1):
        asyncio.run(cycle(number))
    # a connection's thread says that it has closed just before it ends
    wait_until(lambda: threading.active_count() <= threads_before)
    assert open_descriptors() <= descriptors_before
    assert children() == children_before
    asyncio.run(cycle(0))
    assert_nothing_lost(tmp_path, [f"t{number}" for number in range(cycles + 1)])
    fault.tries = cycles
