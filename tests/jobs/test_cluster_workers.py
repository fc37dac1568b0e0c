"""Which worker of a cluster a run gets, where some are dead; Ray's part is played here."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr_mcp.jobs.cluster import actors
from ktrdr_mcp.jobs.cluster.actors import ClusterWorker
from ktrdr_mcp.jobs.cluster.workers import MAX_STARTS, NoPlace, Worker, Workers
from ktrdr_mcp.jobs.executors.base import Ended, Envelope, decode
from ktrdr_mcp.jobs.fit import own_versions

ENVELOPE = Envelope("task", 1, "", {}, versions=dict(own_versions())).to_dict()


class Method:
    """A method of an actor."""

    def __init__(self, answer: Callable[[], str]) -> None:
        self._answer = answer

    async def remote(self) -> str:
        return self._answer()


class Actor:
    """An actor that answers while it lives."""

    def __init__(self, *, alive: bool) -> None:
        self.alive = alive
        self.about = Method(self._about)

    def _about(self) -> str:
        if not self.alive:
            raise Ray.exceptions.RayError("the actor died")
        where = {"pid": id(self), "node": "node", "host": "host"}
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

    def __init__(self, dead: int) -> None:
        self._dead = dead
        self.started: list[Actor] = []
        self.killed: list[Actor] = []

    def remote(self, *arguments: Any) -> Any:
        """What makes a class one of actors, and what then starts one."""
        if len(arguments) == 1:
            return self
        self.started.append(Actor(alive=len(self.started) >= self._dead))
        return self.started[-1]

    def options(self, **options: Any) -> Ray:
        """The same class."""
        return self

    def nodes(self) -> list[dict[str, Any]]:
        """One."""
        return [{"NodeID": "node", "Alive": True, "Resources": {"CPU": 1.0}}]

    def kill(self, actor: Actor) -> None:
        """Ends one."""
        self.killed.append(actor)


async def take(workers: Workers) -> Worker:
    """A worker for a run that nobody stops."""
    worker = await workers.take(ENVELOPE, asyncio.Event())
    assert worker is not None
    return worker


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
