"""What a rebuild brings back when the database is damaged beyond use."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ktrdr_mcp import files
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import TaskConflict
from ktrdr_mcp.ownership import trust
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service.reconciliation import Rebuilt, rebuild, verify
from ktrdr_mcp.service.training import REQUEST
from ktrdr_mcp.training import bundle
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None, "hidden_layers": [8]}


async def a_trained_and_a_cancelled_task(workspace: Workspace) -> str:
    """The id of the trained one, whose results have been read once."""
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
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
    async with open_workspace(workspace) as opened:  # copies the database at its start
        later = await Bench(opened.service, workspace).trained(config={**SHORT, "seed": 2})
    done = await damaged_and_rebuilt(workspace)
    assert (done.tasks, [finding.name for finding in done.left_out]) == (1, ["ledger"])
    assert "ktrdr.db.bak-start" in done.left_out[0].text
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        told = await bench.performance(task_id)
        assert (told.verdict.as_of_trial, told.verdict.trials_since) == (1, 2)
        assert told.test_readings == 2
        assert (await bench.performance(later)).verdict.as_of_trial == 3


async def test_without_a_whole_backup_results_come_back_and_the_ledgers_loss_is_said(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    task_id = await a_trained_and_a_cancelled_task(workspace)
    with closing(sqlite3.connect(workspace.database)) as connection:
        (starts,) = connection.execute(
            "SELECT count(DISTINCT created_at) FROM training_tasks"
        ).fetchone()
    place = 1 if starts == 2 else 2  # trials that start in one second count each other
    for backup in workspace.internal.glob("ktrdr.db.bak-*"):
        backup.write_bytes(b"\xa5" * 8192)
    done = await damaged_and_rebuilt(workspace)
    assert done.tasks == 1
    assert "only the lost database knew" in done.left_out[0].text
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        told = await bench.performance(task_id)
        assert (told.verdict.as_of_trial, told.test_readings) == (place, 1)
        # the record of all workspaces still knows the trial that was lost
        later = await bench.trained(config={**SHORT, "seed": 2})
        assert (await bench.performance(later)).verdict.as_of_trial == 3


async def from_bundles_alone(workspace: Workspace) -> Rebuilt:
    """Loses the database with its backups and rebuilds."""
    for path in (*workspace.internal.glob("ktrdr.db*"), workspace.internal / "workspace.json"):
        path.unlink()
    return await rebuild(workspace)


async def test_a_rebuilt_task_still_knows_its_request(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        await bench.trained(task_id="mine", config=SHORT)
        keyed = await bench.trained(idempotency_key="key", config={**SHORT, "seed": 2})
    assert (await from_bundles_alone(workspace)).tasks == 2
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        assert (await bench.start(task_id="mine", config=SHORT)).task_id == "mine"
        again = await bench.start(idempotency_key="key", config={**SHORT, "seed": 2})
        assert again.task_id == keyed
        with pytest.raises(TaskConflict):
            await bench.start(task_id="mine", config={**SHORT, "seed": 3})
        assert (await bench.status("mine")).status == "completed"


async def test_a_task_whose_folder_does_not_know_its_request_is_found_by_its_id(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).trained(task_id="mine", config=SHORT)
    (workspace.task_directory("mine") / REQUEST).unlink()
    await from_bundles_alone(workspace)
    async with open_workspace(workspace) as opened:
        again = await Bench(opened.service, workspace).start(task_id="mine", config=SHORT)
        assert "already completed" in again.message


async def test_a_bundle_of_the_version_before_says_its_request_itself(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).trained(idempotency_key="kept", config=SHORT)
    (folder,) = (workspace.internal / "tasks").iterdir()
    kept = json.loads((folder / REQUEST).read_bytes())
    (folder / REQUEST).unlink()
    path = folder / "bundle" / "bundle.json"
    request = {"hash": kept["request_hash"], "key": kept["idempotency_key"]}
    document = json.loads(path.read_bytes()) | {"request": request}
    path.write_bytes(files.json_bytes(bundle.seal(document)))
    await from_bundles_alone(workspace)
    async with open_workspace(workspace) as opened:
        again = await Bench(opened.service, workspace).start(idempotency_key="kept", config=SHORT)
        assert again.task_id == folder.name


async def test_a_task_of_which_only_checkpoints_are_left_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace):
        pass
    workspace.checkpoints_directory("unfinished").mkdir(parents=True)
    (finding,) = (await from_bundles_alone(workspace)).left_out
    assert "unfinished" in finding.text
    assert "this task_id" in finding.remedy


@pytest.mark.parametrize(("name", "number"), [("MSFT_1h_v1", 1), ("AAPL_1h_v2", 2)])
async def test_a_copy_of_a_models_folder_is_left_out_and_named(
    tmp_path: Path, name: str, number: int
) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        await bench.save(await bench.trained(config=SHORT), "model")
    copy = workspace.models / "model" / name
    shutil.copytree(workspace.models / "model" / "AAPL_1h_v1", copy)
    card = json.loads((copy / "model.json").read_bytes())
    (copy / "model.json").write_text(json.dumps({**card, "version": number}), encoding="utf-8")
    done = await rebuild(workspace)
    assert (done.models, [name in each.text for each in done.left_out]) == (1, [True])
    async with open_workspace(workspace) as opened:
        assert (await Bench(opened.service, workspace).load("model")).model_info.version == 1


async def test_a_result_that_an_older_database_does_not_know_outlives_a_start_under_its_id(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    async with open_workspace(workspace):
        pass
    async with open_workspace(workspace) as opened:  # copies the database at its start
        bench = Bench(opened.service, workspace)
        await bench.trained(task_id="mine", config=SHORT)
        before = await bench.performance("mine")
    shutil.copy(workspace.database.with_name("ktrdr.db.bak-start"), workspace.database)
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).trained(task_id="mine", config={**SHORT, "seed": 2})
    (note,) = (finding for finding in verify(workspace) if finding.state == "note")
    aside = workspace.task_directory("mine") / "bundle.earlier-1"
    assert workspace.relative(aside) in note.text
    assert workspace.relative(workspace.bundle_directory("mine")) in note.remedy
    assert [each.state for each in verify(workspace)] == ["note", "ok"]

    other = Workspace(tmp_path / "other")
    shutil.copytree(aside, other.bundle_directory("mine"))
    assert (await rebuild(other)).tasks == 1
    trust.adopt(other)
    async with open_workspace(other) as opened:
        after = await Bench(opened.service, other).performance("mine")
    assert after.test_metrics == before.test_metrics


async def test_results_that_were_set_aside_do_not_hinder_a_rebuild(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).trained(task_id="mine", config=SHORT)
    aside = workspace.task_directory("mine") / "bundle.earlier-1"
    shutil.copytree(workspace.bundle_directory("mine"), aside)
    done = await from_bundles_alone(workspace)
    assert (done.tasks, [finding.name for finding in done.left_out]) == (1, ["ledger"])
    async with open_workspace(workspace) as opened:
        assert (await Bench(opened.service, workspace).status("mine")).status == "completed"
    assert bundle.read(aside)
