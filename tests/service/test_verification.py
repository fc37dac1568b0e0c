"""Every figure of a result and every file of a model is compared with what was stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service.reconciliation import verify
from ktrdr_mcp.training import bundle
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

THEIRS = ("model.pt", "config.json", "metrics.json", "features.json", "metadata.json")


@pytest_asyncio.fixture
async def workspace(tmp_path: Path) -> Workspace:
    """One task, saved as a model."""
    made = Workspace(tmp_path)
    async with open_workspace(made) as opened:
        bench = Bench(opened.service, made)
        await bench.save(await bench.trained(task_id="mine", config=SHORT), "model")
    return made


def alter(path: Path, change: Callable[[Any], None]) -> None:
    """Changes a JSON file as somebody does who knows of its seal."""
    document = json.loads(path.read_bytes())
    change(document)
    if bundle.SEAL in document:
        document = bundle.seal(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def version(workspace: Workspace) -> Path:
    return workspace.models / "model" / "AAPL_1h_v1"


def wrong(workspace: Workspace) -> list[str]:
    """What is found wrong."""
    return [finding.text for finding in verify(workspace) if finding.state == "wrong"]


def better_accuracy(document: Any) -> None:
    document["metrics"]["test_metrics"]["test_accuracy"] = 0.99


def better_score(document: Any) -> None:
    document["scores"] = {**document["scores"], "made_up": 1}


def other_bars(document: Any) -> None:
    document["data_fingerprint"] = "0" * 64


@pytest.mark.parametrize("change", [better_accuracy, better_score, other_bars])
async def test_a_changed_figure_of_a_result_is_found(
    workspace: Workspace, change: Callable[[Any], None]
) -> None:
    alter(workspace.bundle_directory("mine") / "bundle.json", change)
    (text,) = wrong(workspace)
    assert "task mine" in text
    assert "bundle.json" in text


async def test_a_result_with_a_changed_figure_is_not_saved(workspace: Workspace) -> None:
    alter(workspace.bundle_directory("mine") / "bundle.json", better_accuracy)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        with pytest.raises(ModelCorrupted, match=r"bundle\.json"):
            await bench.save("mine", "another")
    assert not (workspace.models / "another").exists()


@pytest.mark.parametrize("name", THEIRS)
async def test_a_damaged_file_of_ktrdrs_copy_is_found(workspace: Workspace, name: str) -> None:
    path = version(workspace) / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(damaged)
        (text,) = wrong(workspace)
        assert name in text
    path.unlink()
    assert len(wrong(workspace)) == 1


async def test_a_model_saved_before_its_copy_was_hashed_is_not_wrong(workspace: Workspace) -> None:
    alter(version(workspace) / "model.json", lambda card: card.pop("sha256"))
    (version(workspace) / "config.json").write_bytes(b"{}")
    assert wrong(workspace) == []


async def test_a_card_cannot_lead_out_of_its_folder(workspace: Workspace) -> None:
    alter(version(workspace) / "model.json", lambda card: card["sha256"].update({"../x": "0"}))
    (text,) = wrong(workspace)
    assert "model.json" in text
