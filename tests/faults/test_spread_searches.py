"""A search whose parts train in several workers: killed, cancelled, interrupted, resumed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp.context import NullContext, folder_of
from ktrdr_mcp.daemon import executors
from ktrdr_mcp.daemon.executors import Place
from ktrdr_mcp.daemon.server import OpenWorkspace, open_workspace
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.jobs.executors import processes
from ktrdr_mcp.jobs.executors.base import Begun, Event
from ktrdr_mcp.jobs.parts import RunningPart
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service.training import admit
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training import batches, pipeline
from ktrdr_mcp.training.bundle import read_manifest
from ktrdr_mcp.training.duration import TYPICAL
from tests.support import eager_work, programs, trained_bits
from tests.support.background_servers import wait_until
from tests.support.fault_table import LONG
from tests.support.nothing_lost import assert_nothing_lost, tasks_of
from tests.support.process_footprint import LISTED
from tests.support.trained_lab import held

pytestmark = [
    pytest.mark.skipif(not LISTED, reason="kills what Linux lists"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(900),
]

SPACE = {"learning_rate": {"low": 1e-4, "high": 0.01, "log": True}, "hidden_layers": [[8], [5]]}
CONFIG: dict[str, Any] = {
    "epochs": 40,
    "hidden_layers": [8],
    "early_stopping": None,
    "walk_forward": {"folds": 2},
    "sweep": {"trials": 6, "vary": SPACE},
}
WAIT_S = 280.0


@dataclass(frozen=True)
class Whole:
    """What the search comes to in one run without parts, and the names of its batches."""

    bits: tuple[Any, ...]
    batches: set[str]


@dataclass
class Heard:
    """Where each run of each part began, in the order in which they said so."""

    begun: list[tuple[str, int, int]] = field(default_factory=list)  # part, attempt, epoch

    def runs_of(self, name: str) -> list[tuple[int, int]]:
        """The attempts of a part, and the epochs at which they began."""
        return [(attempt, epoch) for part, attempt, epoch in self.begun if part == name]


@pytest.fixture(scope="module", autouse=True)
def _fine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers cut finely, save after every epoch and can be held; so does this process cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(programs.ROOT))
        patch.setenv(eager_work.HOLDS, str(tmp_path_factory.mktemp("holds")))
        patch.setattr(executors, "TRAINING", eager_work.ENTRY)
        for name in ("BATCH_S", "SPREAD_S", "LEAST_NETWORKS"):
            patch.setattr(batches, name, getattr(batches, name))
        eager_work.cut_finely()
        patch.setattr(processes, "available_cores", lambda: 2)
        yield


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    found, receive = Heard(), RunningPart.receive

    def listen(part: RunningPart, event: Event) -> None:
        receive(part, event)
        if isinstance(event, Begun):
            found.begun.append((part.standing.part.name, part.attempt, event.epoch))

    monkeypatch.setattr(RunningPart, "receive", listen)
    return found


def request_for(task_id: str, **config: Any) -> requests.StartTraining:
    raw = {"task_id": task_id, "symbol": "AAPL", "timeframe": "1h", "config": CONFIG | config}
    return parse(requests.StartTraining, raw)


def bits_of(folder: Path, task_id: str) -> tuple[Any, ...]:
    """Weights, history and every candidate's scores of a search."""
    manifest = read_manifest(Workspace(folder).bundle_directory(task_id))
    return (*trained_bits.bits_of(folder, task_id), manifest.candidates, manifest.scores)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, _fine: None) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    workspace = Workspace(folder)
    sources = BarCatalog(workspace)
    new = admit(request_for("whole"), StrategyCatalog(workspace), sources, TYPICAL).task
    bundle = workspace.bundle_directory("whole")
    bundle.parent.mkdir(parents=True)
    pipeline.run(new.spec, bundle, NullContext(), sources)
    names = {each.name for each in folder_of(bundle, "x").parent.iterdir()}
    assert len(names) >= 5
    return Whole(bits_of(folder, "whole"), names)


@dataclass
class Lab:
    """An open workspace with workers."""

    folder: Path
    opened: OpenWorkspace

    async def start(self, task_id: str, **config: Any) -> None:
        await self.opened.service.start_training(request_for(task_id, **config))

    async def end(self, task_id: str) -> str:
        return (await self.opened.manager.wait(task_id, WAIT_S)).status

    def parts_of(self, task_id: str) -> dict[str, int]:
        """The parts of a task that workers run now, as `lab status` shows them, and their pids."""
        shown = [(worker.task or "", worker.pid) for worker in self.opened.workers()]
        running = [(task.partition("/"), pid) for task, pid in shown]
        return {part: pid for (task, _, part), pid in running if part and task == task_id}

    def saved(self, task_id: str, part: str) -> bool:
        """Whether a part has a checkpoint."""
        bundle = Workspace(self.folder).bundle_directory(task_id)
        return (folder_of(bundle, part) / "checkpoints" / "a" / "manifest.json").exists()

    async def until_in_the_middle(self, task_id: str, parts: int) -> dict[str, int]:
        """Waits until so many parts run that all have a checkpoint; their pids."""
        found: dict[str, int] = {}

        def look() -> bool:
            found.clear()
            found.update(self.parts_of(task_id))
            return len(found) == parts and all(self.saved(task_id, name) for name in found)

        await asyncio.to_thread(wait_until, look, WAIT_S)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory, _fine: None) -> AsyncIterator[Lab]:
    """Two workers for all tests of this file."""
    folder = tmp_path_factory.mktemp("lab")
    async with open_workspace(Workspace(folder), "processes") as opened:
        yield Lab(folder, opened)
    assert_nothing_lost(folder, set(tasks_of(folder)))


async def test_two_workers_share_the_parts_and_come_to_the_bits_of_one_run(
    lab: Lab, heard: Heard, whole: Whole
) -> None:
    seen: list[tuple[int, str]] = []

    async def look(live: Any) -> None:
        if live.progress.sweep is not None:
            seen.append((live.progress.epoch, live.progress.sweep))

    with held("shared"):
        await lab.start("shared")
        pids = await lab.until_in_the_middle("shared", 2)
    assert len(set(pids.values())) == 2
    row = await lab.opened.manager.wait("shared", WAIT_S, look)
    assert (row.status, row.attempt, row.resumed_from) == ("completed", 1, None)
    assert bits_of(lab.folder, "shared") == whole.bits
    assert sorted(heard.begun) == [(name, 1, 0) for name in sorted(whole.batches)]
    epochs = [epoch for epoch, _ in seen]
    assert epochs == sorted(epochs)
    assert {words.partition(" of ")[2] for _, words in seen} == {f"{len(whole.batches)} parts"}
    assert not Workspace(lab.folder).checkpoints_directory("shared").exists()


async def test_a_killed_worker_costs_an_attempt_of_its_part_which_goes_on_from_its_checkpoint(
    lab: Lab, heard: Heard, whole: Whole
) -> None:
    with held("killed"):
        await lab.start("killed")
        pids = await lab.until_in_the_middle("killed", 2)
        name, pid = next(iter(pids.items()))
        os.kill(pid, signal.SIGKILL)
    row = await lab.opened.manager.wait("killed", WAIT_S)
    assert (row.status, row.attempt, row.crashes) == ("completed", 1, 0)
    assert bits_of(lab.folder, "killed") == whole.bits
    (first, again) = heard.runs_of(name)
    assert (first, again[0]) == ((1, 0), 2)
    assert again[1] > 0
    assert len(heard.begun) == len(whole.batches) + 1  # no other part ran twice


async def test_a_cancelled_search_ends_all_its_parts(lab: Lab, heard: Heard) -> None:
    await lab.start("unwanted", epochs=5_000)
    await lab.until_in_the_middle("unwanted", 2)
    await lab.opened.manager.cancel("unwanted")
    assert await lab.end("unwanted") == "cancelled"
    assert lab.parts_of("unwanted") == {}
    assert len(heard.begun) == 2  # none was begun meanwhile
    assert not Workspace(lab.folder).checkpoints_directory("unwanted").exists()


async def test_a_training_takes_the_next_place_and_the_part_that_made_way_goes_on(
    lab: Lab, heard: Heard, whole: Whole
) -> None:
    with held("patient"):
        await lab.start("patient")
        await lab.until_in_the_middle("patient", 2)
        await lab.start("urgent", epochs=2, sweep=None)
        assert await lab.end("urgent") == "completed"
        assert tasks_of(lab.folder)["patient"]["status"] == "training"
    assert await lab.end("patient") == "completed"
    assert bits_of(lab.folder, "patient") == whole.bits
    again = [epoch for _, attempt, epoch in heard.begun if attempt == 2]
    assert len(again) == 1
    assert again[0] > 0


@pytest.mark.parametrize(
    "place",
    ["processes", pytest.param("threads", marks=pytest.mark.skipif(not LONG, reason="long form"))],
)
async def test_the_next_server_trains_only_what_is_left_with_one_worker_alike(
    tmp_path: Path, heard: Heard, whole: Whole, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    folder = tmp_path / "lab"
    with ExitStack() as holds:
        async with open_workspace(Workspace(folder), "processes") as opened:
            lab = Lab(folder, opened)
            await lab.start("drained")
            await asyncio.to_thread(wait_until, lambda: len(heard.begun) >= 3, WAIT_S)
            holds.enter_context(held("drained"))  # two of the three that are left at least
            await lab.until_in_the_middle("drained", 2)
    assert tasks_of(folder)["drained"]["status"] == "pending"
    bundle = Workspace(folder).bundle_directory("drained")
    done = {each.parent.name for each in folder_of(bundle, "x").parent.glob("*/result.json")}
    assert done
    heard.begun.clear()
    monkeypatch.setattr(processes, "available_cores", lambda: 1)
    async with open_workspace(Workspace(folder), place) as opened:
        row = await opened.manager.wait("drained", WAIT_S)
    assert (row.status, row.attempt, row.crashes) == ("completed", 2, 0)
    assert bits_of(folder, "drained") == whole.bits
    assert sorted(name for name, _, _ in heard.begun) == sorted(whole.batches - done)
    assert any(epoch > 0 for _, _, epoch in heard.begun)  # those that were stopped in the middle
