"""Servers that proxies start in the background and that end, again and again."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from ktrdr_mcp import daemon
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.lock import is_owned
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.service import ServiceProtocol
from tests.support.background_servers import wait_until
from tests.support.fault_table import LONG
from tests.support.launches import Launches, exit_code, log_of
from tests.support.made_workspace import SHORT
from tests.support.nothing_lost import assert_nothing_lost, tasks_of
from tests.support.process_footprint import LISTED, children, open_descriptors, threads
from tests.support.typed_calls import ALL_TASKS, start_of, status_of

pytestmark = pytest.mark.skipif(not LISTED, reason="counts what Linux lists")

LONG_CYCLES = 31  # in each workspace; the last must end idle and see its training to the end
WORKSPACES = 2  # side by side, for two cores
IDLE_S = "2"  # a proxy that is open keeps its server, so it ends those that are left
ENDINGS = ("idle", "asked", "signalled")
REASONS = {"idle": "nobody needed it", "asked": "it was told to", "signalled": "it was told to"}
CALLS = 20
LASTING = {
    *("ktrdr.db", "ktrdr.db.bak-start", "lab.lock", "lab.log"),
    *("owner.json", "workspace.json", "tasks", "trials.db"),
}


async def cycle(workspace: Workspace, number: int, launches: Launches) -> None:
    """A proxy finds no server, starts one, uses it, and sees it end in one of three ways."""
    ending, task_id = ENDINGS[number % len(ENDINGS)], f"t{number}"
    assert not is_owned(workspace)
    async with daemon.connect(workspace) as service:
        await service.start_training(start_of(task_id=task_id, config=SHORT | {"epochs": 1}))
        pid = address.read(workspace).pid
        if number % 2 == 0:  # the others are left unfinished, for the next to finish
            assert await status_of(service, task_id, wait_s=50.0) == "completed"
        if number == 0:
            await calls_leave_nothing_behind(workspace, service, pid)
        if ending == "asked":
            await daemon.stop_daemon(workspace)
        if ending == "signalled":
            os.kill(pid, signal.SIGTERM)
    [process] = [each for each in launches.processes if each.pid == pid]
    assert await exit_code(process) == 0
    assert reason_of_end(workspace) == REASONS[ending]
    assert not is_owned(workspace)
    assert not address.file_of(workspace).exists()


def reason_of_end(workspace: Workspace) -> str:
    """Why the last server ended, which has logged that everything is stored."""
    lines = log_of(workspace).splitlines()
    assert "everything is stored" in lines[-1]
    [*_, end] = [line for line in lines if "The service ends: " in line]  # before it drains
    return end.partition("The service ends: ")[2]


async def calls_leave_nothing_behind(
    workspace: Workspace, service: ServiceProtocol, pid: int
) -> None:
    """Calls of this proxy, and proxies that come and go, cost the server nothing that stays."""
    await service.list_training_tasks(ALL_TASKS)
    before = open_descriptors(pid), threads(pid)
    for _ in range(CALLS):
        await service.list_training_tasks(ALL_TASKS)
        async with daemon.connect(workspace) as another:
            await another.list_training_tasks(ALL_TASKS)

    def is_as_before() -> bool:
        return open_descriptors(pid) <= before[0] and threads(pid) <= before[1]

    await asyncio.to_thread(wait_until, is_as_before)  # it sees a proxy's end a little later


async def run_cycles(
    workspaces: Iterable[Workspace], numbers: Iterable[int], launches: Launches
) -> None:
    """The same cycles in each workspace, at the same time."""

    async def in_turn(workspace: Workspace) -> None:
        for number in numbers:
            await cycle(workspace, number, launches)

    await asyncio.gather(*map(in_turn, workspaces))


def assert_no_leftovers(workspace: Workspace, task_ids: set[str]) -> None:
    """States that a workspace holds results and what a server keeps, and no other file."""
    assert {path.name for path in workspace.root.iterdir()} == {".ktrdr"}
    assert {path.name for path in workspace.internal.iterdir()} <= LASTING
    assert {path.name for path in workspace.internal.glob("tasks/*")} == task_ids
    kept = {path.name for path in workspace.internal.glob("tasks/*/*")}
    assert kept == {"bundle", "folds.safetensors", "task.json"}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that no other process of this machine uses."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_servers_that_start_and_end_in_the_background_leak_nothing(
    tmp_path: Path, temporary: Path, launches: Launches, monkeypatch, new_fault
) -> None:
    fault = new_fault("start and end in the background")
    count, cycles = (WORKSPACES, LONG_CYCLES) if LONG else (1, 1)
    monkeypatch.setenv("KTRDR_LAB_IDLE_S", IDLE_S)
    workspaces = [Workspace(tmp_path / f"workspace-{number}") for number in range(count)]
    descriptors_before, threads_before = open_descriptors(), threads()
    asyncio.run(run_cycles(workspaces, range(cycles), launches))
    wait_until(lambda: threads() <= threads_before)  # each server's end is waited for in one
    assert open_descriptors() <= descriptors_before
    assert not set(children()) & {str(process.pid) for process in launches.processes}
    assert list(temporary.iterdir()) == []
    task_ids = {f"t{number}" for number in range(cycles)}
    for workspace in workspaces:
        assert_no_leftovers(workspace, task_ids)
        assert_nothing_lost(workspace.root, task_ids)
        assert {row["status"] for row in tasks_of(workspace.root).values()} == {"completed"}
    fault.tries = count * cycles
