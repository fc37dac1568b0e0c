"""What is taken from a folder that all machines of a cluster share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr_mcp.jobs.cluster import driver, parcels
from ktrdr_mcp.jobs.cluster.driver import Driver, Run, collect, lay_out_in_store
from ktrdr_mcp.jobs.executors.base import Ended, Envelope


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def run(tmp_path: Path, store: Path) -> Run:
    """A run that has its folder in the store."""
    root = tmp_path / "tasks" / "t"
    root.mkdir(parents=True)
    run = Run(1, Envelope("t", 2, "g", {}), root / "bundle")
    run.store = lay_out_in_store(store, run)
    return run


def test_a_ghost_that_touches_its_folder_last_takes_no_result_from_the_run_that_has_the_task(
    store: Path, run: Run
) -> None:
    assert run.store is not None
    own = {"bundle/model.bin": b"own", "checkpoints/a/state.json": b"own"}
    parcels.lay_out(run.store, own)
    ghost = store / f"{run.store_name}-ghost"
    parcels.lay_out(ghost, dict.fromkeys(own, b"of a ghost"))
    for folder, at in ((run.store, 1), (ghost, 2)):
        os.utime(folder, (at, at))
    assert collect(store, run) == {"bundle/model.bin": b"own"}
    assert parcels.read_all(run.root, run.result) == {"checkpoints/a/state.json": b"own"}
    assert list(store.iterdir()) == []


def test_of_a_run_that_died_no_result_counts(store: Path, run: Run) -> None:
    parcels.lay_out(store / f"{run.store_name}-other", {"bundle/model.bin": b"half"})
    assert collect(store, run) == {}


@pytest.mark.asyncio
async def test_a_result_whose_folder_is_gone_is_not_taken_for_one(
    store: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.store is not None
    shutil.rmtree(run.store)
    carried: Any = SimpleNamespace(_settings=SimpleNamespace(store=str(store)))
    carried._store = driver.Driver._store.__get__(carried)
    ended = await Driver._take_home(carried, run, Ended(result={"of": 1}), b"")
    assert ended.died is not None
    assert (await Driver._take_home(carried, run, Ended(stopped=True), b"")).stopped
