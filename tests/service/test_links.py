"""Links in place of models, tasks and strategies: one rule, decided before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.ownership.lock import ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service.diagnosis import links
from ktrdr_mcp.strategy.catalog import StrategyCatalog

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows lets few users make links")

START = {
    "symbol": "AAPL",
    "timeframe": "1h",
    "task_id": "t",
    "config": {"epochs": 1, "walk_forward": None},
}


def swap(folder: Path, elsewhere: Path) -> None:
    """Puts a link to another place where a folder was."""
    elsewhere.parent.mkdir(exist_ok=True)
    if folder.exists():
        folder.rename(elsewhere)
    else:
        elsewhere.mkdir()
    folder.symlink_to(elsewhere)


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.asyncio
async def test_models_are_neither_saved_nor_used_through_a_link(tmp_path: Path) -> None:
    workspace, elsewhere = Workspace(tmp_path / "workspace"), tmp_path / "elsewhere"
    async with open_workspace(workspace) as opened:
        service = opened.service
        await service.start_training(parse(requests.StartTraining, START))
        waiting = parse(requests.GetTrainingStatus, {"task_id": "t", "wait_s": 50})
        assert (await service.get_training_status(waiting)).status == "completed"
        save = parse(requests.SaveModel, {"task_id": "t", "model_name": "m"})
        for folder in (workspace.models, workspace.models / "m", workspace.strategies):
            folder.parent.mkdir(exist_ok=True)
            swap(folder, elsewhere / folder.name)
            with pytest.raises(StorageError, match="is a link"):
                await service.save_trained_model(save)
            assert everything(elsewhere / folder.name) == []
            (found,) = links(workspace)
            assert found.state == "wrong"
            folder.unlink()
        assert list(links(workspace)) == []
        await service.save_trained_model(save)
        predict = parse(requests.Predict, {"model_name": "m", "symbol": "AAPL", "timeframe": "1h"})
        assert await service.test_model_prediction(predict)
    listed = parse(requests.ListModels, {})
    for folder in (workspace.models / "m", workspace.models):
        swap(folder, elsewhere / f"{folder.name}-moved")
        async with open_workspace(workspace) as opened:  # anew: no model is in memory
            with pytest.raises(StorageError, match="is a link"):
                await opened.service.test_model_prediction(predict)
            assert [
                row.model_name for row in (await opened.service.list_trained_models(listed)).models
            ]


def test_tasks_are_not_kept_through_a_link(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.internal.mkdir(parents=True, mode=0o700)
    swap(workspace.internal / "tasks", tmp_path / "elsewhere" / "tasks")
    with pytest.raises(StorageError, match="is a link"), ownership(workspace):
        pass
    assert everything(tmp_path / "elsewhere" / "tasks") == []


def test_a_strategy_that_is_a_link_is_read_only_inside_its_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.strategies.mkdir(parents=True)
    text = StrategyCatalog(workspace).text("default")
    outside = tmp_path / "outside.yaml"
    outside.write_text(text, encoding="utf-8")
    (workspace.strategies / "within.yaml").write_text(text, encoding="utf-8")
    (workspace.strategies / "alias.yaml").symlink_to("within.yaml")
    (workspace.strategies / "leak.yaml").symlink_to(outside)
    catalog = StrategyCatalog(workspace)
    assert {"within", "alias"} <= set(catalog.names())
    assert "leak" not in catalog.names()
    with pytest.raises(Exception, match="no strategy 'leak'"):
        catalog.text("leak")
    assert [name for name, remedy in catalog.find_misnamed() if "lead out" in remedy] == [
        "leak.yaml"
    ]
