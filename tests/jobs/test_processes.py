"""Tasks in worker processes: what dead and deaf ones cost, and that none outlives its server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp.errors import Diverged, LabUnavailable
from ktrdr_mcp.jobs import running
from ktrdr_mcp.jobs.executors import gate, processes
from ktrdr_mcp.jobs.executors.base import Begun, Ended, Envelope, Event, decode
from ktrdr_mcp.jobs.executors.processes import CallWorker, Pool, ProcessExecutor
from ktrdr_mcp.jobs.process import Connection, WorkerProcess
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S, RESULT
from tests.support.process_footprint import is_alive
from tests.support.worker_work import ScriptedWork

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(sys.platform == "win32", reason="workers need socket pairs"),
]

ROOT = Path(__file__).parents[2]
ENTRY = "tests.support.worker_work:open_work"
OUTLIVES_S = 2.0  # the most that a worker may outlive its server

New = Callable[..., NewTask]
Make = Callable[..., JobManager]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the tests' own work."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool(ENTRY, "")
    yield made
    await made.close()


@pytest.fixture
def make(tasks: TaskStore, tmp_path: Path, pool: Pool) -> Make:
    def manager(capacity: int = 2, drain_s: float = BOUND_S) -> JobManager:
        executor = ProcessExecutor(pool, capacity)
        return JobManager(tasks, executor, tmp_path.joinpath, drain_s=drain_s, retry_s=0.0)

    return manager


async def until(happens: Callable[[], Any]) -> Any:
    """Waits for something that nothing tells of."""
    deadline = time.monotonic() + BOUND_S
    while not (value := happens()):
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)
    return value


async def until_inside(manager: JobManager, task_id: str) -> None:
    """Waits until a task's run has reported."""
    await until(lambda: (live := manager.live(task_id)) and live.progress)


def pids(folder: Path, task_id: str) -> list[int]:
    """The workers that have run a task, one for each attempt."""
    return [int(text) for text in (folder / task_id / "pids").read_text(encoding="ascii").split()]


async def test_a_worker_does_one_task_after_the_other(
    make: Make, new_task: New, tmp_path: Path
) -> None:
    async with make(capacity=1) as manager:
        for task_id in ("a", "b"):
            await manager.submit(new_task(task_id))
        rows = [await manager.wait(task_id, BOUND_S) for task_id in ("a", "b")]
    for row in rows:
        assert (row.status, row.result and row.result.to_json()) == ("completed", RESULT["metrics"])
    assert pids(tmp_path, "a") == pids(tmp_path, "b") != [os.getpid()]


async def test_tasks_run_at_once_each_in_its_own_worker(
    make: Make, new_task: New, pool: Pool
) -> None:
    async with make() as manager:
        for task_id in ("a", "b", "c"):
            await manager.submit(new_task(task_id, spec={"does": "turns"}))
        for task_id in ("a", "b"):
            await until_inside(manager, task_id)
        shown = {worker.state.task: worker.state.pid for worker in pool.workers}
        assert shown.keys() == {"a", "b"}
        assert len(set(shown.values())) == 2
        assert manager.live("c") is None
        await until(lambda: all(worker.memory_bytes for worker in pool.workers))


async def test_a_killed_worker_costs_one_attempt_of_its_own_task(
    make: Make, new_task: New, tmp_path: Path
) -> None:
    async with make() as manager:
        await manager.submit(new_task("bystander", spec={"does": "turns"}))
        await until_inside(manager, "bystander")
        await manager.submit(new_task("hit", spec={"does": "dies_once"}))
        row = await manager.wait("hit", BOUND_S)
        assert (row.status, row.attempt, row.crashes) == ("completed", 2, 1)
        assert len(set(pids(tmp_path, "hit"))) == 2
        assert (await manager.wait("bystander", 0)).attempt == 1
        await manager.cancel("bystander")
        assert (await manager.wait("bystander", BOUND_S)).status == "cancelled"
    assert len(pids(tmp_path, "bystander")) == 1


async def test_three_deaths_without_progress_are_a_crash_loop(make: Make, new_task: New) -> None:
    async with make() as manager:
        await manager.submit(new_task("bad", spec={"does": "dies"}))
        row = await manager.wait("bad", BOUND_S)
    assert (row.status, row.error_code, row.attempt) == ("failed", "crash_loop", 3)
    assert row.completed_at is not None


async def test_deaths_after_progress_are_no_loop(make: Make, new_task: New, tmp_path: Path) -> None:
    begins_at = [0, 0, 7, 7, 7]  # the third attempt begins further on than the two before it
    async with make() as manager:
        await manager.submit(new_task("slow", spec={"does": "dies", "begins_at": begins_at}))
        row = await manager.wait("slow", BOUND_S)
    assert (row.error_code, row.attempt) == ("crash_loop", 5)


async def test_where_a_run_begins_is_sent_before_it_goes_on() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(theirs.detach())
    with ours, connection._socket:
        worker = WorkerProcess(connection, ScriptedWork)  # its listener never runs
        worker._obey({"do": "run", "envelope": {"results": {}}})
        assert worker._context is not None
        worker._context.begin_at(7, None)
        ours.setblocking(False)
        assert decode(ours.recv(1_000)) == Begun(7, None)
        for descriptor in (worker._waking, worker._wake):
            os.close(descriptor)


async def test_a_cancel_that_is_heeded_leaves_the_worker_alone(
    make: Make, new_task: New, tmp_path: Path
) -> None:
    async with make(capacity=1) as manager:
        await manager.submit(new_task("a", spec={"does": "turns"}))
        await until_inside(manager, "a")
        await manager.cancel("a")
        assert (await manager.wait("a", BOUND_S)).status == "cancelled"
        await manager.submit(new_task("b"))
        assert (await manager.wait("b", BOUND_S)).status == "completed"
    assert pids(tmp_path, "a") == pids(tmp_path, "b")


async def test_a_cancel_that_is_not_heeded_kills_the_worker(
    make: Make, new_task: New, tmp_path: Path
) -> None:
    async with make() as manager:
        await manager.submit(new_task("deaf", spec={"does": "heeds_nothing"}))
        await until_inside(manager, "deaf")
        began = time.monotonic()
        await manager.cancel("deaf")
        row = await manager.wait("deaf", BOUND_S)
        assert (row.status, row.crashes) == ("cancelled", 0)
        assert time.monotonic() - began >= processes.STOP_S
        (pid,) = pids(tmp_path, "deaf")
        assert not is_alive(pid)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_worker_that_still_imports_is_not_waited_for(
    tasks: TaskStore, new_task: New, tmp_path: Path, cancelled: bool
) -> None:
    pool = Pool(ENTRY, "never")
    manager = JobManager(tasks, ProcessExecutor(pool, 1), tmp_path.joinpath, drain_s=BOUND_S)
    async with manager:
        await manager.submit(new_task("a"))
        await until(lambda: pool.workers and pool.workers[0].run)
        if cancelled:
            await manager.cancel("a")
            await manager.wait("a", BOUND_S)
    row = await tasks.get("a")
    assert (row.status, row.crashes) == ("cancelled" if cancelled else "pending", 0)


async def test_leaving_puts_tasks_back_and_kills_what_does_not_stop(
    make: Make, new_task: New, tasks: TaskStore, tmp_path: Path
) -> None:
    async with make(drain_s=0.5) as manager:
        for task_id, does in (("heeds", "turns"), ("deaf", "heeds_nothing")):
            await manager.submit(new_task(task_id, spec={"does": does}))
            await until_inside(manager, task_id)
    assert manager.stuck is False
    assert not any(is_alive(pid) for name in ("heeds", "deaf") for pid in pids(tmp_path, name))
    assert (await tasks.get("heeds")).status == "pending"
    (row,) = await tasks.requeue_running("next")
    assert (row.task_id, row.status, row.crashes) == ("deaf", "pending", 0)


@pytest.mark.parametrize(("does", "code"), [("raises", "diverged"), ("fails", "internal_error")])
async def test_an_error_of_a_worker_fails_its_task_and_its_traceback_is_logged_here(
    make: Make, new_task: New, does: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with make() as manager:
            await manager.submit(new_task("bad", spec={"does": does}))
            row = await manager.wait("bad", BOUND_S)
    assert (row.status, row.error_code) == ("failed", code)
    assert "secret" not in f"{row.error_message}{row.error_hint}"
    assert ("ZeroDivisionError: a secret" in caplog.text) == (does == "fails")


async def test_a_worker_of_another_program_fails_its_task_by_name(
    make: Make, new_task: New, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(running, "own_versions", lambda: {"python": "2.7.18"})
    async with make() as manager:
        await manager.submit(new_task("a"))
        row = await manager.wait("a", BOUND_S)
    assert (row.status, row.error_code) == ("failed", "lab_unavailable")
    assert "instead of 2.7.18" in (row.error_message or "")
    assert not (tmp_path / "a").exists()


async def test_after_an_upgrade_runs_wait_for_the_next_server_or_a_worker_that_is_left(
    tasks: TaskStore, new_task: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    pool = Pool(ENTRY, str(installed))
    monkeypatch.setattr(processes, "SCARCE_PAUSE_S", 0.01)

    def folder(task_id: str) -> Path:
        return tmp_path / task_id / "bundle"

    async with JobManager(tasks, ProcessExecutor(pool, 2), folder, drain_s=BOUND_S) as manager:
        await manager.submit(new_task("old", spec={"does": "turns"}))
        await until_inside(manager, "old")
        (left,) = pool.workers
        installed.touch()
        spec = {"does": "divides", "parts": ["a", "b"], "of_parts": {"a": "turns", "b": "turns"}}
        await manager.submit(new_task("sweep", spec=spec))
        await until(lambda: pool.workers == [left] and pool._outdated)
        await manager.cancel("old")
        await until(lambda: left.run and left.run.envelope.parent == "sweep")
    row = await tasks.get("sweep")
    assert (row.status, row.error_code, row.crashes) == ("pending", None, 0)


async def test_a_call_after_an_upgrade_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "installed").touch()
    calls = CallWorker(Pool(ENTRY, str(tmp_path / "installed")))
    with pytest.raises(LabUnavailable, match=r"ktrdr-mcp 9\.9\.9 has been installed"):
        await calls.call("echo", {})
    await calls.close()


async def test_what_a_worker_prints_is_no_protocol(
    make: Make, new_task: New, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with make() as manager:
            await manager.submit(new_task("a", spec={"does": "prints"}))
            assert (await manager.wait("a", BOUND_S)).status == "completed"
    assert "said by a worker" in caplog.text


async def test_a_worker_without_memory_fails_its_task_and_the_next_one_gets_another(
    tasks: TaskStore, new_task: New, tmp_path: Path
) -> None:
    executor = ProcessExecutor(Pool(ENTRY, "limited"), 1)
    async with JobManager(tasks, executor, tmp_path.joinpath) as manager:
        await manager.submit(new_task("large", spec={"does": "fills_memory"}))
        await manager.submit(new_task("small"))
        large = await manager.wait("large", BOUND_S)
        assert (large.status, large.error_code, large.attempt) == ("failed", "out_of_memory", 1)
        assert (await manager.wait("small", BOUND_S)).status == "completed"
    assert pids(tmp_path, "large") != pids(tmp_path, "small")


async def test_an_idle_worker_ends(make: Make, new_task: New, tmp_path: Path) -> None:
    pool = Pool(ENTRY, "", idle_s=0.0)
    executor = ProcessExecutor(pool, 1)
    ended = asyncio.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Ended):
            ended.set()

    executor.submit(Envelope("a", 1, "g", {}), tmp_path / "a").attach(listen)
    await asyncio.wait_for(ended.wait(), BOUND_S)
    await until(lambda: not pool.workers)
    assert not is_alive(pids(tmp_path, "a")[0])


async def test_a_worker_ends_when_its_socket_closes_though_others_live(
    make: Make, new_task: New, pool: Pool
) -> None:
    async with make() as manager:
        for task_id in ("a", "b"):
            await manager.submit(new_task(task_id, spec={"does": "turns"}))
            await until_inside(manager, task_id)
        first, second = pool.workers
        assert first._transport is not None
        first._transport.abort()  # no other process may hold the other end open
        await until(lambda: not is_alive(first.process.pid))
        assert is_alive(second.process.pid)


async def test_a_task_that_does_not_fit_beside_another_waits_for_its_end(
    make: Make, new_task: New, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gate, "available_bytes", lambda: 3 * processes.WORKER_BYTES)
    monkeypatch.setattr(gate, "LOOK_S", 0.01)
    async with make() as manager:
        large = {"memory_bytes": 3 * processes.WORKER_BYTES}
        await manager.submit(new_task("a", spec={"does": "turns", **large}))
        await until_inside(manager, "a")
        await manager.submit(new_task("b", spec=large))
        await until(lambda: manager.live("b") is not None)
        await asyncio.sleep(0.1)
        assert not (tmp_path / "b").exists()
        await manager.cancel("a")
        assert (await manager.wait("b", BOUND_S)).status == "completed"


async def test_calls_are_answered_and_their_errors_cross(pool: Pool) -> None:
    worker = await pool.take()
    assert await worker.call("echo", {"a": 1}) == {"name": "echo", "a": 1}
    with pytest.raises(Diverged) as raised:
        await worker.call("raises", {})
    assert raised.value.hint == "Lower it."
    with pytest.raises(LabUnavailable):
        await worker.call("dies", {})


async def test_a_worker_that_was_warmed_answers_and_counts_as_idle(pool: Pool) -> None:
    calls = CallWorker(pool)
    calls.warm()
    await until(lambda: pool.idle)
    assert await calls.call("echo", {}) == {"name": "echo"}
    assert len(pool.workers) == 1


async def test_a_short_call_does_not_wait_for_a_long_one(pool: Pool) -> None:
    calls = CallWorker(pool)
    long = asyncio.create_task(calls.call("waits", {}))
    assert await calls.call("wakes", {}) == {"name": "wakes"}
    assert await long == {"name": "waits"}
    assert len(pool.workers) == 1


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_worker_keeps_a_result_that_had_no_room_until_it_has_or_is_not_wanted(
    tasks: TaskStore, new_task: New, tmp_path: Path, pool: Pool, cancelled: bool
) -> None:
    async with JobManager(tasks, ProcessExecutor(pool, 2), tmp_path.joinpath) as manager:
        manager._retry_s = 0.1 if not cancelled else BOUND_S
        await manager.submit(new_task("full", spec={"does": "finds_no_room_once"}))
        keeper = await until(lambda: next((w for w in pool.workers if w.keeps), None))
        await manager.submit(new_task("other"))
        assert (await manager.wait("other", BOUND_S)).status == "completed"
        assert pids(tmp_path, "other") != [keeper.process.pid]
        if cancelled:
            await manager.cancel("full")
        row = await manager.wait("full", BOUND_S)
        assert row.status == ("cancelled" if cancelled else "completed")
        assert pids(tmp_path, "full") == [keeper.process.pid] * (1 if cancelled else 2)
        await until(lambda: keeper.idle)


PROGRAM = """
import asyncio, sys
from pathlib import Path
from ktrdr_mcp.jobs.executors.base import Envelope
from ktrdr_mcp.jobs.executors.processes import CallWorker, Pool, ProcessExecutor

async def main(folder):
    executor = ProcessExecutor(Pool("tests.support.worker_work:open_work", ""), 2)
    for task_id, does in (("busy", "turns"), ("deaf", "heeds_nothing")):
        executor.submit(Envelope(task_id, 1, "g", {"does": does}), folder / task_id)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_worker_outlives_its_server(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    server = await asyncio.to_thread(subprocess.Popen, command)
    names = ("busy", "deaf")
    await until(lambda: all((tmp_path / name / "pids").exists() for name in names))
    workers = [pid for name in names for pid in await until(lambda name=name: pids(tmp_path, name))]
    server.send_signal(number)
    server.wait(BOUND_S)
    killed_at = time.monotonic()
    await until(lambda: not any(map(is_alive, workers)))
    assert time.monotonic() - killed_at < OUTLIVES_S
