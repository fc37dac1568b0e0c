"""Deaths count as a crash loop only while no attempt comes further than the one before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.context import Context
from ktrdr_mcp.errors import StorageFull
from ktrdr_mcp.jobs.executors.base import Begun
from ktrdr_mcp.jobs.queue import JobManager, Running, reset_crashes
from ktrdr_mcp.store.task_row import NewTask, TaskRow
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S, RESULT

pytestmark = pytest.mark.asyncio

Make = Callable[..., JobManager]
New = Callable[..., NewTask]


async def die(tasks: TaskStore, task_id: str) -> TaskRow:
    """The process dies that runs the task; another one takes it back."""
    assert await tasks.claim("dies") is not None
    await tasks.requeue_running("comes back")
    return await tasks.get(task_id)


async def begin(tasks: TaskStore, epoch: int) -> TaskRow:
    """The next attempt begins at this epoch; its row after that."""
    row = await tasks.claim("dies")
    assert row is not None
    running = Running(row, lambda: None)
    running.receive(Begun(epoch, None))
    await reset_crashes(tasks, running)
    return await tasks.get(row.task_id)


async def test_crashes_are_forgotten_once_an_attempt_begins_further_on(
    new_task: New, tasks: TaskStore
) -> None:
    await tasks.insert(new_task("t1"), 10)
    await die(tasks, "t1")
    assert (await die(tasks, "t1")).crashes == 2
    row = await begin(tasks, 45)
    assert (row.status, row.crashes, row.current_epoch, row.progress) == ("training", 0, 45, 45)


async def test_the_death_of_a_server_counts_for_tasks_of_which_something_ran_alone(
    new_task: New, tasks: TaskStore
) -> None:
    for task_id in ("ran", "waited", "ran again"):
        await tasks.insert(new_task(task_id), 10)
        row = await tasks.claim("dies")
        assert row is not None
        if task_id != "ran":
            await tasks.mark_idle(task_id, row.fence, idle=True)
        if task_id == "ran again":
            await tasks.mark_idle(task_id, row.fence, idle=False)
    released = await tasks.requeue_running("comes back")
    assert {row.task_id: row.crashes for row in released} == {
        "ran": 1,
        "waited": 0,
        "ran again": 1,
    }
    assert {row.error_stage for row in released} == {None}


@pytest.mark.parametrize("further", [45, 44, 0])
async def test_attempts_that_begin_no_further_than_the_last_one_are_a_loop(
    new_task: New, tasks: TaskStore, further: int
) -> None:
    await tasks.insert(new_task("t1"), 10)
    await die(tasks, "t1")
    for epoch, crashes in ((45, 0), (further, 1), (further, 2)):
        assert (await begin(tasks, epoch)).crashes == crashes
        await tasks.requeue_running("comes back")
    assert (await tasks.get("t1")).error_code == "crash_loop"


async def test_a_running_task_forgets_its_crashes_while_it_runs(
    make_manager: Make, new_task: New, tasks: TaskStore
) -> None:
    def run(spec: Any, directory: Path, context: Context) -> dict[str, Any]:
        context.begin_at(45, None)
        while True:
            context.yield_turn()

    await tasks.insert(new_task("t1"), 10)
    await die(tasks, "t1")
    async with make_manager(run), asyncio.timeout(BOUND_S):
        while (row := await tasks.get("t1")).crashes:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (row.status, row.current_epoch) == ("training", 45)


async def test_a_run_that_was_drained_further_on_has_left_the_loop(
    new_task: New, tasks: TaskStore
) -> None:
    await tasks.insert(new_task("t1"), 10)
    await die(tasks, "t1")
    for epoch, crashes in ((0, 1), (7, 0)):
        claimed = await tasks.claim("drained")
        assert claimed is not None
        standing = {"progress": epoch, "current_epoch": epoch, "resumed_from": "epoch 0"}
        await tasks.release("t1", claimed.fence, standing)
        assert (await tasks.get("t1")).crashes == crashes


async def test_a_database_that_refuses_costs_the_forgetting_and_not_the_run(
    make_manager: Make, new_task: New, tasks: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = tasks.move

    async def refused(task_id: str, allowed: Any, to: str, *more: Any) -> bool:
        if to == "training":
            raise StorageFull("No space left.", hint="Free some.")
        return await move(task_id, allowed, to, *more)

    def run(spec: Any, directory: Path, context: Context) -> dict[str, Any]:
        context.begin_at(45, None)
        return RESULT

    await tasks.insert(new_task("t1"), 10)
    await die(tasks, "t1")
    monkeypatch.setattr(tasks, "move", refused)
    async with make_manager(run) as manager:
        row = await manager.wait("t1", BOUND_S)
    assert (row.status, row.crashes) == ("completed", 1)
