"""A folder that was renamed under `models/` is named, with what to do, wherever it is met."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import pytest_asyncio

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import ModelCorrupted, ModelNotFound
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.service.diagnosis import Finding, models
from ktrdr_mcp.service.reconciliation import verify
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def workspace(tmp_path: Path) -> Workspace:
    """One task, saved as a model."""
    made = Workspace(tmp_path)
    async with open_workspace(made) as opened:
        bench = Bench(opened.service, made)
        await bench.save(await bench.trained(task_id="mine", config=SHORT), "live")
    return made


def wrong(workspace: Workspace) -> list[Finding]:
    """What a look at the models finds wrong."""
    return [finding for finding in models(workspace) if finding.state == "wrong"]


async def test_a_renamed_folder_is_named_by_list_load_predict_and_doctor(
    workspace: Workspace,
) -> None:
    (workspace.models / "live").rename(workspace.models / "renamed")
    async with open_workspace(workspace) as opened:
        service = opened.service
        (listed,) = (await service.list_trained_models(requests.ListModels())).models
        texts = [listed.description]
        for call, request in (
            (service.load_trained_model, requests.LoadModel(model_name="live")),
            (service.test_model_prediction, requests.Predict(model_name="live")),
            (service.model_card, requests.LoadModel(model_name="live")),
        ):
            with pytest.raises(ModelCorrupted) as refused:
                await call(request)  # type: ignore[operator]
            texts.append(f"{refused.value.message} {refused.value.hint}")
        with pytest.raises(ModelNotFound) as unknown:
            await service.load_trained_model(requests.LoadModel(model_name="renamed"))
        texts.append(unknown.value.hint)
    texts += [f"{one.text} {one.remedy}" for one in wrong(workspace)]
    texts += [f"{one.text} {one.remedy}" for one in verify(workspace) if one.state == "wrong"]
    assert len(texts) >= 7
    for text in texts:
        assert "models/renamed" in text
        assert "models/live" in text


async def test_a_folder_that_has_its_name_again_is_whole(workspace: Workspace) -> None:
    folder = workspace.models / "live" / "AAPL_1h_v1"
    aside = folder.rename(folder.with_name("AAPL_1h_v2"))
    (finding,) = wrong(workspace)
    assert "models/live/AAPL_1h_v2" in finding.remedy
    aside.rename(folder)
    assert wrong(workspace) == []
    async with open_workspace(workspace) as opened:
        (listed,) = (await opened.service.list_trained_models(requests.ListModels())).models
        assert listed.description == ""
        await opened.service.load_trained_model(requests.LoadModel(model_name="live"))


async def test_a_folder_that_is_gone_is_said_with_the_task_that_brings_it_back(
    workspace: Workspace,
) -> None:
    shutil.rmtree(workspace.models / "live")
    (finding,) = wrong(workspace)
    assert "task mine" in finding.remedy
    async with open_workspace(workspace) as opened:
        with pytest.raises(ModelCorrupted, match="models/live/AAPL_1h_v1"):
            await opened.service.load_trained_model(requests.LoadModel(model_name="live"))


async def test_a_copy_is_a_note(workspace: Workspace) -> None:
    shutil.copytree(workspace.models / "live", workspace.models / "copy", symlinks=True)
    assert [(one.state, "models/copy" in one.text) for one in models(workspace)] == [("note", True)]
