"""Trainings on a cluster that others started: nodes and heads are killed, some do not fit."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

import ktrdr_mcp
from ktrdr_mcp.daemon.executors import Cluster
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import LabUnavailable
from ktrdr_mcp.paths import Workspace
from tests.support.fault_table import LONG, Fault
from tests.support.nothing_lost import assert_nothing_lost, tasks_of
from tests.support.ray_nodes import Network, RayCluster
from tests.support.trained_bits import LONGER, bits_of, end, start
from tests.support.trained_lab import Lab, held, resumed_epoch

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(3_600 if LONG else 900)]

NewFault = Callable[..., Fault]
TOKEN = "a token of this test that is long enough".replace(" ", "-")
TIMES = 10 if LONG else 1
LAST = LONGER["epochs"] - 4  # that a training which is held has surely saved
OTHER = "9.9.9"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head without cores, for all tests of this file."""
    with RayCluster(TOKEN) as started:
        yield started


@pytest.fixture(autouse=True)
def alone(cluster: RayCluster) -> Iterator[None]:
    """What a test has left of the cluster is no node of the next one."""
    yield
    cluster.leave_head_alone()


@asynccontextmanager
async def open_lab(
    folder: Path, cluster: RayCluster, store: Path | None = None, token: str = TOKEN
) -> AsyncIterator[Lab]:
    """A workspace on a cluster; nothing is lost at its end."""
    place = Cluster(cluster.address, None if store is None else str(store))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", token)
        async with open_workspace(Workspace(folder), place) as opened:
            yield Lab(folder, opened)
    assert_nothing_lost(folder, set(tasks_of(folder)))


async def refused(folder: Path, cluster: RayCluster, token: str, words: str) -> None:
    """Expects that a cluster is not joined."""
    with pytest.raises(LabUnavailable, match=words):
        async with open_lab(folder, cluster, token=token):
            pass


async def test_a_cluster_that_asks_for_no_token_is_refused(tmp_path: Path) -> None:
    with RayCluster(None) as unsafe:
        await refused(tmp_path, unsafe, TOKEN, "asks for no token")


async def test_a_wrong_token_is_refused(tmp_path: Path, cluster: RayCluster) -> None:
    await refused(tmp_path, cluster, "b" * 40, "does not take this token")


async def test_where_nothing_listens_the_server_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with pytest.raises(LabUnavailable, match=r"Nothing answers at 127\.0\.0\.1:1,"):
        async with open_workspace(Workspace(tmp_path), Cluster("127.0.0.1:1")):
            pass


async def test_a_killed_node_costs_one_attempt_and_no_bit(
    tmp_path: Path, cluster: RayCluster, longer: tuple[str, str], new_fault: NewFault
) -> None:
    fault, generator = new_fault("kill -9 of a node"), random.Random(15)
    left = [cluster.add(1), cluster.add(1)]
    async with open_lab(tmp_path, cluster) as lab:
        for number in range(TIMES):
            name = f"node-{number}"
            with held(name):
                await start(lab.opened, name)
                saved = await lab.until_checkpoint(name, generator.randrange(1, LAST))
                node = cluster.node_of(lab.worker_of(name))
                node.kill()
            left.remove(node)
            assert await end(lab.opened, name) == "completed"
            assert bits_of(tmp_path, name) == longer
            row = tasks_of(tmp_path)[name]
            assert row["attempt"] == 2
            assert resumed_epoch(row) >= saved
            fault.tries += 1
            fault.resumed += 1
            if number < TIMES - 1:
                left.append(await asyncio.to_thread(cluster.add, 1))
    for node in left:
        node.kill()


async def test_on_a_node_with_memory_for_one_training_two_run_one_after_the_other(
    tmp_path: Path, cluster: RayCluster, longer: tuple[str, str]
) -> None:
    node = cluster.add(2, memory=600_000_000)
    async with open_lab(tmp_path, cluster) as lab:
        with held("second"):
            with held("first"):
                await start(lab.opened, "first")
                await lab.until_checkpoint("first", 1)
                await start(lab.opened, "second")
                worker = lab.worker_of("first")
            await lab.until_checkpoint("second", 1)
            assert lab.worker_of("second") == worker  # there was no room for one of its own
        for name in ("first", "second"):
            assert await end(lab.opened, name) == "completed"
            assert bits_of(tmp_path, name) == longer
            assert tasks_of(tmp_path)[name]["attempt"] == 1
    node.kill()


async def test_with_a_shared_folder_a_killed_worker_costs_one_attempt_and_no_bit(
    tmp_path: Path, cluster: RayCluster, longer: tuple[str, str], new_fault: NewFault
) -> None:
    fault = new_fault("kill -9 of a worker with a shared folder")
    generator, store = random.Random(17), tmp_path / "store"
    node = cluster.add(1)
    store.mkdir()
    async with open_lab(tmp_path / "lab", cluster, store) as lab:
        for number in range(TIMES):
            name = f"shared-{number}"
            with held(name):
                await start(lab.opened, name)
                saved = await lab.until_checkpoint(name, generator.randrange(1, LAST), store)
                os.kill(lab.worker_of(name), signal.SIGKILL)
            assert await end(lab.opened, name) == "completed"
            assert bits_of(tmp_path / "lab", name) == longer
            row = tasks_of(tmp_path / "lab")[name]
            assert row["attempt"] == 2
            assert resumed_epoch(row) >= saved
            assert not list(store.iterdir())
            fault.tries += 1
            fault.resumed += 1
    node.kill()


async def test_a_node_with_another_version_is_refused_by_name(
    tmp_path: Path, cluster: RayCluster, longer: tuple[str, str]
) -> None:
    elsewhere = tmp_path / "other" / "ktrdr_mcp"
    source = Path(ktrdr_mcp.__file__).parent
    shutil.copytree(source, elsewhere, ignore=shutil.ignore_patterns("__pycache__"))
    about = elsewhere / "__init__.py"
    text = about.read_text(encoding="utf-8")
    about.write_text(text.replace(ktrdr_mcp.__version__, OTHER), encoding="utf-8")
    other = cluster.add(1, str(elsewhere.parent))
    folder = tmp_path / "lab"
    async with open_lab(folder, cluster) as lab:
        await start(lab.opened, "nowhere")
        assert await end(lab.opened, "nowhere") == "failed"
        message = tasks_of(folder)["nowhere"]["error_message"]
        assert f"ktrdr-mcp {OTHER} instead of {ktrdr_mcp.__version__}" in message
        fitting = await asyncio.to_thread(cluster.add, 1)
        await start(lab.opened, "somewhere")
        assert await end(lab.opened, "somewhere") == "completed"
        assert bits_of(folder, "somewhere") == longer
    for node in (other, fitting):
        node.kill()


@pytest.mark.skipif(not LONG, reason="starts three nodes: KTRDR_FAULTS=long make test-ray")
async def test_a_lost_head_costs_one_attempt_and_tasks_wait_for_the_next(
    tmp_path: Path, cluster: RayCluster, longer: tuple[str, str]
) -> None:
    node = cluster.add(1)
    async with open_lab(tmp_path, cluster) as lab:
        with held("headless"):
            await start(lab.opened, "headless")
            saved = await lab.until_checkpoint("headless", 10)
            cluster.head.kill()
            node.kill()
        await asyncio.to_thread(cluster.start_head)
        await asyncio.to_thread(cluster.add, 1)
        assert await end(lab.opened, "headless") == "completed"
        assert bits_of(tmp_path, "headless") == longer
        row = tasks_of(tmp_path)["headless"]
        assert row["attempt"] == 2
        assert resumed_epoch(row) >= saved


@pytest.mark.skipif(not LONG, reason="waits until Ray notices: KTRDR_FAULTS=long make test-ray")
async def test_what_a_node_that_was_cut_off_brings_late_is_refused(
    tmp_path: Path, longer: tuple[str, str], new_fault: NewFault
) -> None:
    fault = new_fault("network to a node cut and mended")
    with ExitStack() as stack:
        try:
            network = stack.enter_context(Network.made())
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no network namespace can be made here")
        far_away = stack.enter_context(RayCluster(TOKEN, network.ours))
        far_away.add(1, inside=network)
        async with open_lab(tmp_path, far_away) as lab:
            with held("cut"):
                await start(lab.opened, "cut")
                saved = await lab.until_checkpoint("cut", 10)
                network.cut()  # the run goes on there, and may come to its end
            await asyncio.to_thread(far_away.add, 1)
            await lab.until_attempt("cut", 2)
            network.mend()
            assert await end(lab.opened, "cut") == "completed"
            row = tasks_of(tmp_path)["cut"]
            assert row["attempt"] == 2
            assert resumed_epoch(row) >= saved
        assert bits_of(tmp_path, "cut") == longer
        fault.tries += 1
        fault.resumed += 1
