"""kill -9 inside SQLite: before each of its writes and syncs."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.tasks import TaskStore
from tests.support import programs
from tests.support.fault_table import LONG
from tests.support.nothing_lost import assert_nothing_lost
from tests.support.store_script import new_task

STRACE = shutil.which("strace")
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink")


def killed_at(workspace: Path, call: str, number: int) -> tuple[bool, set[str]]:
    """Runs the day, killed at the Nth call; whether there was one, and what was acknowledged."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
    command = [str(STRACE), "-f", "-o", "/dev/null", *inject]
    command += [*programs.command("store_script"), str(workspace)]
    child = subprocess.run(command, cwd=programs.ROOT, capture_output=True, text=True, check=False)
    assert child.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), child.stderr
    return child.returncode != 0, set(child.stdout.split())


async def come_back(workspace: Path) -> None:
    """What the next start does with the rows."""
    async with await Database.open(workspace / ".ktrdr" / "ktrdr.db") as database:
        await TaskStore(database).requeue_running("next")


@pytest.mark.skipif(STRACE is None, reason="strace counts the calls")
def test_a_kill_at_any_call_of_sqlite_loses_nothing(tmp_path: Path, new_fault) -> None:
    if not LONG:
        pytest.skip("one process for each call: make test-faults")
    fault = new_fault("kill -9 at each call of SQLite")
    for call in CALLS:
        for number in itertools.count(1):
            workspace = tmp_path / f"{call}-{number}"
            reached, acknowledged = killed_at(workspace, call, number)
            asyncio.run(come_back(workspace))
            assert_nothing_lost(workspace, acknowledged)
            fault.tries += reached
            if not reached:
                break
    assert fault.tries > len(CALLS)


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A workspace whose process died with a task that only the database's log holds."""
    running, crashed = tmp_path / "running", tmp_path / "crashed"

    async def die() -> None:
        async with await Database.open(running / ".ktrdr" / "ktrdr.db") as database:
            await TaskStore(database).insert(new_task("kept"), 10)
            await asyncio.to_thread(shutil.copytree, running, crashed)

    asyncio.run(die())
    return crashed


@pytest.mark.skipif(STRACE is None, reason="strace counts the calls")
def test_a_second_kill_at_any_call_of_the_start_after_a_crash_loses_nothing(
    crashed: Path, tmp_path: Path, new_fault
) -> None:
    fault = new_fault("kill -9 in SQLite after a crash")
    for call in CALLS if LONG else ("unlink",):
        for number in itertools.count(1):
            workspace = tmp_path / f"{call}-{number}"
            shutil.copytree(crashed, workspace)
            reached, acknowledged = killed_at(workspace, call, number)
            asyncio.run(come_back(workspace))
            assert_nothing_lost(workspace, acknowledged | {"kept"})
            fault.tries += reached
            if not reached:
                break
    assert fault.tries > 1
