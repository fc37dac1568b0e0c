"""The real server in a process of its own: killed at random, told to stop at every stage."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.paths import Workspace
from tests.support import fault_scenario as scenario
from tests.support.fault_table import LONG
from tests.support.killable_server import RealServer
from tests.support.made_workspace import train
from tests.support.nothing_lost import assert_nothing_lost, tasks_of
from tests.support.typed_calls import FOREVER

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

TASK = "interrupted"


@pytest.fixture(scope="module")
def config() -> dict[str, object]:
    return {"epochs": 300 if LONG else 25, "early_stopping": None, "hidden_layers": [16]}


@pytest.fixture(scope="module")
def whole(config: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> object:
    """The result of a training that nobody interrupts."""
    workspace = tmp_path_factory.mktemp("whole")

    async def train_here() -> str:
        async with open_workspace(Workspace(workspace)) as opened:
            return await train(opened.service, TASK, **config)

    assert asyncio.run(train_here()) == "completed"
    return scenario.result_of(workspace, TASK)


def kill_and_resume(workspace: Path, config: dict[str, object], epoch: int) -> bool:
    """Kills a server once an epoch is reached; says whether the next one had to resume."""
    with RealServer(workspace) as server:
        server.start(TASK, **config)
        reported = server.until_epoch(TASK, epoch)
        server.kill()
    with RealServer(workspace) as server:
        status = server.end_of(TASK)
        assert status["status"] == "completed"
        server.process.send_signal(signal.SIGTERM)
        assert server.wait()[0] == 0
    resumed = status["attempt"] > 1
    assert_nothing_lost(workspace, {TASK}, reported={TASK: reported} if resumed else {})
    return resumed


def test_a_server_killed_at_any_moment_resumes_to_the_same_bits(
    tmp_path: Path, config, whole, new_fault
) -> None:
    fault, generator = new_fault("kill -9 of the server"), random.Random(11)
    for number in range(20 if LONG else 1):
        fault.tries += 1
        workspace = tmp_path / str(number)
        epoch = generator.randrange(1, config["epochs"])
        fault.resumed += kill_and_resume(workspace, config, epoch)
        assert scenario.result_of(workspace, TASK) == whole
    assert fault.resumed >= fault.tries * 3 // 4


def stop_at(workspace: Path, stage: str) -> tuple[int, str]:
    """Sends SIGTERM at a stage; gives exit status and standard error."""
    marks = {"importing", "opening", "recovering"}
    with RealServer(workspace, greeted=stage not in marks) as server:
        if stage in marks:
            server.until_mark(stage)
        elif stage != "idle":
            server.start("stopped", **FOREVER)
            server.until_epoch("stopped", 1)
        server.process.send_signal(signal.SIGTERM)
        if stage == "draining":
            server.until_mark("draining")
            server.process.send_signal(signal.SIGTERM)
        return server.wait()


def test_a_server_told_to_stop_at_any_stage_ends_and_loses_nothing(
    tmp_path: Path, new_fault
) -> None:
    if not LONG:
        pytest.skip("two processes for each stage: make test-faults")
    fault = new_fault("SIGTERM at each stage")
    stages = ["importing", "opening", "recovering", "idle", "training", "draining"]
    for stage in stages:
        fault.tries += 1
        workspace = tmp_path / stage
        code, errors = stop_at(workspace, stage)
        assert code in ((0, -signal.SIGTERM) if stage == "draining" else (0,)), (stage, errors)
        assert "Traceback" not in errors, stage
        trained = stage in ("training", "draining")
        if trained and code == 0:  # before that, there may be no table yet
            assert_nothing_lost(workspace, {"stopped"})
            row = tasks_of(workspace)["stopped"]
            assert (row["status"], row["crashes"]) == ("pending", 0)
        with RealServer(workspace) as server:  # the next one begins at once
            server.tool("list_training_tasks")
            server.process.send_signal(signal.SIGTERM)
            assert server.wait()[0] == 0
        assert_nothing_lost(workspace, {"stopped"} if trained else set())
