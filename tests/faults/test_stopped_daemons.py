"""A server in the background that is told to stop at any stage of its life."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp import daemon
from ktrdr_mcp.daemon import connection, launch
from ktrdr_mcp.errors import LabUnavailable
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.lock import is_owned
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol
from tests.support.background_servers import wait_until
from tests.support.fault_table import LONG
from tests.support.launches import Launches, exit_code, has_mark, log_of
from tests.support.marked_program import NONE
from tests.support.nothing_lost import Row, assert_nothing_lost, fingerprint, tasks_of
from tests.support.typed_calls import (
    ALL_TASKS,
    FOREVER,
    cancel,
    start_of,
    status_of,
    until_it_trains,
)

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals"),
]
long_only = pytest.mark.skipif(
    not LONG,
    reason="two servers for each stage: make test-faults",
)

TASK = "stopped"
# stage, what is held, exit code; until it has opened anything, the signal itself ends the process
STARTING = [
    ("launched", None, -15),
    ("opening", "opening", 0),
    ("importing", NONE, 0),
    ("recovering", "recovering", 0),
]
# a task must not be claimed before the server is ready to put it back
BEGINNING = [("announcing", "announcing"), ("claiming", NONE)]
TURNS = 10  # of the event loop; a proxy's first look takes four
STEPS = 16  # of a start, in each of which a server is told to stop
STEPS_AFTER = 4  # when it has come to run, as a rule


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a training that was interrupted and waits to be resumed."""
    folder = tmp_path_factory.mktemp("drained")

    async def drain() -> None:
        async with daemon.open_workspace(Workspace(folder)) as opened:
            await opened.service.start_training(start_of(task_id=TASK, config=FOREVER))
            await until_it_trains(opened.service, TASK)

    asyncio.run(drain())
    return folder


@pytest.fixture
def workspace(drained: Path, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return Workspace(Path(shutil.copytree(drained, tmp_path / "workspace")))


async def first_call(workspace: Workspace) -> responses.TaskList:
    """What a proxy gets that comes, calls once and goes."""
    async with daemon.connect(workspace) as service:
        return await service.list_training_tasks(ALL_TASKS)


async def until_mark(workspace: Workspace, stage: str) -> None:
    await asyncio.to_thread(wait_until, lambda: has_mark(workspace, stage))


async def stopped_at(workspace: Workspace, launches: Launches, stage: str) -> int:
    """The exit code of a server that is told to stop at a stage, with no proxy."""
    launches.held, logged = stage, len(log_of(workspace))
    process = launch.launch(workspace)
    await asyncio.to_thread(wait_until, lambda: f"MARK {stage}" in log_of(workspace)[logged:])
    process.terminate()
    return await exit_code(process)


async def status_of_task(service: ServiceProtocol) -> responses.TrainingStatus:
    return await service.get_training_status(parse(requests.GetTrainingStatus, {"task_id": TASK}))


def put_back(workspace: Workspace, **more: Any) -> Row:
    """The task's row, once it is stated that it waits and that no process died with it."""
    assert not is_owned(workspace)
    assert "Traceback" not in log_of(workspace)
    assert_nothing_lost(workspace.root, {TASK}, **more)
    row = tasks_of(workspace.root)[TASK]
    assert (row["status"], row["crashes"]) == ("pending", 0)
    return row


async def assert_next_resumes(workspace: Workspace, row: Row) -> None:
    """States that another server starts at once and goes on where the last one was."""
    async with daemon.connect(workspace) as service:
        await until_it_trains(service, TASK)
        status = await status_of_task(service)
        assert status.attempt == row["attempt"] + 1
        assert status.resumed_from == f"epoch {row['current_epoch']}"
        await daemon.stop_daemon(workspace)
    put_back(workspace, reported={TASK: row["current_epoch"]})


async def test_a_proxy_that_waits_for_a_server_that_is_told_to_stop_gets_a_new_one(
    tmp_path: Path, launches: Launches, new_fault
) -> None:
    new_fault("SIGTERM to a daemon that two wait for", tries=1)
    workspace = Workspace(tmp_path)
    launches.held = "opening"
    async with connection.Connector(workspace) as starter:
        starting = asyncio.create_task(starter.service.list_training_tasks(ALL_TASKS))
        await until_mark(workspace, "opening")
        waiting = asyncio.create_task(first_call(workspace))
        for _ in range(TURNS):
            await asyncio.sleep(0)  # until it has seen that another process owns the workspace
        launches.processes[0].terminate()
        with pytest.raises(
            LabUnavailable, match="ended while it started, with exit code 0"
        ) as told:
            await starting
        assert "lab logs" in told.value.hint
        assert (await waiting).tasks == (await starter.service.list_training_tasks(ALL_TASKS)).tasks
    assert len(launches.processes) == 2
    await daemon.stop_daemon(workspace)
    assert [await exit_code(process) for process in launches.processes] == [0, 0]
    assert "Traceback" not in log_of(workspace)
    assert_nothing_lost(workspace.root, set())


@long_only
@pytest.mark.parametrize(("stage", "held", "code"), STARTING)
async def test_a_daemon_told_to_stop_while_it_starts_loses_nothing_and_its_proxy_hears_of_it(
    workspace: Workspace, launches: Launches, new_fault, stage: str, held: str | None, code: int
) -> None:
    fault = new_fault(f"SIGTERM to a daemon, {stage}", tries=1)
    launches.held = held
    calling = asyncio.create_task(first_call(workspace))
    await asyncio.to_thread(wait_until, lambda: launches.processes)
    if stage != "launched":
        await until_mark(workspace, stage)
    launches.processes[0].terminate()
    with pytest.raises(LabUnavailable, match=f"ended while it started, with exit code {code}"):
        await calling
    assert await exit_code(launches.processes[0]) == code
    await assert_next_resumes(workspace, put_back(workspace))
    assert len(launches.processes) == 2
    fault.resumed = 1


@long_only
async def test_a_daemon_told_to_stop_while_it_opens_what_a_stopped_one_left_loses_nothing(
    workspace: Workspace, launches: Launches, new_fault
) -> None:
    fault = new_fault("SIGTERM to two daemons", tries=2)
    assert await stopped_at(workspace, launches, "recovering") == 0  # the database has a log
    assert await stopped_at(workspace, launches, "connecting") == 0  # moved into it and not yet new
    await assert_next_resumes(workspace, put_back(workspace))
    fault.resumed = 1


@long_only
@pytest.mark.parametrize(("stage", "held"), BEGINNING)
async def test_a_daemon_told_to_stop_as_it_begins_to_work_puts_back_what_it_began(
    workspace: Workspace, launches: Launches, new_fault, stage: str, held: str
) -> None:
    fault = new_fault(f"SIGTERM to a daemon, {stage}", tries=1)
    launches.held = held
    calling = asyncio.create_task(first_call(workspace))
    await until_mark(workspace, stage)
    launches.processes[0].terminate()
    [outcome] = await asyncio.gather(calling, return_exceptions=True)
    assert isinstance(outcome, LabUnavailable | responses.TaskList)
    assert await exit_code(launches.processes[0]) == 0
    await daemon.stop_daemon(workspace)  # the proxy may have started the next one
    await assert_next_resumes(workspace, put_back(workspace))
    fault.resumed = 1


@long_only
async def test_a_daemon_told_to_stop_while_it_trains_puts_the_training_back(
    workspace: Workspace, launches: Launches, new_fault
) -> None:
    fault = new_fault("SIGTERM to a daemon, training", tries=1)
    async with daemon.connect(workspace) as service:
        await until_it_trains(service, TASK)
        reported = (await status_of_task(service)).current_epoch
        launches.processes[0].terminate()
        assert await exit_code(launches.processes[0]) == 0
    row = put_back(workspace)
    assert row["current_epoch"] >= reported
    await assert_next_resumes(workspace, row)
    fault.resumed = 1


@long_only
async def test_a_second_signal_ends_a_drain_and_the_training_resumes_from_its_checkpoint(
    workspace: Workspace, launches: Launches, new_fault
) -> None:
    fault = new_fault("SIGTERM to a daemon, draining", tries=1)
    launches.held = "draining"
    async with daemon.connect(workspace) as service:
        await until_it_trains(service, TASK)
        reported = (await status_of_task(service)).current_epoch
        launches.processes[0].terminate()
        await until_mark(workspace, "draining")
        launches.processes[0].terminate()
        assert await exit_code(launches.processes[0]) == -signal.SIGTERM
        await until_it_trains(service, TASK)  # the same proxy, with the next server
        await daemon.stop_daemon(workspace)
    assert "Traceback" not in log_of(workspace)
    assert_nothing_lost(workspace.root, {TASK}, reported={TASK: reported})
    assert tasks_of(workspace.root)[TASK]["status"] == "pending"
    fault.resumed = 1


@long_only
async def test_an_idle_server_told_to_stop_ends_and_another_starts_at_once(
    workspace: Workspace, launches: Launches, new_fault
) -> None:
    new_fault("SIGTERM to a daemon, idle", tries=1)
    async with daemon.connect(workspace) as service:
        await cancel(service, TASK)
        assert await status_of(service, TASK, wait_s=50.0) == "cancelled"
        launches.processes[0].terminate()
        assert await exit_code(launches.processes[0]) == 0
        ended = fingerprint(tasks_of(workspace.root)[TASK])
        assert await status_of(service, TASK) == "cancelled"
        await daemon.stop_daemon(workspace)
    assert "Traceback" not in log_of(workspace)
    assert_nothing_lost(workspace.root, {TASK}, finished={TASK: ended})


@long_only
async def test_a_daemon_told_to_stop_at_any_moment_of_its_start_loses_nothing(
    workspace: Workspace, launches: Launches, new_fault
) -> None:
    fault = new_fault("SIGTERM while a daemon starts")
    began = time.monotonic()
    process = launch.launch(workspace)
    await asyncio.to_thread(wait_until, lambda: address.read(workspace) is not None)
    start_s = time.monotonic() - began  # however long it takes here today
    process.terminate()
    assert await exit_code(process) == 0
    for step in range(STEPS + STEPS_AFTER):
        process = launch.launch(workspace)
        await asyncio.sleep(step * start_s / STEPS)
        process.terminate()
        assert await exit_code(process) in (0, -signal.SIGTERM), step
        row = put_back(workspace)
        fault.tries += 1
    await assert_next_resumes(workspace, row)
    fault.resumed = 1
