"""Starts, cancels and ends in every order."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from made_workspace import SHORT
from nothing_lost import assert_nothing_lost, tasks_of

from ktrdr_mcp import limits
from ktrdr_mcp.app import open_lab
from ktrdr_mcp.contract import Lab, parse, requests
from ktrdr_mcp.paths import Workspace

PARALLEL = 50
MOMENTS = (0, 1, *(2**power for power in range(1, 13)))  # turns of the event loop
FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}


def start_of(**raw: object) -> requests.StartTraining:
    body = {"symbol": "AAPL", "timeframe": "1h", "config": SHORT, **raw}
    return parse(requests.StartTraining, body)


async def status_of(lab: Lab, task_id: str, wait_s: float = 0.0) -> str:
    raw = {"task_id": task_id, "wait_s": wait_s}
    return str((await lab.get_training_status(parse(requests.GetTrainingStatus, raw))).status)


async def cancel(lab: Lab, task_id: str) -> str:
    cancelled = await lab.cancel_training(parse(requests.TaskOnly, {"task_id": task_id}))
    return str(cancelled.status)


async def until_it_trains(lab: Lab, task_id: str) -> None:
    """Returns once an epoch has been reported."""
    begun = asyncio.Event()

    async def told(_: object) -> None:
        begun.set()

    raw = parse(requests.GetTrainingStatus, {"task_id": task_id, "wait_s": 50.0})
    waiting = asyncio.create_task(lab.get_training_status(raw, told))
    await asyncio.wait_for(begun.wait(), 30)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.asyncio
async def test_fifty_parallel_identical_starts_are_one_task(tmp_path: Path, fault_table) -> None:
    began = time.monotonic()
    names = [{"task_id": "mine", "idempotency_key": "once"}, {"idempotency_key": "once"}]
    async with open_lab(Workspace(tmp_path)) as opened:
        starts = [opened.lab.start_training(start_of(**names[n % 2])) for n in range(PARALLEL)]
        answers = await asyncio.gather(*starts)
        task_ids = {answer.task_id for answer in answers}
        assert len(task_ids) == 1
        assert all(answer.config == answers[0].config for answer in answers)
        assert await status_of(opened.lab, *task_ids, wait_s=50.0) == "completed"
    assert_nothing_lost(tmp_path, task_ids)
    assert set(tasks_of(tmp_path)) == task_ids
    fault_table.add("identical starts at once", PARALLEL, time.monotonic() - began)


@pytest.mark.asyncio
async def test_cancel_and_finish_agree_whatever_comes_first(
    tmp_path: Path, fault_table, long_form: bool
) -> None:
    began = time.monotonic()
    ended = {}
    seeds = range(10 if long_form else 1)
    async with open_lab(Workspace(tmp_path)) as opened:
        for number, turns in enumerate(MOMENTS * len(seeds)):
            task_id = f"task-{number}"
            config = {**SHORT, "seed": number}
            await opened.lab.start_training(start_of(task_id=task_id, config=config))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancel(opened.lab, task_id)
            await cancel(opened.lab, task_id)
            ended[task_id] = await status_of(opened.lab, task_id, wait_s=50.0)
            assert await cancel(opened.lab, task_id) == ended[task_id]
    assert set(ended.values()) <= {"completed", "cancelled"}
    assert "cancelled" in ended.values()
    assert_nothing_lost(tmp_path, ended)
    assert {name: row["status"] for name, row in tasks_of(tmp_path).items()} == ended
    fault_table.add("cancel against finish", len(ended), time.monotonic() - began)


@pytest.mark.asyncio
async def test_a_drain_keeps_the_last_epoch_and_a_cancel_keeps_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    async with open_lab(workspace) as opened:
        for task_id in ("drained", "cancelled"):
            raw = start_of(task_id=task_id, config=FOREVER | {"seed": len(task_id)})
            await opened.lab.start_training(raw)
            await until_it_trains(opened.lab, task_id)
        await cancel(opened.lab, "cancelled")
        assert await status_of(opened.lab, "cancelled", wait_s=50.0) == "cancelled"
    rows = tasks_of(tmp_path)
    assert (rows["drained"]["status"], rows["drained"]["crashes"]) == ("pending", 0)
    assert rows["drained"]["current_epoch"] >= 1
    assert workspace.checkpoints_directory("drained").is_dir()
    assert not workspace.checkpoints_directory("cancelled").exists()
    async with open_lab(workspace) as opened:
        await until_it_trains(opened.lab, "drained")
        status = await opened.lab.get_training_status(
            parse(requests.GetTrainingStatus, {"task_id": "drained"})
        )
        assert status.attempt == 2
        assert status.resumed_from == f"epoch {rows['drained']['current_epoch']}"
        assert status.current_epoch >= rows["drained"]["current_epoch"]
        await cancel(opened.lab, "drained")
        assert await status_of(opened.lab, "drained", wait_s=50.0) == "cancelled"
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
    async with open_lab(workspace) as opened:
        for number in range(limits.CONCURRENT_TRAININGS):
            raw = start_of(task_id=f"t{number}", config=FOREVER | {"seed": number})
            await opened.lab.start_training(raw)
            await until_it_trains(opened.lab, f"t{number}")
    assert workspace.checkpoints_directory("t1").is_dir()
    monkeypatch.setattr(limits, "CONCURRENT_TRAININGS", 1)
    async with open_lab(workspace) as opened:
        for number in range(limits.CONCURRENT_TRAININGS + 1):
            await cancel(opened.lab, f"t{number}")
            assert await status_of(opened.lab, f"t{number}", wait_s=50.0) == "cancelled"
    for task_id in ("t0", "t1"):
        assert not workspace.checkpoints_directory(task_id).exists()
    assert_nothing_lost(tmp_path, {"t0", "t1"})


def open_descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[str]:
    """The processes that this one has started and that still live."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts what Linux lists")
def test_many_starts_and_stops_leak_nothing(tmp_path: Path, fault_table, long_form: bool) -> None:
    began = time.monotonic()
    cycles = 200 if long_form else 2

    async def cycle(number: int) -> None:
        async with open_lab(Workspace(tmp_path)) as opened:
            config = SHORT | {"epochs": 1, "seed": number}
            await opened.lab.start_training(start_of(task_id=f"t{number}", config=config))
            if number % 2:
                await status_of(opened.lab, f"t{number}", wait_s=50.0)

    asyncio.run(cycle(0))  # whatever is opened once and for all
    before = open_descriptors(), threading.active_count(), children()
    for number in range(1, cycles + 1):
        asyncio.run(cycle(number))
    assert (open_descriptors(), threading.active_count(), children()) == before
    asyncio.run(cycle(0))
    assert_nothing_lost(tmp_path, [f"t{number}" for number in range(cycles + 1)])
    fault_table.add("start and stop", cycles, time.monotonic() - began)
