"""What a rebuild brings back when the database is damaged beyond use."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_bench import SHORT, Bench

from ktrdr_mcp.app import open_lab
from ktrdr_mcp.lab.rebuilding import Rebuilt, rebuild
from ktrdr_mcp.paths import Workspace

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}


async def a_trained_and_a_cancelled_task(workspace: Workspace) -> str:
    """The id of the trained one, whose results have been read once."""
    async with open_lab(workspace) as opened:
        bench = Bench(opened.lab, workspace)
        task_id = await bench.trained(config=SHORT)
        cancelled = (await bench.start(config=FOREVER)).task_id
        await bench.cancel(cancelled)
        await bench.finish(cancelled)
        await bench.performance(task_id)
    return task_id


async def damaged_and_rebuilt(workspace: Workspace) -> Rebuilt:
    """Overwrites the database's header and rebuilds."""
    with workspace.database.open("r+b") as file:
        file.write(b"\xa5" * 100)
    return await rebuild(workspace)


async def test_the_newest_backup_brings_back_trials_without_a_result_and_readings(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    task_id = await a_trained_and_a_cancelled_task(workspace)
    async with open_lab(workspace) as opened:  # copies the database at its start
        later = await Bench(opened.lab, workspace).trained(config={**SHORT, "seed": 2})
    done = await damaged_and_rebuilt(workspace)
    assert (done.tasks, [finding.name for finding in done.left_out]) == (1, ["ledger"])
    assert "ktrdr.db.bak-start" in done.left_out[0].text
    async with open_lab(workspace) as opened:
        bench = Bench(opened.lab, workspace)
        told = await bench.performance(task_id)
        assert (told.verdict.as_of_trial, told.test_readings) == (3, 2)
        assert (await bench.performance(later)).verdict.luck.startswith("trial 3 on")


async def test_without_a_whole_backup_results_come_back_and_the_ledgers_loss_is_said(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    task_id = await a_trained_and_a_cancelled_task(workspace)
    for backup in workspace.internal.glob("ktrdr.db.bak-*"):
        backup.write_bytes(b"\xa5" * 8192)
    done = await damaged_and_rebuilt(workspace)
    assert done.tasks == 1
    assert "only the lost database knew" in done.left_out[0].text
    async with open_lab(workspace) as opened:
        told = await Bench(opened.lab, workspace).performance(task_id)
        assert (told.verdict.as_of_trial, told.test_readings) == (1, 1)
