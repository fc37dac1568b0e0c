"""What leaving the server does to running tasks, and what coming back finds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.context import Context
from ktrdr_mcp.errors import Draining, StorageFull
from ktrdr_mcp.jobs.executors.threads import ThreadExecutor
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.store.task_row import Fence, NewTask
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S, RESULT, GatedRunner

pytestmark = pytest.mark.asyncio

MANY = 1_000  # more refusals than a manager that leaves can wait for

Make = Callable[..., JobManager]
New = Callable[..., NewTask]


def turns_without_end(spec: Any, directory: Any, context: Context) -> dict[str, Any]:
    """A run that ends only when it is asked to."""
    while True:
        context.yield_turn()


async def until_running(manager: JobManager, *task_ids: str) -> None:
    """Waits until all these tasks are claimed."""
    for task_id in task_ids:
        while manager.live(task_id) is None:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_leaving_stops_runs_at_their_turns_and_they_wait_again(
    make_manager: Make, new_task: New, tasks: TaskStore
) -> None:
    async with make_manager(turns_without_end) as manager:
        for task_id in ("a", "b", "c"):
            await manager.submit(new_task(task_id))
        await until_running(manager, "a", "b")
    assert manager.stuck is False
    rows = (await tasks.page(5)).rows
    assert {row.task_id: (row.status, row.attempt) for row in rows} == {
        "a": ("pending", 1),
        "b": ("pending", 1),
        "c": ("pending", 0),
    }
    assert all(row.completed_at is None for row in rows)


async def test_a_task_cancelled_just_before_leaving_is_cancelled(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore
) -> None:
    async with make_manager(runner) as manager:
        await manager.submit(new_task("obey"))
        await runner.gate("obey").until_entered()
        await manager.cancel("obey")
        runner.gate("obey").opened.set()
    assert (await tasks.get("obey")).status == "cancelled"


async def test_a_run_that_returns_while_leaving_is_completed(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore
) -> None:
    async with make_manager(runner) as manager:
        await manager.submit(new_task("ok"))
        await runner.gate("ok").until_entered()
        leaving = asyncio.create_task(manager.__aexit__(None, None, None))
        await asyncio.sleep(0)
        runner.gate("ok").opened.set()
        await leaving
    assert (await tasks.get("ok")).status == "completed"


async def test_a_server_that_leaves_takes_no_new_task_and_ends_all_waits(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    async with make_manager(runner) as manager:
        await manager.submit(new_task("obey"))
        await runner.gate("obey").until_entered()
        waiting = asyncio.create_task(manager.wait("obey", 1000))
        leaving = asyncio.create_task(manager.__aexit__(None, None, None))
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await manager.submit(new_task("late"))
        assert (await asyncio.wait_for(waiting, BOUND_S)).status == "training"
        runner.gate("obey").opened.set()
        await leaving


async def test_a_run_stuck_inside_a_step_is_left_behind_and_said(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore
) -> None:
    async with make_manager(runner, drain_s=0.0) as manager:
        await manager.submit(new_task("ok"))
        await runner.gate("ok").until_entered()
    assert manager.stuck is True
    assert (await tasks.get("ok")).status == "training"
    runner.gate("ok").opened.set()  # too late: nobody takes its result
    for thread in threading.enumerate():
        if thread.name == "training-ok":
            await asyncio.to_thread(thread.join, BOUND_S)
    row = await tasks.get("ok")
    assert (row.status, row.result) == ("training", None)


async def test_runs_that_end_while_others_are_left_behind_end_as_usual(
    make_manager: Make,
    runner: GatedRunner,
    new_task: New,
    tasks: TaskStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("ok-left", "ok", "obey")
    abandon, abandoned = tasks.abandon, []

    async def slowly(task_id: str, fence: Fence) -> None:
        await abandon(task_id, fence)
        abandoned.append(task_id)
        for name in names:  # all end now, before the second is left behind
            runner.gate(name).opened.set()
            await until_gone(manager, name)

    monkeypatch.setattr(tasks, "abandon", slowly)
    async with make_manager(runner, capacity=len(names), drain_s=0.0) as manager:
        for name in names:
            await manager.submit(new_task(name))
            await runner.gate(name).until_entered()
    assert (manager.stuck, abandoned[0]) == (False, "ok-left")
    rows = [await tasks.get(name) for name in names]
    assert [(row.status, row.result is None) for row in rows] == [
        ("training", True),  # its result came when it was no longer its task's run
        ("completed", False),
        ("pending", True),
    ]
    (again,) = await tasks.requeue_running("next")
    assert (again.task_id, again.status, again.crashes) == ("ok-left", "pending", 0)


async def test_leaving_does_not_wait_for_a_disk_that_takes_no_outcome(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore, monkeypatch
) -> None:
    refusals = 0

    async def refused(*_: Any) -> bool:
        nonlocal refusals
        refusals += 1
        if refusals > MANY:
            return True  # so that a manager that never gives up ends too
        for _ in range(3):
            await asyncio.sleep(0)  # in which a manager that leaves cancels it
        raise StorageFull("No space left.", hint="Free disk space.")

    monkeypatch.setattr(tasks, "move", refused)
    runner.gate("ok").opened.set()
    async with make_manager(runner, drain_s=0.0) as manager:
        await manager.submit(new_task("ok"))
        while not refusals:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert refusals < MANY
    monkeypatch.undo()
    assert [row.status for row in await tasks.requeue_running("the next one")] == ["pending"]


async def test_leaving_is_whole_even_if_the_caller_is_cancelled_meanwhile(
    make_manager: Make, new_task: New, tasks: TaskStore
) -> None:
    inside = asyncio.Event()

    async def server() -> None:
        async with make_manager(turns_without_end) as manager:
            await manager.submit(new_task("a"))
            await until_running(manager, "a")
            inside.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(server())
    await asyncio.wait_for(inside.wait(), BOUND_S)
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await tasks.get("a")).status == "pending"


async def test_coming_back_takes_up_what_a_dead_process_left_running(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore
) -> None:
    for task_id in ("ok1", "ok2", "ok3"):
        await tasks.insert(new_task(task_id), 10)
        runner.gate(task_id).opened.set()
    await tasks.claim("dead")
    await tasks.claim("dead")
    await tasks.request_cancel("ok2")
    async with make_manager(runner, capacity=1) as manager:
        rows = [await manager.wait(task_id, BOUND_S) for task_id in ("ok1", "ok2", "ok3")]
    assert [(row.status, row.attempt) for row in rows] == [
        ("completed", 2),
        ("cancelled", 1),
        ("completed", 1),
    ]
    assert runner.begun == ["ok1", "ok3"]


async def test_a_ghost_of_an_earlier_attempt_cannot_write_its_result(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore
) -> None:
    async with make_manager(runner, capacity=1) as manager:
        await manager.submit(new_task("ok"))
        await runner.gate("ok").until_entered()
        await tasks.requeue_running("another process")
        again = await tasks.claim("another process")
        assert again is not None
        runner.gate("ok").opened.set()
        await until_gone(manager, "ok")
        assert await tasks.get("ok") == again


async def until_gone(manager: JobManager, task_id: str) -> None:
    """Waits until a task runs no more in this process."""
    while manager.live(task_id) is not None:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_many_starts_and_stops_leave_no_thread(
    make_manager: Make, new_task: New, tasks: TaskStore
) -> None:
    def run(*_: Any) -> dict[str, Any]:
        return RESULT

    for number in range(20):
        async with make_manager(run) as manager:
            await manager.submit(new_task(f"t{number}"))
            await manager.wait(f"t{number}", BOUND_S)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("training-")]
    assert await tasks.counts() == {"completed": 20}


PROGRAM = """
import asyncio, os, sys, threading
from pathlib import Path
from ktrdr_mcp.jobs.executors.threads import ThreadExecutor
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore

begun = threading.Event()

def run(spec, directory, context):
    begun.set()
    threading.Event().wait()

async def main(folder):
    async with await Database.open(folder / "ktrdr.db") as database:
        executor, tasks = ThreadExecutor(run), TaskStore(database)
        async with JobManager(tasks, executor, folder.joinpath, drain_s=0.0) as manager:
            await manager.submit(NewTask(
                task_id="hangs", symbol="A", timeframe="1h", strategy="s", config={}, spec={},
                total_epochs=1, request_hash="r", similarity_hash="s"))
            while not begun.is_set():
                await asyncio.sleep(0)
    assert manager.stuck

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_process_with_a_run_that_never_ends_still_exits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ended = await asyncio.to_thread(subprocess.run, command, timeout=60, check=False)
    assert ended.returncode == 0


async def test_what_a_task_leaves_is_cleaned_up_when_it_will_not_run_again(
    runner: GatedRunner, new_task: New, tasks: TaskStore, tmp_path: Path
) -> None:
    cleaned: list[str] = []
    runner.errors["bad"] = ValueError()
    for task_id in ("ok", "bad", "obey"):
        runner.gate(task_id).opened.set()

    def manager_of(run: Any, capacity: int) -> JobManager:
        executor = ThreadExecutor(run, capacity)
        return JobManager(tasks, executor, tmp_path.joinpath, cleaned.append)

    async with manager_of(runner, 1) as manager:
        await manager.submit(new_task("ok"))
        await manager.submit(new_task("bad"))
        assert (await manager.wait("bad", BOUND_S)).status == "failed"
        assert cleaned == ["ok", "bad"]
    async with manager_of(turns_without_end, 1) as one:
        await one.submit(new_task("drained"))
        await until_running(one, "drained")
    assert cleaned == ["ok", "bad"]
    async with manager_of(runner, 0) as manager:
        await manager.cancel("drained")
    assert cleaned == ["ok", "bad", "drained"]
