"""A result that the disk refuses is tried again, with the task's checkpoint, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.context import Context
from ktrdr_mcp.errors import KtrdrError, NotEnoughData, StorageFull
from ktrdr_mcp.files import STAGING_PREFIX
from ktrdr_mcp.jobs import running
from ktrdr_mcp.jobs.executors.threads import ThreadExecutor
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S, RESULT, progress

pytestmark = pytest.mark.asyncio

New = Callable[..., NewTask]
FULL = StorageFull("No space left while writing bundle.", hint="Free disk space.")
LONG_S = 1_000.0


@dataclass
class Disk:
    """Runs whose result does not fit until some have failed, and what was cleaned up."""

    failures: int
    error: KtrdrError = FULL
    trains: bool = True
    runs: int = 0
    cleaned: list[str] = field(default_factory=list)

    def run(self, spec: Any, directory: Path, context: Context) -> dict[str, Any]:
        self.runs += 1
        if self.trains:
            context.begin_at(98 if self.runs > 1 else 0, None)
            context.report(progress(99))
        if self.runs <= self.failures:
            assert self.cleaned == []
            raise self.error
        return RESULT

    def manager(self, tasks: TaskStore, retry_s: float = 0.0) -> JobManager:
        executor = ThreadExecutor(self.run)
        return JobManager(
            tasks, executor, Path, self.cleaned.append, retry_s=retry_s, drain_s=BOUND_S
        )


async def until_warned(manager: JobManager) -> str:
    """Waits until the running task warns, and gives the warning."""
    while not ((live := manager.live("t1")) and live.progress and live.progress.alarm):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return live.progress.alarm


@pytest.mark.parametrize("failures", [1, len(running.PAUSES)])
async def test_a_result_is_stored_once_there_is_space(
    new_task: New, tasks: TaskStore, failures: int
) -> None:
    disk = Disk(failures)
    async with disk.manager(tasks) as manager:
        await manager.submit(new_task("t1"))
        row = await manager.wait("t1", BOUND_S)
    assert (row.status, row.attempt, disk.runs) == ("completed", 1, failures + 1)
    assert disk.cleaned == ["t1"]


async def test_a_run_begins_without_what_the_last_one_left_half_published(
    new_task: New, tasks: TaskStore, tmp_path: Path
) -> None:
    staged = tmp_path / "t1" / f"{STAGING_PREFIX}bundle-1"
    beside = tmp_path / "t1" / "checkpoints"
    found = []

    def run(spec: Any, directory: Path, context: Context) -> dict[str, Any]:
        found.append(staged.exists())
        staged.mkdir(parents=True, exist_ok=True)
        beside.mkdir(exist_ok=True)
        (staged / "weights.safetensors").touch()
        context.begin_at(0, None)
        context.report(progress(99))
        if len(found) == 1:
            raise FULL
        return RESULT

    def directory_of(task_id: str) -> Path:
        return tmp_path / task_id / "bundle"

    async with JobManager(tasks, ThreadExecutor(run), directory_of, retry_s=0.0) as manager:
        await manager.submit(new_task("t1"))
        assert (await manager.wait("t1", BOUND_S)).status == "completed"
    assert found == [False, False]
    assert beside.exists()


async def test_a_disk_that_stays_full_fails_the_task_and_says_how_to_go_on(
    new_task: New, tasks: TaskStore
) -> None:
    disk = Disk(failures=1_000)
    async with disk.manager(tasks) as manager:
        await manager.submit(new_task("t1"))
        row = await manager.wait("t1", BOUND_S)
    assert disk.runs == len(running.PAUSES) + 1
    assert (row.status, row.error_code, row.error_stage) == ("failed", "storage_full", "publishing")
    assert "start it under another task_id" in (row.error_hint or "")


async def test_the_laboratory_is_patient_for_about_an_hour() -> None:
    assert 3_000 < sum(running.PAUSES) < 5_000


async def test_while_it_waits_the_status_says_why(new_task: New, tasks: TaskStore) -> None:
    async with Disk(failures=1).manager(tasks, retry_s=LONG_S) as manager:
        await manager.submit(new_task("t1"))
        warning = await asyncio.wait_for(until_warned(manager), BOUND_S)
        assert warning == "result not stored, tried again: No space left while writing bundle."
        assert manager.live("t1").percent == 99  # type: ignore[union-attr]
        assert (await tasks.get("t1")).status == "training"


async def test_leaving_in_a_pause_puts_the_task_back_with_its_checkpoint(
    new_task: New, tasks: TaskStore
) -> None:
    disk = Disk(failures=1)
    async with disk.manager(tasks, retry_s=LONG_S) as manager:
        await manager.submit(new_task("t1"))
        await asyncio.wait_for(until_warned(manager), BOUND_S)
    row = await tasks.get("t1")
    assert (row.status, row.current_epoch, disk.cleaned) == ("pending", 99, [])
    async with disk.manager(tasks) as manager:
        row = await manager.wait("t1", BOUND_S)
    assert (row.status, row.attempt, row.crashes) == ("completed", 2, 0)


async def test_a_task_can_be_cancelled_in_a_pause(new_task: New, tasks: TaskStore) -> None:
    async with Disk(failures=1).manager(tasks, retry_s=LONG_S) as manager:
        await manager.submit(new_task("t1"))
        await asyncio.wait_for(until_warned(manager), BOUND_S)
        await manager.cancel("t1")
        assert (await manager.wait("t1", BOUND_S)).status == "cancelled"


@pytest.mark.parametrize(
    "disk",
    [
        Disk(1, NotEnoughData("Too few bars.", hint="Widen the range.")),
        Disk(1, trains=False),  # the data could not be read: there is no result yet
    ],
)
async def test_no_other_failure_is_tried_again(new_task: New, tasks: TaskStore, disk: Disk) -> None:
    async with disk.manager(tasks) as manager:
        await manager.submit(new_task("t1"))
        row = await manager.wait("t1", BOUND_S)
    assert (row.status, disk.runs) == ("failed", 1)


async def test_the_time_of_a_further_run_is_measured_anew(new_task: New, tasks: TaskStore) -> None:
    async with Disk(failures=1).manager(tasks, retry_s=LONG_S) as manager:
        await manager.submit(new_task("t1"))
        await asyncio.wait_for(until_warned(manager), BOUND_S)
        live = manager.live("t1")
    assert live is not None
    assert live.with_restart().seconds_per_epoch is None
    assert live.with_restart().percent == live.percent
