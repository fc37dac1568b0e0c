"""A damaged bundle.json hides nothing else, though no registry says what it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from ktrdr_mcp import files
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service.reconciliation import rebuild, verify
from ktrdr_mcp.training import bundle
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, each saved as a model of its own."""
    made = Workspace(tmp_path_factory.mktemp("stocked") / "workspace")

    async def fill() -> None:
        async with open_workspace(made) as opened:
            bench = Bench(opened.service, made)
            for number, name in enumerate(("damaged", "sound")):
                task_id = await bench.trained(task_id=name, config=SHORT | {"seed": number})
                await bench.save(task_id, name)

    anyio.run(fill)
    return made.root


@pytest.fixture
def workspace(stocked: Path, tmp_path: Path) -> Workspace:
    """A copy of it for one test."""
    return Workspace(shutil.copytree(stocked, tmp_path / "workspace", symlinks=True))


def other_figure(document: dict[str, Any]) -> None:
    document["metrics"]["test_metrics"]["test_accuracy"] = 0.99


def renamed_field(document: dict[str, Any]) -> None:
    """As one flipped bit does, in a bundle that was written before there was a seal."""
    del document[bundle.SEAL]
    document["versions"]["uorch"] = document["versions"].pop("torch")


def renamed_fingerprint(document: dict[str, Any]) -> None:
    del document[bundle.SEAL]
    document["data_gingerprint"] = document.pop("data_fingerprint")


def half_a_surrogate(document: dict[str, Any]) -> None:
    document["strategy"]["name"] = "\ud800"


def alter(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / bundle.DOCUMENT
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def lose_the_database(workspace: Workspace) -> None:
    for path in (*workspace.internal.glob("ktrdr.db*"), workspace.internal / "workspace.json"):
        path.unlink()


async def names(workspace: Workspace) -> tuple[set[str], set[str]]:
    """The tasks and the models that a client sees."""
    async with open_workspace(workspace) as opened:
        tasks = await opened.service.list_training_tasks(parse(requests.ListTasks, {}))
        models = await opened.service.list_trained_models(parse(requests.ListModels, {}))
    return {each.task_id for each in tasks.tasks}, {each.model_name for each in models.models}


CHANGES = [other_figure, renamed_field, half_a_surrogate]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_rebuild_names_a_damaged_model_and_takes_in_the_others(
    workspace: Workspace, change: Callable[[dict[str, Any]], None]
) -> None:
    alter(workspace.models / "damaged" / "AAPL_1h_v1", change)
    lose_the_database(workspace)
    made = await rebuild(workspace)
    assert (made.models, made.tasks) == (1, 2)
    told = [finding for finding in made.left_out if finding.state == "wrong"]
    assert ["damaged" in each.text and "bundle.json" in each.text for each in told] == [True]
    assert await names(workspace) == ({"damaged", "sound"}, {"sound"})


@pytest.mark.parametrize("change", [other_figure, renamed_fingerprint, half_a_surrogate])
async def test_a_rebuild_names_a_damaged_result_and_takes_in_the_others(
    workspace: Workspace, change: Callable[[dict[str, Any]], None]
) -> None:
    alter(workspace.bundle_directory("damaged"), change)
    lose_the_database(workspace)
    made = await rebuild(workspace)
    assert (made.models, made.tasks) == (2, 1)
    told = [finding for finding in made.left_out if finding.state == "wrong"]
    assert ["damaged" in each.text and "bundle.json" in each.text for each in told] == [True]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_start_registers_every_model_but_the_damaged_one(
    workspace: Workspace, change: Callable[[dict[str, Any]], None]
) -> None:
    alter(workspace.models / "damaged" / "AAPL_1h_v1", change)
    lose_the_database(workspace)
    assert await names(workspace) == (set(), {"sound"})
    (found,) = [finding for finding in verify(workspace) if "models/damaged" in finding.text]
    assert "bundle.json" in found.text or "its log says why" in found.remedy


@pytest.mark.parametrize("change", [other_figure, half_a_surrogate])
async def test_a_document_that_was_changed_is_never_read(
    workspace: Workspace, change: Callable[[dict[str, Any]], None]
) -> None:
    folder = workspace.bundle_directory("damaged")
    assert bundle.read_manifest(folder)
    alter(folder, change)
    with pytest.raises(ModelCorrupted, match=r"bundle\.json"):
        bundle.read_manifest(folder)


async def test_a_document_is_sealed_as_it_is_read_back() -> None:
    written = bundle.seal({"pair": (1, 2), "numbers": {10: 0.1, 9: 1e-300}})
    assert json.loads(files.json_bytes(written)) == written
    assert bundle.seal(written) == written


async def test_results_that_an_older_backup_does_not_know_are_named_and_taken_in(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    older = workspace.database.read_bytes()
    async with open_workspace(workspace) as opened:
        await Bench(opened.service, workspace).trained(task_id="later", config=SHORT | {"seed": 9})
    workspace.database.write_bytes(older)
    tasks, _ = await names(workspace)
    assert "later" not in tasks
    assert "result of task 'later'" in caplog.text
    (wrong,) = [finding for finding in verify(workspace) if finding.state == "wrong"]
    assert "later" in wrong.text
    assert "--rebuild" in wrong.remedy
    assert (await rebuild(workspace)).tasks == 1
    assert (await names(workspace))[0] == {"damaged", "sound", "later"}
    assert [finding.state for finding in verify(workspace)] == ["ok"]


async def test_a_workspace_that_a_start_refuses_is_not_called_healthy(
    workspace: Workspace,
) -> None:
    shutil.move(workspace.database, workspace.database.with_name("elsewhere"))
    (wrong,) = [finding for finding in verify(workspace) if finding.state == "wrong"]
    assert "missing" in wrong.text
    assert "--rebuild" in wrong.remedy
