"""Trainings in worker processes: the worker, the server or both are killed, at every step."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.daemon import executors
from ktrdr_mcp.daemon.server import OpenWorkspace, open_workspace
from ktrdr_mcp.jobs.executors import processes
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support import programs, spoilt_work
from tests.support.background_servers import wait_until
from tests.support.fault_table import LONG, Fault
from tests.support.killable_server import RealServer
from tests.support.nothing_lost import assert_nothing_lost, tasks_of
from tests.support.process_footprint import LISTED, children, is_alive
from tests.support.trained_bits import bits_of, trained_in_a_thread

pytestmark = pytest.mark.skipif(not LISTED, reason="kills what Linux lists")
long_only = pytest.mark.skipif(not LONG, reason="a worker for each try: make test-faults")

CONFIG: dict[str, Any] = {"epochs": 4, "hidden_layers": [8], "early_stopping": None}
ENOUGH_STEPS = 60  # by which a training's worker writes
SOME_STEPS = (20,)  # of them, for the short form
OUTLIVES_S = 2.0  # the most that a worker may outlive its server
TASK = "interrupted"
LONGER = {**CONFIG, "epochs": 300}  # so that it is met while it trains
LARGE = {"epochs": 1, "hidden_layers": [1024, 1024], "batch_size": 65_536}

NewFault = Callable[..., Fault]
Plan = Callable[..., None]


@pytest.fixture(autouse=True)
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Says what goes wrong in the next training of a worker of this process."""
    path = tmp_path / "plan"
    monkeypatch.setenv(spoilt_work.PLAN, str(path))
    monkeypatch.setenv("PYTHONPATH", str(programs.ROOT))
    monkeypatch.setattr(executors, "TRAINING", spoilt_work.ENTRY)

    def write(**planned: Any) -> None:
        path.write_text(json.dumps(planned), encoding="ascii")

    return write


async def train(opened: OpenWorkspace, task_id: str, **config: Any) -> str:
    """Trains to the end."""
    raw = {"task_id": task_id, "symbol": "AAPL", "timeframe": "1h", "config": CONFIG | config}
    await opened.service.start_training(parse(requests.StartTraining, raw))
    return (await opened.manager.wait(task_id, 300.0)).status


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What CONFIG comes to in a thread."""
    return trained_in_a_thread(tmp_path_factory.mktemp("whole"), **CONFIG)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What LONGER comes to in a thread."""
    return trained_in_a_thread(tmp_path_factory.mktemp("longer"), **LONGER)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("kill", "kill -9 of a worker at each step"),
        pytest.param("full", "disk full in a worker at each step", marks=long_only),
    ],
)
async def test_a_spoilt_step_of_a_worker_loses_nothing_and_changes_no_bit(
    tmp_path: Path, plan: Plan, whole: tuple[str, str], new_fault: NewFault, mode: str, name: str
) -> None:
    fault, folder = new_fault(name), tmp_path / "workspace"
    async with open_workspace(Workspace(folder), "processes") as opened:
        opened.manager._retry_s = 0.01
        for step in range(1, sys.maxsize) if LONG else SOME_STEPS:
            plan(step=step, mode=mode)
            task_id = f"step-{step}"
            assert await train(opened, task_id) == "completed", step
            assert bits_of(folder, task_id) == whole, step
            row = tasks_of(folder)[task_id]
            fault.tries += 1
            began = row["resumed_from"] or "epoch 0"  # a published result is taken, none resumed
            fault.resumed += row["attempt"] > 1 and not began.startswith("epoch 0")
            if row["attempt"] == 1 and not spoilt_work.was_reached():
                break  # there is no such step
            assert row["attempt"] == (2 if mode == "kill" else 1)
    assert step > ENOUGH_STEPS or not LONG
    assert fault.resumed or mode != "kill"
    assert_nothing_lost(folder, set(tasks_of(folder)))
    assert not list(folder.rglob(".staging-*"))


@long_only
@pytest.mark.asyncio
async def test_a_worker_without_memory_fails_its_task_alone(
    tmp_path: Path, plan: Plan, whole: tuple[str, str], new_fault: NewFault
) -> None:
    fault, folder = new_fault("out of memory in a worker"), tmp_path / "workspace"
    async with open_workspace(Workspace(folder), "processes") as opened:
        for number in range(10):
            plan(limit_bytes=(64 + 8 * number) * 2**20)
            # where a library ends the process instead, the next attempt has memory enough
            assert await train(opened, f"large-{number}", **LARGE) in {"failed", "completed"}
            fault.tries += 1
        assert await train(opened, TASK) == "completed"
    rows = tasks_of(folder)
    assert bits_of(folder, TASK) == whole
    failed = {row["error_code"] for row in rows.values() if row["status"] == "failed"}
    assert failed == {"out_of_memory"}
    assert_nothing_lost(folder, set(rows))


@long_only
@pytest.mark.asyncio
async def test_a_cancel_in_a_long_step_ends_the_worker_and_the_task_is_cancelled(
    tmp_path: Path, whole: tuple[str, str]
) -> None:
    folder = tmp_path / "workspace"
    async with open_workspace(Workspace(folder), "processes") as opened:
        raw: dict[str, Any] = {"task_id": "slow", "symbol": "AAPL", "timeframe": "1h"}
        raw["config"] = LARGE | {"epochs": 1_000}
        await opened.service.start_training(parse(requests.StartTraining, raw))

        def is_inside_its_first_steps() -> bool:
            live = opened.manager.live("slow")
            return live is not None and live.resumed_from is not None

        await asyncio.to_thread(wait_until, is_inside_its_first_steps)
        (pid,) = [worker.pid for worker in opened.workers() if worker.task == "slow"]
        began = time.monotonic()
        await opened.manager.cancel("slow")
        row = await opened.manager.wait("slow", 300.0)
        cancelled_s = time.monotonic() - began
        assert (row.status, row.crashes) == ("cancelled", 0)
        assert not is_alive(pid)
        assert await train(opened, TASK) == "completed"
    assert cancelled_s < 10 * processes.STOP_S  # the step itself takes longer
    assert bits_of(folder, TASK) == whole
    assert not Workspace(folder).checkpoints_directory("slow").exists()


@long_only
@pytest.mark.asyncio
async def test_a_training_that_kills_three_workers_is_given_up_and_others_are_not(
    tmp_path: Path, plan: Plan, whole: tuple[str, str], new_fault: NewFault
) -> None:
    fault, folder = new_fault("kill -9 of three workers in one task", tries=1), tmp_path / "w"
    async with open_workspace(Workspace(folder), "processes") as opened:
        plan(step=3, stays=True)
        assert await train(opened, "poison") == "failed"
        plan()
        assert await train(opened, TASK) == "completed"
    row = tasks_of(folder)["poison"]
    assert (row["error_code"], row["attempt"], row["crashes"]) == ("crash_loop", 3, 3)
    assert bits_of(folder, TASK) == whole
    assert_nothing_lost(folder, {"poison", TASK})
    fault.resumed = 1


def kill_all(server: RealServer, workers: list[str], what: str) -> None:
    """Kills a server, or its workers first, and waits for the end of the workers."""
    if what == "both":
        for pid in workers:
            os.kill(int(pid), signal.SIGKILL)
    began = time.monotonic()
    server.process.kill()
    wait_until(lambda: not any(map(is_alive, map(int, workers))))
    assert time.monotonic() - began < OUTLIVES_S
    server.kill()


@long_only
@pytest.mark.parametrize("what", ["server", "both"])
def test_a_server_killed_with_its_workers_resumes_to_the_same_bits(
    tmp_path: Path,
    longer: tuple[str, str],
    new_fault: NewFault,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    monkeypatch.setenv(executors.VARIABLE, "processes")
    fault, generator = new_fault(f"kill -9 of {what}, with workers"), random.Random(13)
    for number in range(10):
        folder = tmp_path / str(number)
        with RealServer(folder) as server:
            server.start(TASK, **LONGER)
            reported = server.until_epoch(TASK, generator.randrange(1, LONGER["epochs"] // 2))
            kill_all(server, children(server.process.pid), what)
        with RealServer(folder) as server:
            status = server.end_of(TASK)
            server.process.send_signal(signal.SIGTERM)
            assert server.wait()[0] == 0
        assert status["status"] == "completed"
        assert bits_of(folder, TASK) == longer
        resumed = status["attempt"] > 1
        assert_nothing_lost(folder, {TASK}, reported={TASK: reported} if resumed else {})
        fault.tries += 1
        fault.resumed += resumed
    assert fault.resumed >= fault.tries * 3 // 4
