"""The table of tasks: one row for each request, and no transition that is not allowed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from ktrdr_mcp.errors import DatabaseError, QueueFull, TaskConflict, TaskNotFound
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import standing
from ktrdr_mcp.service.replies import find_resumed_from
from ktrdr_mcp.store.db import Database, rows_of
from ktrdr_mcp.store.task_row import Fence, NewTask, TaskRow, json_text
from ktrdr_mcp.store.tasks import SAME_FOLDER, TaskStore
from tests.support.sample_results import task_result

pytestmark = pytest.mark.asyncio

Make = Callable[..., NewTask]
RESULT = task_result()
COMPLETED = {
    "result": json_text(RESULT.to_json()),
    "progress": 100,
    "completed_at": "2026-01-01T00:00:00Z",
}
STANDING = {"progress": 40, "current_epoch": 4, "resumed_from": "epoch 2"}
FAILED = {"error_code": "diverged", "completed_at": "2026-01-01T00:00:00Z"}


async def claimed(tasks: TaskStore, generation: str = "g1") -> TaskRow:
    row = await tasks.claim(generation)
    assert row is not None
    return row


async def test_a_stored_task_reads_back_as_it_was_sent(tasks: TaskStore, new_task: Make) -> None:
    new = new_task("t1", idempotency_key="key", group_id="g", config={"z": 1, "a": [0.1, "ü"]})
    row, created = await tasks.insert(new, 10)
    assert created
    assert row == await tasks.get("t1")
    assert (row.config, list(row.config), row.spec) == (new.config, ["z", "a"], new.spec)
    assert (row.status, row.progress, row.attempt, row.generation) == ("pending", 0, 0, None)
    assert (row.started_at, row.completed_at, row.result) == (None, None, None)
    assert row.cancel_requested is False
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row.created_at)


async def test_fifty_identical_starts_in_parallel_make_one_task(
    tasks: TaskStore, new_task: Make
) -> None:
    new = [
        new_task(f"t{number}", request_hash="same", idempotency_key="key") for number in range(50)
    ]
    answers = await asyncio.gather(*(tasks.insert(each, 10) for each in new))
    assert sum(created for _, created in answers) == 1
    assert len({row.task_id for row, _ in answers}) == 1


async def test_the_same_id_with_another_request_is_a_conflict(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1"), 10)
    with pytest.raises(TaskConflict) as caught:
        await tasks.insert(new_task("t1", request_hash="other"), 10)
    assert caught.value.field == "task_id"


@pytest.mark.parametrize("known", ["run-1.A", "RUN-1.A", "Run-1.a", "rUN-1.a"])
@pytest.mark.parametrize("new", ["run-1.a", "RUN-1.a", "rUn-1.A"])
async def test_an_id_that_only_its_case_tells_from_a_known_one_is_a_conflict(
    tasks: TaskStore, new_task: Make, known: str, new: str
) -> None:
    await tasks.insert(new_task(known), 10)
    with pytest.raises(TaskConflict, match="upper and lower case") as caught:
        await tasks.insert(new_task(new), 10)
    assert (caught.value.field, known in caught.value.message) == ("task_id", True)
    assert known in caught.value.hint
    assert await tasks.ids_with_prefix("", 10) == [known]
    with pytest.raises(TaskNotFound):
        await tasks.get(new)


async def test_ids_that_differ_in_more_than_case_do_not_collide(
    tasks: TaskStore, new_task: Make
) -> None:
    for task_id in ("run_a", "Run-a", "run", "Run_", "RUN_A1", "sun_a", "qun_a"):
        _, created = await tasks.insert(new_task(task_id), 10)
        assert created


async def test_of_starts_in_parallel_whose_ids_differ_in_case_one_is_taken(
    tasks: TaskStore, new_task: Make
) -> None:
    cases = ("run", "Run", "RUN", "rUn")
    answers = await asyncio.gather(
        *(tasks.insert(new_task(each), 10) for each in cases), return_exceptions=True
    )
    assert [isinstance(answer, TaskConflict) for answer in answers].count(False) == 1
    assert len(await tasks.ids_with_prefix("", 10)) == 1


async def test_the_ids_in_other_cases_are_looked_up_in_the_index(database: Database) -> None:
    plan = await database.read(f"EXPLAIN QUERY PLAN {SAME_FOLDER}", {"task_id": "Run"})
    assert [row["detail"].split(" (")[0] for row in plan] == [
        "SEARCH training_tasks USING COVERING INDEX sqlite_autoindex_training_tasks_1"
    ]


async def test_tasks_of_a_database_that_holds_an_id_in_two_cases_are_told_apart(
    tasks: TaskStore, new_task: Make
) -> None:
    for task_id in ("run", "Run"):  # as a database from before the refusal holds them
        await tasks.insert_completed(new_task(task_id), COMPLETED)
    for task_id in ("run", "Run"):
        row, created = await tasks.insert(new_task(task_id), 10)
        assert (row.task_id, created) == (task_id, False)
        assert (await tasks.get(task_id)).task_id == task_id
    with pytest.raises(TaskConflict):
        await tasks.insert(new_task("RUN"), 10)


async def test_the_same_key_with_another_request_is_a_conflict(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1", idempotency_key="key"), 10)
    with pytest.raises(TaskConflict) as caught:
        await tasks.insert(new_task("t2", idempotency_key="key"), 10)
    assert caught.value.field == "idempotency_key"
    assert "t1" in caught.value.message


async def test_an_id_and_a_key_of_different_tasks_are_a_conflict(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1", request_hash="same"), 10)
    await tasks.insert(new_task("t2", request_hash="same", idempotency_key="key"), 10)
    with pytest.raises(TaskConflict) as caught:
        await tasks.insert(new_task("t1", request_hash="same", idempotency_key="key"), 10)
    assert caught.value.field == "idempotency_key"


async def test_a_repeated_request_is_recognised_by_what_the_client_sent(
    tasks: TaskStore, new_task: Make
) -> None:
    row, _ = await tasks.insert(new_task("t1", request_hash="same", idempotency_key="key"), 10)
    assert await tasks.find_repeated("t1", None, ["same"]) == row
    assert await tasks.find_repeated(None, "key", ["same"]) == row
    assert await tasks.find_repeated(None, None, ["same"]) is None
    assert await tasks.find_repeated("t2", "other", ["same"]) is None
    with pytest.raises(TaskConflict):
        await tasks.find_repeated(None, "key", ["another"])


async def test_tasks_without_a_key_do_not_collide(tasks: TaskStore, new_task: Make) -> None:
    await tasks.insert(new_task("t1"), 10)
    _, created = await tasks.insert(new_task("t2"), 10)
    assert created


async def test_a_full_queue_refuses_with_its_count_but_knows_what_it_took(
    tasks: TaskStore, new_task: Make
) -> None:
    for number in range(3):
        await tasks.insert(new_task(f"t{number}"), 3)
    with pytest.raises(QueueFull, match="3 tasks are waiting"):
        await tasks.insert(new_task("t3"), 3)
    _, created = await tasks.insert(new_task("t1"), 3)
    assert not created
    await claimed(tasks)
    _, created = await tasks.insert(new_task("t3"), 3)
    assert created


async def test_an_unknown_id_is_answered_with_ids_that_exist(
    tasks: TaskStore, new_task: Make
) -> None:
    with pytest.raises(TaskNotFound, match="no task 'x'") as caught:
        await tasks.get("x")
    assert "no tasks yet" in caught.value.hint
    for number in range(7):
        await tasks.insert(new_task(f"training_{number}"), 10)
    for call in (tasks.get, tasks.request_cancel):
        with pytest.raises(TaskNotFound) as caught:
            await call("trainin_6")
        assert "training_6, training_5, training_4, training_3, training_2." in caught.value.hint
        assert "Did you mean 'training_6'?" in caught.value.hint


async def test_tasks_are_claimed_once_each_in_the_order_of_submission(
    tasks: TaskStore, new_task: Make
) -> None:
    for number in range(10):
        await tasks.insert(new_task(f"t{number}"), 10)
    rows = await asyncio.gather(*(tasks.claim("g1") for _ in range(12)))
    ids = [row.task_id for row in rows if row is not None]
    assert ids == [f"t{number}" for number in range(10)]
    first = rows[0]
    assert first is not None
    assert (first.status, first.attempt, first.generation) == ("training", 1, "g1")
    assert first.started_at is not None
    assert first.fence == Fence(1, "g1")


async def test_a_result_is_written_only_through_the_fence_of_its_run(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1"), 10)
    await claimed(tasks)
    for ghost in (Fence(1, "g0"), Fence(0, "g1"), Fence(2, "g1")):
        assert not await tasks.move("t1", {"training"}, "completed", ghost, COMPLETED)
    assert await tasks.move("t1", {"training"}, "completed", Fence(1, "g1"), COMPLETED)
    row = await tasks.get("t1")
    assert (row.status, row.result, row.progress) == ("completed", RESULT, 100)


@pytest.mark.parametrize(
    ("status", "changes"), [("completed", COMPLETED), ("failed", FAILED), ("cancelled", {})]
)
async def test_a_finished_task_never_changes(
    database: Database, tasks: TaskStore, new_task: Make, status: str, changes: dict[str, str]
) -> None:
    await tasks.insert(new_task("t1"), 10)
    await claimed(tasks)
    assert await tasks.move("t1", {"training"}, status, changes=changes)
    final = await tasks.get("t1")
    assert not await tasks.move("t1", {"pending", "training"}, "failed", changes=FAILED)
    assert await tasks.release("t1", Fence(1, "g1"), STANDING) is None
    assert await tasks.requeue_running("g2") == []
    assert await tasks.request_cancel("t1") == final
    with pytest.raises(ValueError, match="not possible"):
        await tasks.move("t1", {status}, "pending")
    with pytest.raises(Exception, match="a finished task never changes"):
        async with database.transaction() as connection:
            await rows_of(connection, "UPDATE training_tasks SET result = '{}'")
    assert await tasks.get("t1") == final


async def test_a_completed_task_without_a_result_cannot_be_stored(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1"), 10)
    with pytest.raises(ValueError, match="not possible"):
        await tasks.move("t1", {"pending"}, "completed")
    with pytest.raises(ValueError, match="may not change"):
        await tasks.move("t1", {"pending"}, "failed", changes={"task_id": "t2"})
    assert (await tasks.get("t1")).status == "pending"


async def test_cancelling_ends_a_waiting_task_and_only_marks_a_running_one(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("running"), 10)
    await tasks.insert(new_task("waiting"), 10)
    await claimed(tasks)
    waiting = await tasks.request_cancel("waiting")
    running = await tasks.request_cancel("running")
    assert (waiting.status, waiting.completed_at is None) == ("cancelled", False)
    assert (running.status, running.cancel_requested) == ("training", True)
    assert await tasks.claim("g1") is None


@pytest.mark.parametrize(("asked", "expected"), [(False, "pending"), (True, "cancelled")])
async def test_a_run_that_ends_without_a_result_waits_again_unless_cancelled(
    tasks: TaskStore, new_task: Make, asked: bool, expected: str
) -> None:
    await tasks.insert(new_task("t1"), 10)
    fence = (await claimed(tasks)).fence
    if asked:
        await tasks.request_cancel("t1")
    assert await tasks.release("t1", fence, STANDING) == expected
    row = await tasks.get("t1")
    assert (row.status, row.completed_at is not None) == (expected, asked)
    assert (row.progress, row.current_epoch, row.resumed_from) == (40, 4, "epoch 2")
    assert await tasks.release("t1", fence, STANDING) is None


async def test_a_run_that_ends_before_it_knows_where_it_begins_leaves_the_standing_as_it_was(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1"), 10)
    await tasks.release("t1", (await claimed(tasks)).fence, STANDING)
    fence = (await claimed(tasks)).fence
    assert await tasks.release("t1", fence, standing(Live())) == "pending"
    row = await tasks.get("t1")
    assert (row.progress, row.current_epoch, row.resumed_from) == (40, 4, "epoch 2")


async def test_a_task_claimed_again_does_not_say_where_the_attempt_before_began(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1"), 10)
    await tasks.release("t1", (await claimed(tasks)).fence, STANDING)
    assert find_resumed_from(await claimed(tasks), Live()) is None
    assert find_resumed_from(await tasks.get("t1"), None) is None


async def test_a_new_generation_takes_back_what_a_dead_one_left_running(
    tasks: TaskStore, new_task: Make
) -> None:
    for task_id in ("dead", "dead and cancelled", "mine", "waiting"):
        await tasks.insert(new_task(task_id), 10)
    await claimed(tasks, "old")
    await claimed(tasks, "old")
    await claimed(tasks, "new")
    await tasks.request_cancel("dead and cancelled")
    released = await tasks.requeue_running("new")
    assert [(row.task_id, row.status, row.crashes) for row in released] == [
        ("dead", "pending", 1),
        ("dead and cancelled", "cancelled", 1),
    ]
    assert await tasks.counts() == {"pending": 2, "cancelled": 1, "training": 1}
    again = await claimed(tasks, "new")
    assert (again.task_id, again.attempt, again.generation) == ("dead", 2, "new")


async def test_a_task_whose_process_died_three_times_is_given_up(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("poison"), 10)
    for number in range(1, 4):
        await claimed(tasks, f"g{number}")
        (row,) = await tasks.requeue_running(f"g{number + 1}")
        assert (row.crashes, row.attempt) == (number, number)
        assert row.status == ("failed" if number == 3 else "pending")
    assert (row.error_code, row.error_stage) == ("crash_loop", "training")
    assert row.error_message
    assert row.error_hint
    assert row.completed_at
    assert await tasks.claim("g9") is None


async def test_a_cancelled_task_whose_process_died_too_often_is_cancelled(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("poison"), 10)
    await claimed(tasks, "g1")
    await tasks.request_cancel("poison")
    (row,) = await tasks.requeue_running("g2", most_crashes=1)
    assert (row.status, row.error_code) == ("cancelled", None)


async def test_a_drain_that_a_run_outlasts_is_no_crash_and_leaves_it_a_ghost(
    tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1"), 10)
    row = await claimed(tasks, "g1")
    await tasks.abandon("t1", row.fence)
    assert not await tasks.move("t1", {"training"}, "completed", row.fence, {"progress": 100})
    (again,) = await tasks.requeue_running("g2")
    assert (again.status, again.crashes) == ("pending", 0)


async def test_pages_are_newest_first_and_say_whether_more_follow(
    tasks: TaskStore, new_task: Make
) -> None:
    for number in range(5):
        await tasks.insert(new_task(f"t{number}", symbol="AAPL" if number % 2 else "MSFT"), 10)
    await claimed(tasks)

    async def page(**arguments: object) -> tuple[list[str], bool]:
        found = await tasks.page(**arguments)  # type: ignore[arg-type]
        return [row.task_id for row in found.rows], found.has_more

    assert await page(limit=2) == (["t4", "t3"], True)
    assert await page(limit=2, offset=4) == (["t0"], False)
    assert await page(limit=5) == (["t4", "t3", "t2", "t1", "t0"], False)
    assert await page(limit=5, status="training") == (["t0"], False)
    assert await page(limit=1, symbol="AAPL", status="pending") == (["t3"], True)
    assert await page(limit=5, symbol="none") == ([], False)


async def test_a_waiting_task_knows_how_many_come_before_it(
    tasks: TaskStore, new_task: Make
) -> None:
    for number in range(4):
        await tasks.insert(new_task(f"t{number}"), 10)
    await claimed(tasks)
    await tasks.request_cancel("t1")
    ids = ("t0", "t1", "t2", "t3", "unknown")
    positions = [await tasks.queue_position(each) for each in ids]
    assert positions == [None, None, 0, 1, None]


async def test_similar_tasks_and_completions_are_the_newest_first(
    tasks: TaskStore, new_task: Make
) -> None:
    for task_id in ("a_1", "a%2", "b_1", "A_3"):
        await tasks.insert(new_task(task_id, similarity_hash=task_id[-1]), 10)
    assert await tasks.similar("1", excluding="b_1") == ["a_1"]
    assert await tasks.similar("1", excluding="") == ["b_1", "a_1"]
    assert await tasks.ids_with_prefix("a", 5) == ["a%2", "a_1"]
    assert await tasks.ids_with_prefix("a%", 5) == ["a%2"]
    assert await tasks.ids_with_prefix("", 2) == ["A_3", "b_1"]


async def test_a_table_that_lacks_a_column_is_a_damaged_database(
    database: Database, tasks: TaskStore, new_task: Make
) -> None:
    await tasks.insert(new_task("t1"), 10)
    async with database.transaction() as connection:  # as a flipped bit in the schema does
        await rows_of(connection, "ALTER TABLE training_tasks RENAME COLUMN crashes TO crashfs")
    with pytest.raises(DatabaseError, match="damaged"):
        await tasks.get("t1")
