"""Trainings on a Ray cluster that the server starts and ends: bits, kills, cancels."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp.daemon.executors import Cluster
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.paths import Workspace
from tests.support.background_servers import wait_until
from tests.support.fault_table import LONG, Fault
from tests.support.nothing_lost import assert_nothing_lost, tasks_of
from tests.support.process_footprint import children, descendants, listening
from tests.support.trained_bits import (
    LONGER,
    WAIT_S,
    bits_of,
    end,
    start,
    trained_in,
    trained_in_a_thread,
)
from tests.support.trained_lab import Lab, held, resumed_epoch

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(3_600 if LONG else 900)]

NewFault = Callable[..., Fault]
TIMES = 10 if LONG else 1
SEARCH = {
    "walk_forward": {"folds": 2},
    "sweep": {"trials": 4, "vary": {"learning_rate": [0.0003, 0.001, 0.003, 0.01]}},
}
LAST = LONGER["epochs"] - 4  # that a training which is held has surely saved


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(eager: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """One cluster for all tests of this file."""
    folder = tmp_path_factory.mktemp("lab")
    async with open_workspace(Workspace(folder), Cluster("local")) as opened:
        yield Lab(folder, opened)
    assert_nothing_lost(folder, set(tasks_of(folder)))


FOLDS_AND_SEEDS: dict[str, Any] = {"epochs": 20, "seeds": 2, "walk_forward": {"folds": 3}}


async def test_all_executors_come_to_the_same_bits(
    lab: Lab, longer: tuple[str, str], tmp_path: Path
) -> None:
    await start(lab.opened, "same")
    assert await end(lab.opened, "same") == "completed"
    assert bits_of(lab.folder, "same") == longer
    assert await asyncio.to_thread(trained_in, tmp_path, "processes") == longer
    row = tasks_of(lab.folder)["same"]
    assert (row["attempt"], row["crashes"]) == (1, 0)
    assert not Workspace(lab.folder).checkpoints_directory("same").exists()


async def test_all_executors_come_to_the_same_bits_with_folds_and_seeds(
    lab: Lab, tmp_path: Path
) -> None:
    await start(lab.opened, "folds", **FOLDS_AND_SEEDS)
    assert await end(lab.opened, "folds") == "completed"
    for place in ("threads", "processes"):
        trained = asyncio.to_thread(trained_in, tmp_path / place, place, **FOLDS_AND_SEEDS)
        assert await trained == bits_of(lab.folder, "folds")


async def test_two_trainings_have_a_worker_each_on_a_named_node(
    lab: Lab, longer: tuple[str, str]
) -> None:
    def shown() -> dict[str, tuple[int, str | None]]:
        return {each.task: (each.pid, each.node) for each in lab.opened.workers() if each.task}

    with held("left", "right"):
        for name in ("left", "right"):
            await start(lab.opened, name)
        await asyncio.to_thread(wait_until, lambda: {"left", "right"} <= set(shown()), WAIT_S)
        found = shown()
    for name in ("left", "right"):
        assert await end(lab.opened, name) == "completed"
        assert bits_of(lab.folder, name) == longer
    assert found["left"][0] != found["right"][0]
    assert found["left"][1]


async def test_a_cancelled_training_ends_and_its_worker_goes_on(lab: Lab) -> None:
    await start(lab.opened, "unwanted", epochs=5_000)
    await lab.until_checkpoint("unwanted", 1)
    await lab.opened.manager.cancel("unwanted")
    assert await end(lab.opened, "unwanted") == "cancelled"
    assert tasks_of(lab.folder)["unwanted"]["crashes"] == 0
    assert not Workspace(lab.folder).checkpoints_directory("unwanted").exists()


async def test_the_parts_of_a_search_have_workers_each_and_one_that_is_killed_costs_no_bit(
    lab: Lab, tmp_path: Path
) -> None:
    with held("search"):  # whose parts wait before their last epoch
        await start(lab.opened, "search", **SEARCH)

        def shown() -> list[tuple[str, int]]:
            tasks = [(each.task or "", each.pid) for each in lab.opened.workers()]
            return [each for each in tasks if each[0].startswith("search/")]

        await asyncio.to_thread(wait_until, lambda: len(shown()) > 1, WAIT_S)
        part, pid = shown()[0]
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(
            wait_until, lambda: {pid for each, pid in shown() if each == part} - {pid}, WAIT_S
        )
    assert await end(lab.opened, "search") == "completed"
    row = tasks_of(lab.folder)["search"]
    assert (row["attempt"], row["crashes"]) == (1, 0)
    alone = await asyncio.to_thread(trained_in_a_thread, tmp_path, **SEARCH)
    assert bits_of(lab.folder, "search") == alone


async def test_a_killed_worker_costs_one_attempt_of_its_task_and_no_bit(
    lab: Lab, longer: tuple[str, str], new_fault: NewFault
) -> None:
    fault, generator = new_fault("kill -9 of a worker on a cluster"), random.Random(13)
    for number in range(TIMES):
        name = f"worker-{number}"
        with held(name):
            await start(lab.opened, name)
            saved = await lab.until_checkpoint(name, generator.randrange(1, LAST))
            os.kill(lab.worker_of(name), signal.SIGKILL)
        assert await end(lab.opened, name) == "completed"
        assert bits_of(lab.folder, name) == longer
        row = tasks_of(lab.folder)[name]
        assert row["attempt"] == 2
        assert resumed_epoch(row) >= saved
        fault.tries += 1
        fault.resumed += 1


async def test_a_worker_that_dies_without_a_task_costs_no_attempt(
    lab: Lab, longer: tuple[str, str]
) -> None:
    await start(lab.opened, "before")
    assert await end(lab.opened, "before") == "completed"
    for worker in training_workers(lab):
        os.kill(worker, signal.SIGKILL)
    await start(lab.opened, "after")
    assert await end(lab.opened, "after") == "completed"
    assert bits_of(lab.folder, "after") == longer
    row = tasks_of(lab.folder)["after"]
    assert (row["attempt"], row["crashes"]) == (1, 0)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
async def test_only_this_machine_reaches_the_ports_of_a_local_cluster(lab: Lab) -> None:
    await start(lab.opened, "listening")
    assert await end(lab.opened, "listening") == "completed"
    found = listening(descendants(os.getpid()))
    assert len(found) > len(training_workers(lab))  # Ray's own and the workers
    assert {address for address in found if not address.is_loopback} == set()


async def test_a_killed_driver_costs_one_attempt_and_no_bit(
    lab: Lab, longer: tuple[str, str], new_fault: NewFault
) -> None:
    fault, generator = new_fault("kill -9 of the driver of a cluster"), random.Random(14)
    for number in range(TIMES):
        name = f"driver-{number}"
        with held(name):
            await start(lab.opened, name)
            saved = await lab.until_checkpoint(name, generator.randrange(1, LAST))
            (driver,) = [pid for pid in children() if is_driver(pid)]
            os.kill(int(driver), signal.SIGKILL)
        assert await end(lab.opened, name) == "completed"
        assert bits_of(lab.folder, name) == longer
        row = tasks_of(lab.folder)[name]
        assert row["attempt"] == 2
        assert resumed_epoch(row) >= saved
        fault.tries += 1
        fault.resumed += 1


def is_driver(pid: str) -> bool:
    """Whether a process is a driver of this program."""
    try:
        return b"jobs.cluster.driver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def training_workers(lab: Lab) -> list[int]:
    """The process ids of the workers on the cluster."""
    return [each.pid for each in lab.opened.workers() if each.node]
