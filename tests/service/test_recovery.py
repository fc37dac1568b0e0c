"""A start puts in order what an interrupted process left."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import ModelNotFound
from ktrdr_mcp.ownership import trust
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service import reconciliation
from ktrdr_mcp.service.reconciliation import verify
from tests.support.service_calls import SHORT, Bench, card_of

pytestmark = pytest.mark.asyncio


def execute(workspace: Workspace, sql: str) -> None:
    """Changes the database behind the program's back."""
    with closing(sqlite3.connect(workspace.database)) as connection, connection:
        connection.execute(sql)


def staged(parent: Path) -> Path:
    """A folder as an interrupted writer leaves it."""
    folder = parent / ".staging-left-0123"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"half")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


async def test_what_interrupted_writers_left_is_swept(workspace: Workspace) -> None:
    places = [
        workspace.internal,
        workspace.task_directory("t1"),
        workspace.checkpoints_directory("t1"),
        workspace.models,
        workspace.models / "mine",
        workspace.strategies,
    ]
    left = [staged(place) for place in places]
    kept = workspace.strategies / "mine.yaml"
    kept.write_text("mine", encoding="utf-8")
    trust.adopt(workspace)
    async with open_workspace(workspace):
        pass
    assert not any(path.exists() for path in left)
    assert kept.exists()


async def test_a_published_model_without_its_row_is_registered(workspace: Workspace) -> None:
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        await bench.save(await bench.trained(task_id="mine"), "model", "what it is for")
        before, card = await bench.predict("model"), await card_of(bench.service, "model")
    execute(workspace, "DELETE FROM models")
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        assert await bench.predict("model") == before
        assert await card_of(bench.service, "model") == card
        assert not (await bench.save("mine", "model")).created


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "model.json"])
async def test_a_damaged_model_without_its_row_is_left_alone(
    workspace: Workspace, name: str
) -> None:
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        saved = await bench.save(await bench.trained(task_id="mine"), "model")
    execute(workspace, "DELETE FROM models")
    path = workspace.root / saved.model_path / name
    path.write_bytes(path.read_bytes()[:-2])
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        with pytest.raises(ModelNotFound):
            await bench.predict("model")
        again = await bench.save("mine", "model")
        assert (again.version, again.created) == (2, True)
    assert path.exists()


async def test_a_result_that_was_published_before_the_process_died_completes_its_task(
    workspace: Workspace,
) -> None:
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        await bench.trained(task_id="mine")
        before = await bench.performance("mine")
    execute(workspace, "DROP TRIGGER terminal_is_final")
    execute(
        workspace,
        "UPDATE training_tasks SET status = 'training', progress = 0, result = NULL,"
        " completed_at = NULL, scores = NULL, crashes = 2",
    )
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        status = await bench.status("mine")
        assert (status.status, status.progress, status.attempt) == ("completed", 100, 1)
        after = await bench.performance("mine")
    same = {"test_metrics", "training_metrics", "baselines", "model_info"}
    assert after.model_dump(include=same) == before.model_dump(include=same)


async def test_checkpoints_of_finished_tasks_are_removed_and_those_of_strangers_kept(
    workspace: Workspace,
) -> None:
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).trained(task_id="mine", config=SHORT)
    for task_id in ("mine", "unknown"):
        workspace.checkpoints_directory(task_id).mkdir(parents=True)
    async with open_workspace(workspace):
        pass
    assert not workspace.checkpoints_directory("mine").exists()
    assert workspace.checkpoints_directory("unknown").exists()
    shutil.rmtree(workspace.checkpoints_directory("unknown"))


async def test_a_running_task_of_another_release_stops_no_start_and_fails_with_a_reason(
    workspace: Workspace,
) -> None:
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        await bench.trained(task_id="sound", config=SHORT)
        await bench.trained(task_id="mine", config=SHORT)
    execute(workspace, "DROP TRIGGER terminal_is_final")
    execute(
        workspace,
        "UPDATE training_tasks SET status = 'training', progress = 0, result = NULL,"
        " completed_at = NULL, spec = json_set(spec, '$.config.of_another_release', 1)"
        " WHERE task_id = 'mine'",
    )
    wrong = [each for each in verify(workspace) if each.state == "wrong"]
    assert ["mine" in each.text and "of_another_release" in each.text for each in wrong] == [True]
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        ended = await bench.finish("mine")
        assert (ended.status, ended.error_code) == ("failed", "training_failed")
        assert "of_another_release" in ended.error
        assert (await bench.performance("sound")).task_id == "sound"


async def test_whatever_stops_putting_in_order_stops_no_start(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(reconciliation, "list_folders", defect)
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).trained(config=SHORT)
    assert "could not be put in order" in caplog.text
