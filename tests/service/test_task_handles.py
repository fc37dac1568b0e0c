"""Handles of tasks: whoever holds one follows the task, also when the server is another one."""

from __future__ import annotations

import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import NotFound, TaskNotFound
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.service.reconciliation import rebuild
from ktrdr_mcp.store.handles import COPY
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

FOREVER = {**SHORT, "epochs": 100_000, "early_stopping": None, "walk_forward": None}


async def create(bench: Bench, task_id: str) -> str:
    """A new handle of a task."""
    return (await bench.service.create_task_handle(requests.TaskOnly(task_id=task_id))).handle


async def follow(bench: Bench, handle: str, outcome: bool = True) -> responses.FollowedTask:
    """What the holder of a handle is told."""
    request = requests.ReadTaskHandle(handle=handle, outcome=outcome)
    return await bench.service.read_task_handle(request)


async def test_the_outcome_is_the_reply_of_a_start_that_waited(bench) -> None:
    started = await bench.start(wait_s=50, config={**SHORT, "seed": 3}, task_id="waited")
    handle = await create(bench, "waited")
    followed = await follow(bench, handle)
    assert (followed.task_id, followed.now.status) == ("waited", "completed")
    assert followed.outcome.performance.test_readings == started.performance.test_readings + 1
    told, waited = (
        reply.model_dump(exclude={"performance": {"test_readings"}})
        for reply in (followed.outcome, started)
    )
    assert told == waited
    assert followed.created_at <= followed.changed_at


async def test_looking_without_the_outcome_is_no_reading(bench) -> None:
    handle = await create(bench, await bench.trained())
    assert (await follow(bench, handle, outcome=False)).outcome is None
    assert (await follow(bench, handle)).outcome.performance.test_readings == 1


async def test_each_handle_is_new_and_says_nothing_of_the_task(bench) -> None:
    task_id = (await bench.start(config=FOREVER)).task_id
    handles = {await create(bench, task_id) for _ in range(20)}
    assert len(handles) == 20
    assert all(len(bytes.fromhex(handle)) == 16 for handle in handles)
    assert {(await follow(bench, handle)).task_id for handle in handles} == {task_id}
    await bench.cancel(task_id)


async def test_nobody_reads_a_task_by_a_handle_that_was_not_given_out(bench) -> None:
    task_id = await bench.trained()
    handle = await create(bench, task_id)
    with pytest.raises(NotFound) as refused:
        await follow(bench, "0" * 32)
    assert refused.value.field == "handle"
    said = refused.value.message + refused.value.hint
    assert task_id not in said
    assert handle not in said
    with pytest.raises(TaskNotFound):
        await create(bench, "training_of_nobody")


async def test_a_handle_outlives_the_server_that_gave_it_out(tmp_path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    async with open_workspace(workspace) as first:
        bench = Bench(first.service, workspace)
        handle = await create(bench, (await bench.start(config=FOREVER)).task_id)
    async with open_workspace(workspace) as second:
        bench = Bench(second.service, workspace)
        followed = await follow(bench, handle)
        assert followed.now.status in {"pending", "training"}
        assert followed.outcome is None
        await bench.cancel(followed.task_id)
        await bench.finish(followed.task_id)
        ended = await follow(bench, handle)
        assert (ended.now.status, ended.outcome.status) == ("cancelled", "cancelled")
        assert ended.outcome.performance is None


async def test_a_handle_outlives_the_database(tmp_path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    async with open_workspace(workspace) as first:
        bench = Bench(first.service, workspace)
        task_id = await bench.trained()
        handles = [await create(bench, task_id) for _ in range(2)]
    for file in workspace.database.parent.glob(f"{workspace.database.name}*"):
        file.unlink()
    assert (await rebuild(workspace)).tasks == 1
    async with open_workspace(workspace) as second:
        bench = Bench(second.service, workspace)
        for handle in handles:
            followed = await follow(bench, handle)
            assert (followed.task_id, followed.outcome.status) == (task_id, "completed")


async def test_a_damaged_copy_of_the_handles_is_said_and_hinders_no_rebuild(tmp_path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    async with open_workspace(workspace) as first:
        bench = Bench(first.service, workspace)
        await create(bench, await bench.trained())
    copy = workspace.database.with_name(COPY)
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.write_bytes(copy.read_bytes()[:-10])
    done = await rebuild(workspace)
    assert [finding.name for finding in done.left_out] == ["handles"]
