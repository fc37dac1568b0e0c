"""Which worker of a cluster a run gets, where some are dead; Ray's part is played here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from ktrdr_mcp.jobs.cluster.workers import MAX_STARTS, NoPlace, Worker, Workers
from ktrdr_mcp.jobs.executors.base import Envelope
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
