"""Clients take turns, and each one's tasks come in the order of submission."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.jobs.turns import Turns
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S, GatedRunner


def turns_of(**clients: int) -> Turns:
    """So many tasks of each client, one client after the other."""
    turns = Turns()
    for client, count in clients.items():
        for number in range(count):
            turns.add(f"{client}{number}", client)
    return turns


def begin_all(turns: Turns, ends_at_once: bool = True) -> list[str]:
    """The order in which all tasks begin."""
    order = []
    while (task_id := turns.next()) is not None:
        order.append(task_id)
        turns.begin(task_id)
        if ends_at_once:
            turns.end(task_id)
    return order


@pytest.mark.parametrize("ends_at_once", [True, False])
def test_a_client_with_many_tasks_does_not_hold_up_one_with_few(ends_at_once: bool) -> None:
    order = begin_all(turns_of(many=5, few=2), ends_at_once)
    assert order == ["many0", "few0", "many1", "few1", "many2", "many3", "many4"]


def test_a_client_with_fewer_running_tasks_is_next() -> None:
    turns = turns_of(a=3)
    for _ in range(2):
        turns.begin(turns.next() or "")
    turns.add("b0", "b")
    turns.add("b1", "b")
    assert begin_all(turns, ends_at_once=False) == ["b0", "b1", "a2"]


def test_a_task_that_was_put_back_is_its_clients_next() -> None:
    turns = turns_of(a=2)
    turns.begin("a0")
    turns.put_back("a0")
    assert begin_all(turns) == ["a0", "a1"]


def test_a_client_that_is_busy_with_a_search_begins_its_other_tasks_only() -> None:
    turns = Turns()
    for task_id in ("search0", "search1", "training"):
        turns.add(task_id, "a", divides=task_id.startswith("search"))
    turns.add("search2", "b", divides=True)
    turns.begin("search0")
    assert turns.count_urgent({"a"}) == 2
    assert turns.next({"a"}) == "search2"
    turns.begin("search2")
    assert turns.next({"a", "b"}) == "training"
    turns.begin("training")
    assert (turns.next({"a", "b"}), turns.next(), turns.count_urgent({"a", "b"})) == (
        None,
        "search1",
        0,
    )


def test_positions_are_those_in_which_tasks_begin() -> None:
    generator = random.Random(3)
    for _ in range(50):
        counts = {client: generator.randrange(5) for client in "abc"}
        turns = turns_of(**counts)
        for _ in range(generator.randrange(3)):
            if (task_id := turns.next()) is not None:
                turns.begin(task_id)
                turns.end(task_id)
        known = [f"{client}{number}" for client, count in counts.items() for number in range(count)]
        positions = {task_id: turns.position(task_id) for task_id in known}
        order = begin_all(turns)
        began = {task_id: number for number, task_id in enumerate(order)}
        assert positions == {task_id: began.get(task_id) for task_id in known}


def test_nothing_is_kept_of_clients_without_tasks() -> None:
    turns = turns_of(a=3, b=2)
    begin_all(turns)
    assert not any((turns._waiting, turns._whole, turns._client_of, turns._served, +turns._running))


@pytest.mark.asyncio
async def test_clients_of_a_server_take_turns_and_cancelled_tasks_take_none(
    tasks: TaskStore,
    runner: GatedRunner,
    make_manager: Callable[..., JobManager],
    new_task: Callable[..., NewTask],
) -> None:
    await tasks.insert(new_task("ok-earlier"), 10)  # of a server before this one
    async with make_manager(runner, capacity=1) as manager:
        await runner.gate("ok-earlier").until_entered()
        for number in range(3):
            await manager.submit(new_task(f"ok-many{number}"), "many")
        await manager.submit(new_task("ok-few"), "few")
        await manager.cancel("ok-many1")
        assert [await manager.position(each) for each in ("ok-many0", "ok-few", "ok-many2")] == [
            *range(3)
        ]
        names = ["ok-earlier", "ok-many0", "ok-few", "ok-many2"]
        for name in names:
            runner.gate(name).opened.set()
        for name in names:
            assert (await manager.wait(name, BOUND_S)).status == "completed"
    assert runner.begun == names
