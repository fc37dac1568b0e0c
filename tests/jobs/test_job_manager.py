"""Tasks from submission to their end, with runners that wait for the test's word."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.context import Context
from ktrdr_mcp.errors import Diverged, QueueFull, StorageFull, TaskNotFound
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S, RESULT, GatedRunner, progress

pytestmark = pytest.mark.asyncio

Make = Callable[..., JobManager]
New = Callable[..., NewTask]

TIMESTAMPS = (0, 1, *(2**power for power in range(1, 11)))  # turns of the event loop


async def test_a_task_goes_from_submission_to_its_result(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    async with make_manager(runner) as manager:
        row, created = await manager.submit(new_task("ok"))
        assert (row.status, created) == ("pending", True)
        await runner.gate("ok").until_entered()
        running = await manager.wait("ok", 0)
        assert (running.status, running.attempt) == ("training", 1)
        assert running.generation == manager.generation
        runner.gate("ok").opened.set()
        done = await manager.wait("ok", BOUND_S)
    assert (done.status, done.progress, done.current_epoch) == ("completed", 100, 7)
    assert done.result is not None
    assert done.result.to_json() == RESULT["metrics"]
    assert done.test_start == RESULT["tested_window"][0]
    assert manager.live("ok") is None
    assert manager.stuck is False


async def test_a_run_gets_its_specification_and_directory_in_a_daemon_thread(
    make_manager: Make, new_task: New
) -> None:
    seen: list[Any] = []

    def run(spec: dict[str, Any], directory: Any, context: Context) -> dict[str, Any]:
        seen.extend([spec, directory.name, threading.current_thread().daemon])
        return RESULT

    async with make_manager(run) as manager:
        await manager.submit(new_task("ok"))
        await manager.wait("ok", BOUND_S)
    assert seen == [{"id": "ok"}, "ok", True]


async def test_only_so_many_run_at_once_and_the_oldest_go_first(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    ids = [f"ok{number}" for number in range(4)]
    async with make_manager(runner, capacity=2) as manager:
        for task_id in ids:
            await manager.submit(new_task(task_id))
        await runner.gate("ok0").until_entered()
        await runner.gate("ok1").until_entered()
        assert [manager.live(task_id) is not None for task_id in ids] == [True, True, False, False]
        assert manager.running == 2
        runner.gate("ok1").opened.set()
        await runner.gate("ok2").until_entered()
        assert manager.live("ok3") is None
        for task_id in ids:
            runner.gate(task_id).opened.set()
        rows = [await manager.wait(task_id, BOUND_S) for task_id in ids]
    assert {row.status for row in rows} == {"completed"}
    assert sorted(runner.begun[:2]) == ids[:2]
    assert runner.begun[2:] == ids[2:]


async def test_fifty_parallel_identical_starts_run_once(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    runner.gate("ok").opened.set()
    async with make_manager(runner) as manager:
        answers = await asyncio.gather(*(manager.submit(new_task("ok")) for _ in range(50)))
        await manager.wait("ok", BOUND_S)
    assert sum(created for _, created in answers) == 1
    assert runner.begun == ["ok"]


async def test_a_full_queue_refuses_and_takes_again_when_there_is_room(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    async with make_manager(runner, capacity=1, max_pending=1) as manager:
        await manager.submit(new_task("ok0"))
        await runner.gate("ok0").until_entered()
        await manager.submit(new_task("ok1"))
        with pytest.raises(QueueFull, match="1 tasks are waiting"):
            await manager.submit(new_task("ok2"))
        await manager.cancel("ok1")
        await manager.submit(new_task("ok2"))
        runner.gate("ok0").opened.set()
        runner.gate("ok2").opened.set()
        assert (await manager.wait("ok2", BOUND_S)).status == "completed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Diverged("The loss became NaN.", hint="Lower learning_rate."), "diverged"),
        (MemoryError(), "out_of_memory"),
        (ValueError("defect"), "internal_error"),
        (SystemExit(1), "internal_error"),
        (KeyboardInterrupt(), "internal_error"),
        (StopIteration(), "internal_error"),
        (GeneratorExit(), "internal_error"),
        (asyncio.CancelledError(), "internal_error"),
    ],
)
async def test_a_run_that_raises_fails_its_task_and_frees_its_place(
    make_manager: Make, runner: GatedRunner, new_task: New, error: BaseException, code: str
) -> None:
    runner.errors["bad"] = error
    runner.gate("bad").opened.set()
    runner.gate("ok").opened.set()
    async with make_manager(runner, capacity=1) as manager:
        await manager.submit(new_task("bad"))
        await manager.submit(new_task("ok"))
        bad = await manager.wait("bad", BOUND_S)
        assert (await manager.wait("ok", BOUND_S)).status == "completed"
    assert (bad.status, bad.error_code, bad.progress) == ("failed", code, 1)
    assert bad.error_hint


async def test_a_result_that_the_database_cannot_take_fails_the_task(
    make_manager: Make, new_task: New
) -> None:
    def run(*_: Any) -> dict[str, Any]:
        return {**RESULT, "metrics": {**RESULT["metrics"], "collapsed": "not a truth"}}

    async with make_manager(run) as manager:
        await manager.submit(new_task("odd"))
        row = await manager.wait("odd", BOUND_S)
    assert (row.status, row.error_code) == ("failed", "internal_error")


async def test_a_cancelled_waiting_task_never_runs(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    async with make_manager(runner, capacity=1) as manager:
        await manager.submit(new_task("ok0"))
        await runner.gate("ok0").until_entered()
        await manager.submit(new_task("ok1"))
        assert (await manager.cancel("ok1")).status == "cancelled"
        runner.gate("ok0").opened.set()
        await manager.wait("ok0", BOUND_S)
    assert runner.begun == ["ok0"]


async def test_a_cancelled_running_task_ends_at_its_next_turn(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore
) -> None:
    async with make_manager(runner) as manager:
        await manager.submit(new_task("obey"))
        await runner.gate("obey").until_entered()
        asked = await manager.cancel("obey")
        again = await manager.cancel("obey")
        assert (asked.status, asked.cancel_requested) == ("training", True)
        assert again == asked
        runner.gate("obey").opened.set()
        row = await manager.wait("obey", BOUND_S)
        assert (row.status, row.error_code) == ("cancelled", None)
        assert row.completed_at is not None
        assert await manager.cancel("obey") == row
    assert await tasks.counts() == {"cancelled": 1}


async def test_a_cancel_after_the_last_turn_comes_too_late(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    async with make_manager(runner) as manager:
        await manager.submit(new_task("ok"))
        await runner.gate("ok").until_entered()
        await manager.cancel("ok")
        runner.gate("ok").opened.set()
        row = await manager.wait("ok", BOUND_S)
        assert row.status == "completed"
        assert (await manager.cancel("ok")).status == "completed"


async def test_a_cancel_between_claim_and_start_is_not_missed(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    claimed, go_on = asyncio.Event(), asyncio.Event()
    claim = tasks.claim

    async def slow_claim(generation: str, task_id: str) -> Any:
        row = await claim(generation, task_id)
        if row is not None:
            claimed.set()
            await go_on.wait()
        return row

    monkeypatch.setattr(tasks, "claim", slow_claim)
    runner.gate("obey").opened.set()
    async with make_manager(runner) as manager:
        await manager.submit(new_task("obey"))
        await asyncio.wait_for(claimed.wait(), BOUND_S)
        assert (await manager.cancel("obey")).status == "training"
        go_on.set()
        assert (await manager.wait("obey", BOUND_S)).status == "cancelled"


async def test_cancel_and_finish_in_any_order_agree_on_one_final_state(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    async with make_manager(runner) as manager:
        for turns in TIMESTAMPS:
            task_id = f"obey{turns}"
            await manager.submit(new_task(task_id))
            await runner.gate(task_id).until_entered()
            runner.gate(task_id).opened.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            await manager.cancel(task_id)
            row = await manager.wait(task_id, BOUND_S)
            assert row.status in ("completed", "cancelled")
            assert (row.result is not None) == (row.status == "completed")
            assert await manager.cancel(task_id) == row


async def test_unknown_ids_are_not_found(make_manager: Make, runner: GatedRunner) -> None:
    async with make_manager(runner) as manager:
        for call in (manager.cancel("none"), manager.wait("none", 0)):
            with pytest.raises(TaskNotFound):
                await call
        assert manager.live("none") is None


async def test_waiting_tells_of_progress_and_returns_at_the_end(
    make_manager: Make, new_task: New
) -> None:
    told: asyncio.Queue[int] = asyncio.Queue()
    go_on = [threading.Event() for _ in range(3)]

    def run(spec: Any, directory: Any, context: Context) -> dict[str, Any]:
        for number, event in enumerate(go_on, start=1):
            context.report(progress(number))
            assert event.wait(BOUND_S)
        return RESULT

    async def on_progress(live: Live) -> None:
        assert live.progress is not None
        told.put_nowait(live.progress.epoch)

    async with make_manager(run) as manager:
        await manager.submit(new_task("ok"))
        waiting = asyncio.create_task(manager.wait("ok", BOUND_S, on_progress))
        for number, event in enumerate(go_on, start=1):
            assert await asyncio.wait_for(told.get(), BOUND_S) == number
            event.set()
        assert (await waiting).status == "completed"


async def test_progress_does_not_touch_the_database(
    make_manager: Make, new_task: New, tasks: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, get, told = [0], tasks.get, asyncio.Event()
    finish = threading.Event()

    async def counted(task_id: str) -> Any:
        reads[0] += 1
        return await get(task_id)

    def run(spec: Any, directory: Any, context: Context) -> dict[str, Any]:
        for number in range(1, 10_001):
            context.report(progress(number, 10_000))
        assert finish.wait(BOUND_S)
        return RESULT

    async def on_progress(live: Live) -> None:
        if live.progress and live.progress.epoch == 10_000:
            told.set()

    monkeypatch.setattr(tasks, "get", counted)
    async with make_manager(run) as manager:
        await manager.submit(new_task("ok"))
        waiting = asyncio.create_task(manager.wait("ok", BOUND_S, on_progress))
        await asyncio.wait_for(told.wait(), BOUND_S)
        finish.set()
        await waiting
    assert reads[0] <= 3  # at first, after the claim, at the end


async def test_giving_up_waiting_leaves_the_task_alone(
    make_manager: Make, runner: GatedRunner, new_task: New
) -> None:
    async with make_manager(runner) as manager:
        await manager.submit(new_task("ok"))
        await runner.gate("ok").until_entered()
        waiting = asyncio.create_task(manager.wait("ok", BOUND_S))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await manager.wait("ok", 0)).status == "training"
        runner.gate("ok").opened.set()
        assert (await manager.wait("ok", BOUND_S)).status == "completed"


async def test_a_submission_cancelled_at_any_moment_is_whole_or_absent(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore
) -> None:
    async with make_manager(runner) as manager:
        for turns in TIMESTAMPS:
            task_id = f"ok{turns}"
            runner.gate(task_id).opened.set()
            submitting = asyncio.create_task(manager.submit(new_task(task_id)))
            for _ in range(turns):
                await asyncio.sleep(0)
            submitting.cancel()
            await asyncio.gather(submitting, return_exceptions=True)
            if await tasks.ids_with_prefix(task_id, 1):
                assert (await manager.wait(task_id, BOUND_S)).status == "completed"
            else:
                assert task_id not in runner.begun


async def test_an_outcome_waits_until_the_disk_has_space(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    failures, move = [3], tasks.move

    async def full_at_first(*arguments: Any) -> bool:
        if failures[0]:
            failures[0] -= 1
            raise StorageFull("No space left.", hint="Free some.")
        return await move(*arguments)

    monkeypatch.setattr(tasks, "move", full_at_first)
    runner.gate("ok").opened.set()
    async with make_manager(runner) as manager:
        await manager.submit(new_task("ok"))
        assert (await manager.wait("ok", BOUND_S)).status == "completed"
    assert failures == [0]


async def test_a_claim_that_fails_is_tried_again(
    make_manager: Make, runner: GatedRunner, new_task: New, tasks: TaskStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    failures, claim = [3], tasks.claim

    async def full_at_first(generation: str, task_id: str) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise StorageFull("No space left.", hint="Free some.")
        return await claim(generation, task_id)

    monkeypatch.setattr(tasks, "claim", full_at_first)
    runner.gate("ok").opened.set()
    async with make_manager(runner) as manager:
        await manager.submit(new_task("ok"))
        assert (await manager.wait("ok", BOUND_S)).status == "completed"


async def test_two_runs_alternate_while_both_want_to_compute(
    make_manager: Make, new_task: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TURN_S", 0.0)
    turns: list[str] = []
    one_has_ended = threading.Event()

    def until_the_other_waits() -> None:
        while not one_has_ended.is_set():
            with manager._executor.lease._changed:
                if len(manager._executor.lease._queue) > 1:
                    return

    def run(spec: dict[str, Any], directory: Any, context: Context) -> dict[str, Any]:
        for _ in range(50):
            context.yield_turn()
            until_the_other_waits()
            turns.append(spec["id"])
        one_has_ended.set()
        return RESULT

    manager = make_manager(run)
    async with manager:
        for task_id in ("a", "b"):
            await manager.submit(new_task(task_id))
        for task_id in ("a", "b"):
            assert (await manager.wait(task_id, BOUND_S)).status == "completed"
    assert turns in (["a", "b"] * 50, ["b", "a"] * 50)
