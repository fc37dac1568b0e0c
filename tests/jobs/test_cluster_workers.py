"""Which worker of a cluster a run gets, where some are dead; Ray's part is played here."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr_mcp.jobs.cluster import actors
from ktrdr_mcp.jobs.cluster.actors import ClusterWorker
from ktrdr_mcp.jobs.cluster.workers import MAX_STARTS, NoPlace, Worker, Workers
from ktrdr_mcp.jobs.executors import gate
from ktrdr_mcp.jobs.executors.base import Ended, Envelope, decode
from ktrdr_mcp.jobs.executors.processes import WORKER_BYTES
from ktrdr_mcp.jobs.fit import own_versions

ENVELOPE = Envelope("task", 1, "", {}, versions=dict(own_versions())).to_dict()


class Method:
    """A method of an actor."""

    def __init__(self, answer: Callable[[], Awaitable[Any]]) -> None:
        self._answer = answer

    async def remote(self) -> Any:
        return await self._answer()


class Actor:
    """An actor that answers while it lives."""

    def __init__(self, options: dict[str, Any], *, alive: bool) -> None:
        self.alive = alive
        self.node: str = options["label_selector"]["ray.io/node-id"]
        self.holds: int = options.get("memory", 0)
        self.about = Method(self._about)

    async def _about(self) -> str:
        if not self.alive:
            raise Ray.exceptions.RayError("the actor died")
        where = {"pid": id(self), "node": self.node, "host": "host"}
        return json.dumps({**where, "versions": dict(own_versions())})


class Ray:
    """As much of Ray as Workers ask for; of the actors that it starts, the first ones are dead.

    Args:
        dead: how many.
    """

    class exceptions:  # noqa: N801 (Ray's name)
        """Its errors."""

        class RayError(Exception):
            """Its base class."""

    def __init__(self, dead: int = 0, **memory: int) -> None:
        self._dead = dead
        self._memory = memory or {"node": 0}
        self._options: dict[str, Any] = {}
        self.started: list[Actor] = []
        self.killed: list[Actor] = []
        self.never_come = False
        self.others = dict.fromkeys(self._memory, 0)  # the memory that others hold of each node
        state = SimpleNamespace(available_resources_per_node=self._left)
        self._private = SimpleNamespace(state=state)

    def remote(self, *arguments: Any) -> Any:
        """What makes a class one of actors, and what then starts one."""
        if len(arguments) == 1:
            return self
        self.started.append(Actor(self._options, alive=len(self.started) >= self._dead))
        if self.never_come:
            self.started[-1].about = Method(asyncio.Event().wait)
        return self.started[-1]

    def options(self, **options: Any) -> Ray:
        """The same class."""
        self._options = options
        return self

    def nodes(self) -> list[dict[str, Any]]:
        """Each with two cores."""
        return [
            {"NodeID": name, "Alive": True, "Resources": {"CPU": 2.0, "memory": float(memory)}}
            for name, memory in self._memory.items()
        ]

    def _left(self) -> dict[str, dict[str, float]]:
        """What others have left; of what runs here Ray has not heard yet."""
        return {
            name: {"CPU": 2.0, "memory": float(memory - self.others[name])}
            for name, memory in self._memory.items()
        }

    def lose(self, node: str) -> None:
        """Lets a node die."""
        del self._memory[node]

    def kill(self, actor: Actor) -> None:
        """Ends one."""
        self.killed.append(actor)


async def take(workers: Workers, needs: int = 0) -> Worker:
    """A worker for a run that nobody stops, and that needs some memory."""
    memory_bytes = max(0, needs - WORKER_BYTES)
    worker = await workers.take({**ENVELOPE, "memory_bytes": memory_bytes}, asyncio.Event())
    assert worker is not None
    return worker


def on_nodes(ray: Ray) -> Workers:
    """Workers that hold memory of their nodes, which nobody needs to measure."""
    workers = Workers(ray, None, "entry", idle_s=60.0, reserves=True)
    workers.speeds = {each["NodeID"]: {} for each in ray.nodes()}
    return workers


async def settle() -> None:
    """Lets everything happen that can without waiting."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_worker_that_died_while_it_was_idle_is_given_no_run() -> None:
    ray = Ray(dead=0)
    workers = Workers(ray, None, "entry", idle_s=60.0)
    workers.speeds["node"] = {}  # nobody needs to measure it
    first = await take(workers)
    workers.give_back(first)
    assert await take(workers) is first
    workers.give_back(first)
    first.actor.alive = False
    second = await take(workers)
    assert second.actor is ray.started[1]
    assert ray.killed == [first.actor]


@pytest.mark.asyncio
async def test_workers_that_die_while_they_start_are_replaced_a_few_times() -> None:
    ray = Ray(dead=MAX_STARTS - 1)
    worker = await take(Workers(ray, None, "entry", idle_s=60.0))
    assert worker.actor is ray.started[-1]
    assert len(ray.started) == MAX_STARTS

    ray = Ray(dead=MAX_STARTS)
    with pytest.raises(NoPlace, match="the actor died"):
        await take(Workers(ray, None, "entry", idle_s=60.0))
    assert ray.killed == ray.started


GB = 10**9


@pytest.mark.asyncio
async def test_on_a_node_run_as_many_at_once_as_there_is_memory_for() -> None:
    ray = Ray(node=5 * GB)
    workers = on_nodes(ray)
    first = await take(workers, 3 * GB)
    waiting = asyncio.create_task(take(workers, 3 * GB))
    await settle()
    assert (waiting.done(), len(ray.started)) == (False, 1)
    workers.give_back(first)
    assert await waiting is first  # which holds enough, and has imported everything


@pytest.mark.asyncio
async def test_a_run_that_is_stopped_leaves_the_line_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "LOOK_S", 60.0)
    workers = on_nodes(Ray(node=5 * GB))
    await take(workers, 3 * GB)
    stopped = asyncio.Event()
    waiting = asyncio.create_task(workers.take({**ENVELOPE, "memory_bytes": 3 * GB}, stopped))
    await settle()
    assert not waiting.done()
    stopped.set()
    workers.look_for_room()
    await settle()
    assert waiting.result() is None


@pytest.mark.asyncio
async def test_a_run_starts_on_a_node_that_has_the_memory_for_it() -> None:
    ray = Ray(small=2 * GB, large=9 * GB, taken=9 * GB)
    ray.others["taken"] = 8 * GB
    worker = await take(on_nodes(ray), 4 * GB)
    assert worker.node == "large"
    assert 4 * GB <= worker.holds == ray.started[0].holds <= 9 * GB


@pytest.mark.asyncio
async def test_an_idle_worker_that_holds_too_little_makes_way_for_one_that_holds_enough() -> None:
    ray = Ray(node=5 * GB)
    workers = on_nodes(ray)
    small = [await take(workers, GB) for _ in range(2)]
    for each in small:
        workers.give_back(each)
    large = await take(workers, 3 * GB)
    assert ray.killed == [small[0].actor]  # the one that was idle for longer
    assert await take(workers, GB) is small[1]
    workers.give_back(large)


@pytest.mark.asyncio
async def test_an_idle_worker_that_holds_far_too_much_keeps_no_small_run_waiting() -> None:
    ray = Ray(node=9 * GB)
    workers = on_nodes(ray)
    workers.give_back(await take(workers, 9 * GB))
    small = await take(workers, GB)
    assert small.holds < 2 * GB
    assert ray.killed == [ray.started[0]]


@pytest.mark.asyncio
async def test_a_run_that_needs_more_than_any_node_has_gets_a_whole_node_for_itself() -> None:
    ray = Ray(small=2 * GB, large=5 * GB)
    workers = on_nodes(ray)
    first = await take(workers, 2 * GB)
    assert first.node == "large"
    huge = asyncio.create_task(take(workers, 99 * GB))
    await settle()
    assert not huge.done()
    workers.give_back(first)
    assert (await huge).holds == 5 * GB


@pytest.mark.asyncio
async def test_a_run_on_a_cluster_is_not_overtaken_by_later_ones_that_need_little() -> None:
    ray = Ray(node=5 * GB)
    workers = on_nodes(ray)
    first = await take(workers, 2 * GB)
    large = asyncio.create_task(take(workers, 45 * GB // 10))
    await settle()
    small = asyncio.create_task(take(workers, GB))
    await settle()
    assert (large.done(), small.done()) == (False, False)
    workers.give_back(first)
    assert (await large).holds >= 4 * GB
    await settle()
    assert not small.done()
    workers.give_back(await large)
    await small


@pytest.mark.asyncio
async def test_a_worker_whose_node_is_gone_before_it_came_is_looked_for_elsewhere() -> None:
    ray = Ray(gone=9 * GB, other=5 * GB)
    workers = on_nodes(ray)
    ray.never_come = True
    waiting = asyncio.create_task(take(workers, GB))
    await settle()
    ray.never_come = False
    ray.lose("gone")
    await workers.look()
    assert (await waiting).node == "other"


@pytest.fixture
def cluster_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterWorker]:
    """A worker in this process, whose own work cannot be imported."""
    board = SimpleNamespace(log=SimpleNamespace(remote=lambda *line: None))
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setattr(actors, "configure", lambda niceness: None)
    monkeypatch.setitem(sys.modules, "ray", Ray)  # type: ignore[arg-type]
    yield ClusterWorker(board, "ktrdr_mcp.no_such_module:open_work", 0)
    logging.getLogger().handlers[:] = handlers


def end_of(worker: ClusterWorker) -> Ended:
    """How a run on a worker ends."""
    line, _ = worker.run("key", json.dumps({**ENVELOPE, "bars": {"result": "b"}}), None, b"")
    ended = decode(line)
    assert isinstance(ended, Ended)
    return ended


def test_a_failed_import_on_a_node_is_an_error_and_no_death(cluster_worker: ClusterWorker) -> None:
    ended = end_of(cluster_worker)
    assert (ended.died, ended.failure and ended.failure.code) == (None, "internal_error")
    assert "ModuleNotFoundError" in str(ended.failure)


def test_a_full_disk_of_a_node_is_an_error_with_its_name_and_no_death(
    cluster_worker: ClusterWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> str:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(cluster_worker, "_work", object())
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    ended = end_of(cluster_worker)
    assert ended.failure is not None
    assert (ended.died, ended.failure.code) == (None, "storage_full")
    assert socket.gethostname() in ended.failure.message


def test_a_damaged_parcel_is_an_error_and_no_death(
    cluster_worker: ClusterWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_worker, "_work", object())
    ended = end_of(cluster_worker)
    assert (ended.died, ended.failure and ended.failure.code) == (None, "internal_error")
