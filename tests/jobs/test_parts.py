"""Parts of a task: run on all workers, make way for tasks, and are resumed and given up singly."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp import files
from ktrdr_mcp.context import Context, Divided, Part, Progress, folder_of
from ktrdr_mcp.errors import Diverged, StorageError
from ktrdr_mcp.jobs import queue
from ktrdr_mcp.jobs.executors.base import Begun, Ended, Reported
from ktrdr_mcp.jobs.executors.processes import Pool, ProcessExecutor
from ktrdr_mcp.jobs.executors.threads import ThreadExecutor
from ktrdr_mcp.jobs.parts import RESULT, Group, RunningPart, read_results
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.jobs.running import Running, reset_crashes, resetting_crashes
from ktrdr_mcp.jobs.worker import Outbox, WorkerContext
from ktrdr_mcp.service import replies
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.task_row import Fence, NewTask
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S
from tests.support.gated_runner import RESULT as RETURNED
from tests.support.worker_work import of_parts

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).parents[2]

New = Callable[..., NewTask]


@dataclass
class Runner:
    """Runs tasks whose specification names parts; a part waits for `opened` if it is to."""

    begun: list[str] = field(default_factory=list)
    contexts: dict[str, Context] = field(default_factory=dict)
    opened: threading.Event = field(default_factory=threading.Event)
    inside: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, spec: dict[str, Any], directory: Path, context: Context) -> dict[str, Any]:
        """One run of a task or a part."""
        part = spec.get("part")
        if part is None:
            self.begun.append("task")
            if spec.get("waits"):
                self.inside.release()
                while not self.opened.is_set():
                    context.yield_turn()
            names = spec.get("parts", [])
            results = context.run_parts(of_parts(names)) if names else {}
            assert results == {name: {"of": name} for name in names}
            return RETURNED
        name = part["name"]
        self.begun.append(name)
        self.contexts[name] = context
        context.report(Progress(1, 2, 0.7, 0.8, 0.5, 0.4))
        self.inside.release()
        if name.startswith("bad"):
            raise Diverged("The loss became NaN.", hint="Lower it.")
        while name.startswith("slow") and not self.opened.is_set():
            context.yield_turn()
        return {"of": name}

    async def until_inside(self, parts: int) -> None:
        """Waits until so many parts have begun."""
        for _ in range(parts):
            assert await asyncio.to_thread(self.inside.acquire, timeout=BOUND_S)


@pytest.fixture
def run() -> Runner:
    return Runner()


def make(tasks: TaskStore, folder: Path, run: Any, capacity: int = 2) -> JobManager:
    """A manager whose tasks have a folder each."""
    return JobManager(
        tasks,
        ThreadExecutor(run, capacity),
        lambda task_id: folder / task_id / "bundle",
        drain_s=BOUND_S,
        retry_s=0.0,
    )


async def test_a_task_goes_on_with_what_its_parts_returned(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    async with make(tasks, tmp_path, run) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["p0", "p1", "p2"]}))
        row = await manager.wait("sweep", BOUND_S)
    assert (row.status, row.attempt) == ("completed", 1)
    assert sorted(run.begun) == ["p0", "p1", "p2", "task", "task"]


async def test_parts_take_every_place_and_show_how_far_the_task_has_come(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    names = ["slow0", "slow1", "slow2", "slow3"]
    async with make(tasks, tmp_path, run) as manager:
        await manager.submit(new_task("sweep", spec={"parts": names}))
        await run.until_inside(2)
        assert set(run.begun) == {"task", "slow0", "slow1"}
        seen = asyncio.Event()

        async def look(live: Any) -> None:
            if live.progress.epoch == 25:  # half of two quarters of a hundred epochs
                seen.set()

        watching = asyncio.create_task(manager.wait("sweep", BOUND_S, look))
        await asyncio.wait_for(seen.wait(), BOUND_S)
        assert (await tasks.get("sweep")).status == "training"
        run.opened.set()
        assert (await watching).status == "completed"


async def test_a_part_makes_way_for_a_task_that_waits_and_goes_on_later(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    async with make(tasks, tmp_path, run) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["slow0", "slow1", "slow2"]}))
        await run.until_inside(2)
        await manager.submit(new_task("mine"))
        assert (await manager.wait("mine", BOUND_S)).status == "completed"
        await run.until_inside(1)  # a part goes on in the place of the task that ended
        assert run.begun[:5].count("task") == 2
        assert sum(context.draining for context in run.contexts.values()) <= 1
        run.opened.set()
        row = await manager.wait("sweep", BOUND_S)
    assert (row.status, row.attempt, row.crashes) == ("completed", 1, 0)
    assert len([name for name in run.begun if name != "task"]) == 4  # one of three ran twice


async def test_cancelling_a_task_ends_its_parts(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    async with make(tasks, tmp_path, run) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["slow0", "slow1", "slow2"]}))
        await run.until_inside(2)
        await manager.cancel("sweep")
        assert (await manager.wait("sweep", BOUND_S)).status == "cancelled"
        await manager.submit(new_task("next"))
        assert (await manager.wait("next", BOUND_S)).status == "completed"
    assert "slow2" not in run.begun


async def test_a_search_that_is_cancelled_while_it_divides_begins_no_part_and_keeps_no_place(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, look_on = threading.Event(), threading.Event()
    release, ending, end = tasks.release, asyncio.Event(), asyncio.Event()

    def read_slowly(group: Group, parts: Any) -> dict[str, Any]:
        looked.set()
        assert look_on.wait(BOUND_S)
        return {}

    async def release_slowly(*arguments: Any) -> str | None:
        ending.set()
        await end.wait()
        return await release(*arguments)

    monkeypatch.setattr(queue, "read_results", read_slowly)
    monkeypatch.setattr(tasks, "release", release_slowly)
    async with make(tasks, tmp_path, run, capacity=3) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["slow0", "slow1"]}))
        assert await asyncio.to_thread(looked.wait, BOUND_S)
        await manager.cancel("sweep")
        look_on.set()
        await asyncio.wait_for(ending.wait(), BOUND_S)
        await manager.submit(new_task("next"))  # for which the dispatcher looks around
        assert (await manager.wait("next", BOUND_S)).status == "completed"
        end.set()
        assert (await manager.wait("sweep", BOUND_S)).status == "cancelled"
        assert run.begun == ["task", "task"]
        await manager.submit(new_task("later", spec={"parts": ["slow2", "slow3", "slow4"]}))
        await run.until_inside(3)  # every place is free again
        run.opened.set()
        assert (await manager.wait("later", BOUND_S)).status == "completed"


async def test_a_second_search_of_a_client_waits_while_parts_of_its_first_one_do(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    def search(task_id: str) -> NewTask:
        parts = [f"slow-{task_id}-{number}" for number in range(3)]
        return new_task(task_id, spec={"parts": parts, "spread": True})

    async with make(tasks, tmp_path, run) as manager:
        await manager.submit(search("first"), "mine")
        await run.until_inside(2)
        await manager.submit(search("second"), "mine")
        await manager.submit(new_task("training"), "mine")
        assert (await manager.wait("training", BOUND_S)).status == "completed"
        await run.until_inside(1)  # in the place of the training
        await manager.submit(search("other"), "another's")
        await run.until_inside(1)
        assert run.begun[-1] == "slow-other-0"
        assert (await tasks.get("second")).status == "pending"
        run.opened.set()
        for task_id in ("first", "second", "other"):
            assert (await manager.wait(task_id, BOUND_S)).status == "completed"


async def test_clients_share_the_places_for_parts_however_many_searches_each_has(
    tasks: TaskStore, new_task: New, tmp_path: Path
) -> None:
    together, last = threading.Barrier(4), threading.Event()
    inside, begun = threading.Semaphore(0), list[str]()
    ended = {
        f"{search}-{part}": threading.Event()
        for search in ("a0", "a1", "a2", "b0")
        for part in range(4)
    }

    def divide(spec: dict[str, Any], directory: Path, context: Context) -> dict[str, Any]:
        if "part" in spec:
            name = spec["part"]["name"]
            begun.append(name)
            inside.release()
            while not ended[name].is_set():
                context.yield_turn()
            return {"of": name}
        together.wait(BOUND_S)
        if spec["id"] == "b0":
            assert last.wait(BOUND_S)
        context.run_parts(of_parts([f"{spec['id']}-{part}" for part in range(4)]))
        raise AssertionError

    async with make(tasks, tmp_path, divide, capacity=4) as manager:
        for task_id in ("a0", "a1", "a2", "b0"):
            await manager.submit(new_task(task_id), client=task_id[0])
        for _ in range(3):
            assert await asyncio.to_thread(inside.acquire, timeout=BOUND_S)
        last.set()
        for _ in range(2):
            assert await asyncio.to_thread(inside.acquire, timeout=BOUND_S)
            ended[begun[0]].set()
        assert sorted(name[0] for name in begun) == ["a", "a", "a", "b", "b"]


async def test_a_search_of_which_nothing_runs_is_not_charged_with_the_death_of_its_server(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, marked, marks = tasks.mark_idle, asyncio.Event(), list[tuple[str, bool]]()

    async def mark_and_tell(task_id: str, fence: Fence, *, idle: bool) -> None:
        await mark(task_id, fence, idle=idle)
        marks.append((task_id, idle))
        marked.set()

    monkeypatch.setattr(tasks, "mark_idle", mark_and_tell)
    async with make(tasks, tmp_path, run, capacity=1) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["slow0", "slow1"]}))
        await run.until_inside(1)
        await manager.submit(new_task("training", spec={"waits": True}))
        await run.until_inside(1)
        await asyncio.wait_for(marked.wait(), BOUND_S)
        with closing(sqlite3.connect(tmp_path / "ktrdr.db")) as committed:
            committed.execute("VACUUM INTO ?", (str(tmp_path / "killed.db"),))
        run.opened.set()
        assert (await manager.wait("sweep", BOUND_S)).status == "completed"
    assert marks == [("sweep", True), ("sweep", False)]
    async with await Database.open(
        tmp_path / "killed.db"
    ) as killed:  # as the death of the server leaves it
        rows = await TaskStore(killed).requeue_running("next")
    assert {row.task_id: row.crashes for row in rows} == {"sweep": 0, "training": 1}


async def test_the_next_server_runs_only_what_has_no_result(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    async with make(tasks, tmp_path, run, capacity=1) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["p0", "p1", "slow"]}))
        await run.until_inside(3)
    assert (await tasks.get("sweep")).status == "pending"
    damaged = folder_of(tmp_path / "sweep" / "bundle", "p1") / RESULT
    damaged.write_bytes(damaged.read_bytes().replace(b'"p1"', b'"p2"'))
    run.begun.clear()
    run.opened.set()
    async with make(tasks, tmp_path, run) as manager:
        row = await manager.wait("sweep", BOUND_S)
    assert (row.status, row.attempt, row.resumed_from) == (
        "completed",
        2,
        "epoch 33: 1 parts had run",
    )
    assert sorted(run.begun) == ["p1", "slow", "task", "task"]


async def test_a_part_that_fails_fails_its_task_and_ends_the_others(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    async with make(tasks, tmp_path, run) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["slow", "bad", "p2"]}))
        row = await manager.wait("sweep", BOUND_S)
    assert (row.status, row.error_code) == ("failed", "diverged")
    assert "p2" not in run.begun


async def test_a_part_whose_result_the_disk_refuses_does_not_run_again(
    tasks: TaskStore,
    new_task: New,
    tmp_path: Path,
    run: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals = iter([True, True])
    replace = files.replace

    def refuse(path: Path, data: bytes, mode: int = 0o644) -> None:
        if next(refusals, False):
            raise StorageError("The disk is full.", hint="Make room.")
        replace(path, data, mode)

    monkeypatch.setattr(files, "replace", refuse)
    async with make(tasks, tmp_path, run) as manager:
        await manager.submit(new_task("sweep", spec={"parts": ["p0"]}))
        assert (await manager.wait("sweep", BOUND_S)).status == "completed"
    assert run.begun == ["task", "p0", "task"]


async def test_a_ghost_of_a_part_is_not_heard(
    tasks: TaskStore, new_task: New, tmp_path: Path
) -> None:
    await tasks.insert(new_task("sweep"), 10)
    row = await tasks.claim("here")
    assert row is not None
    group = Group(Running(row, lambda: None), tmp_path / "bundle")
    group.ask(of_parts(["p0"]), {})
    ghost = group.begin_next()
    group.finish(ghost, Ended(died="signal SIGKILL"))
    again = group.begin_next()
    assert (ghost.envelope().attempt, again.envelope().attempt) == (1, 2)
    group.finish(ghost, Ended(result={"of": "a ghost"}))
    assert group.results == {}
    group.finish(again, Ended(result={"of": "p0"}))
    assert group.results == {"p0": {"of": "p0"}}


async def test_a_task_goes_on_where_its_parts_do_but_not_where_one_only_made_way(
    tasks: TaskStore, new_task: New, tmp_path: Path
) -> None:
    await tasks.insert(new_task("sweep"), 10)
    row = await tasks.claim("here")
    assert row is not None
    task = Running(row, lambda: None)
    task.receive(Reported(Progress(20, 100, 0.7, 0.8, 0.5, 0.4), 1.0))  # before it asked
    task.group = group = Group(task, tmp_path / "bundle")
    group.ask([Part(f"p{number}", {}, 0.2) for number in range(4)], {})
    assert not task.went_on.is_set()
    resumed, fresh = group.begin_next(), group.begin_next()
    for part, epochs in ((resumed, (4, 5)), (fresh, (0, 5))):
        part.receive(Begun(epochs[0], None))
        for epoch in filter(None, epochs):
            part.receive(Reported(Progress(epoch, 10, 0.7, 0.8, 0.5, 0.4), 1.0))
    assert (task.live.resumed_epoch, task.went_on.is_set()) == (8, True)
    assert task.live.progress is not None
    assert (task.live.progress.epoch, task.live.progress.sweep) == (40, "0 of 4 parts")
    again = RunningPart(group, fresh.standing)
    again.attempt = 2
    again.receive(Begun(5, None))
    again.receive(Reported(Progress(5, 10, 0.7, 0.8, 0.5, 0.4), 1.0))
    assert task.live.resumed_epoch == 8
    task.receive(Begun(90, None))  # of the run that goes on once all parts have run
    assert task.live.resumed_epoch == 8


async def grouped(
    tasks: TaskStore, new_task: New, folder: Path, **row: Any
) -> tuple[Running, Group]:
    """A claimed task whose parts may be asked for, and its row as an attempt before left it."""
    await tasks.insert(new_task("sweep"), 10)
    claimed = await tasks.claim("here")
    assert claimed is not None
    await tasks.move("sweep", {"training"}, "training", claimed.fence, row)
    task = Running(await tasks.get("sweep"), lambda: None)
    task.group = Group(task, folder / "bundle")
    return task, task.group


@pytest.mark.parametrize(
    ("begun", "reports"),
    [
        pytest.param(Begun(8, None, (), 20), [], id="before it reports"),
        pytest.param(Begun(8, None), [12, 13], id="where the first report is a later one"),
        pytest.param(Begun(8, None, (), 20), [8, 9], id="where it reports its checkpoint"),
    ],
)
async def test_where_a_part_goes_on_is_known_however_its_reports_come(
    tasks: TaskStore, new_task: New, tmp_path: Path, begun: Begun, reports: list[int]
) -> None:
    task, group = await grouped(tasks, new_task, tmp_path)
    group.ask([Part("p0", {}, 0.5), Part("p1", {}, 0.5)], {})
    part = group.begin_next()
    part.receive(begun)
    for epoch in reports:
        part.receive(Reported(Progress(epoch, 20, 0.7, 0.8, 0.5, 0.4), 1.0))
    assert (task.live.resumed_epoch, task.live.resumed_percent) == (20, 20)


async def test_a_long_part_that_goes_on_further_each_time_is_no_crash_loop(
    tasks: TaskStore, new_task: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"crashes": 2, "current_epoch": 10, "progress": 10}
    task, group = await grouped(tasks, new_task, tmp_path, **row)
    move, moved = tasks.move, asyncio.Event()

    async def move_and_tell(*arguments: Any) -> bool:
        stored = await move(*arguments)
        moved.set()
        return stored

    monkeypatch.setattr(tasks, "move", move_and_tell)
    async with resetting_crashes(tasks, task):
        group.ask([Part("p0", {}, 0.1), Part("p1", {}, 0.9)], {"p0": {"of": "p0"}})
        await reset_crashes(tasks, task)  # what is finished is no more than last time
        assert (await tasks.get("sweep")).crashes == 2
        group.begin_next().receive(Begun(12, None, (), 20))
        await asyncio.wait_for(moved.wait(), BOUND_S)
    stored = await tasks.get("sweep")
    assert (stored.crashes, stored.current_epoch, stored.progress) == (0, 64, 64)


async def test_parts_that_are_done_are_progress_where_no_whole_epoch_is(
    tasks: TaskStore, new_task: New, tmp_path: Path
) -> None:
    row = {"crashes": 2, "current_epoch": 0, "progress": 1}
    task, group = await grouped(tasks, new_task, tmp_path, **row)
    task.row = replace(task.row, total_epochs=3)
    parts = of_parts([f"p{number}" for number in range(100)])
    for done, crashes in ((1, 2), (2, 0)):
        group.ask(parts, {part.name: {"of": part.name} for part in parts[:done]})
        await reset_crashes(tasks, task)
        assert (await tasks.get("sweep")).crashes == crashes


async def test_a_search_that_goes_on_shows_what_was_done_before_a_part_reports(
    tasks: TaskStore, new_task: New, tmp_path: Path
) -> None:
    task, group = await grouped(tasks, new_task, tmp_path, progress=70, current_epoch=70)
    claimed = replies.status(task.row, task.live, None)
    assert (claimed.progress, claimed.current_epoch) == (70, 70)
    parts = [Part(f"p{number}", {}, 0.1) for number in range(10)]
    group.ask(parts, {part.name: {"of": part.name} for part in parts[:9]})
    waiting = replies.status(task.row, task.live, None)
    assert (waiting.progress, waiting.current_epoch) == (90, 90)


async def test_a_result_counts_for_what_its_part_was_asked_and_not_for_its_name(
    tasks: TaskStore, new_task: New, tmp_path: Path
) -> None:
    task, group = await grouped(tasks, new_task, tmp_path)
    asked, other = Part("p0", {"bars": "A"}, 0.5), Part("p0", {"bars": "B"}, 0.5)
    group.ask([asked], {})
    group.finish(group.begin_next(), Ended(result={"of": "A"}))
    context = WorkerContext(Outbox(lambda: None), results=task.envelope().results)
    assert context.run_parts([asked]) == {"p0": {"of": "A"}}
    with pytest.raises(Divided):
        context.run_parts([other])
    group.ask([other], read_results(group, [other]))
    group.finish(group.begin_next(), Ended(result={"of": "B"}))
    again = WorkerContext(Outbox(lambda: None), results=task.envelope().results)
    assert again.run_parts([other]) == {"p0": {"of": "B"}}


async def test_names_that_lead_out_of_the_folder_are_refused(
    tasks: TaskStore, new_task: New, tmp_path: Path, run: Runner
) -> None:
    async with make(tasks, tmp_path, run) as manager:
        for task_id, names in (("out", ["../p0"]), ("twice", ["p0", "P0"])):
            await manager.submit(new_task(task_id, spec={"parts": names}))
            row = await manager.wait(task_id, BOUND_S)
            assert (row.status, row.error_code) == ("failed", "internal_error")
    assert set(run.begun) == {"task"}


@pytest.mark.parametrize(
    ("does", "status", "code"), [("dies_once", "completed", None), ("dies", "failed", "crash_loop")]
)
async def test_a_part_whose_worker_dies_is_run_again_at_most_twice(
    tasks: TaskStore,
    new_task: New,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    status: str,
    code: str | None,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pool = Pool("tests.support.worker_work:open_work", "")
    manager = JobManager(
        tasks, ProcessExecutor(pool, 2), lambda task_id: tmp_path / task_id / "bundle", retry_s=0.0
    )
    async with manager:
        spec = {"does": "divides", "parts": ["good", "hit"], "of_parts": {"hit": does}}
        await manager.submit(new_task("sweep", spec=spec))
        row = await manager.wait("sweep", BOUND_S)
    assert (row.status, row.error_code, row.attempt, row.crashes) == (status, code, 1, 0)
