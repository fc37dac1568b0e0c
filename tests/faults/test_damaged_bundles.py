"""A damaged result or model is named and never used; everything else goes on."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service.model_cache import ModelCache
from ktrdr_mcp.service.reconciliation import rebuild, verify
from ktrdr_mcp.store import repair
from tests.support.fault_table import LONG
from tests.support.made_workspace import MODEL, TASK, predict, train
from tests.support.nothing_lost import assert_nothing_lost

FILES = ("weights.safetensors", "history.json", "seen.safetensors", "bundle.json")


def model_folder(workspace: Path) -> Path:
    (folder,) = (path for path in workspace.glob(f"models/{MODEL}/*_v1") if path.is_dir())
    return folder


@contextmanager
def put_back(folder: Path) -> Iterator[None]:
    """Whatever is done to a folder meanwhile is undone, so that all the rest can be looked at."""
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        yield
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(aside, folder)


def damages(content: bytes, bits: int) -> Iterator[tuple[str, bytes | None]]:
    """Every kind of damage of a file; None is a file that is gone."""
    generator = random.Random(3)
    yield from (("missing", None), ("empty", b""), ("truncated", content[: len(content) // 2]))
    yield from (("longer", content + b" "), ("huge header", b"\xff" * 8 + content[8:]))
    for _ in range(bits):
        position = generator.randrange(len(content))
        flipped = bytes([content[position] ^ (1 << generator.randrange(8))])
        yield f"bit {position}", content[:position] + flipped + content[position + 1 :]


def test_every_damage_of_a_models_file_is_named(clean: Path, new_fault) -> None:
    fault = new_fault("model file damaged")
    (row,) = repair.read(clean / ".ktrdr" / "ktrdr.db").models
    for name in FILES:
        path = model_folder(clean) / name
        whole = path.read_bytes()
        for damage, content in damages(whole, 200 if LONG else 10):
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            with pytest.raises(ModelCorrupted, match=name) as caught:
                ModelCache(Workspace(clean)).load(row)
            assert caught.value.hint, damage
            fault.tries += 1
        path.write_bytes(whole)
    ModelCache(Workspace(clean)).load(row)
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
async def test_a_server_with_a_damaged_model_goes_on_with_all_else(clean: Path) -> None:
    path = model_folder(clean) / "weights.safetensors"
    with put_back(path.parent):
        path.write_bytes(path.read_bytes()[:-1])
        async with open_workspace(Workspace(clean)) as opened:
            with pytest.raises(ModelCorrupted, match=r"weights\.safetensors"):
                await predict(opened.service)
            listed = await opened.service.list_trained_models(parse(requests.ListModels, {}))
            assert [model.model_name for model in listed.models] == [MODEL]
            assert await train(opened.service, "later", seed=1) == "completed"
            raw = {"task_id": TASK, "model_name": "saved_again", "description": ""}
            await opened.service.save_trained_model(parse(requests.SaveModel, raw))
        (wrong,) = [each for each in verify(Workspace(clean)) if each.state == "wrong"]
        assert path.parent.name in wrong.text
    assert_nothing_lost(clean, {TASK, "later"})


@pytest.mark.asyncio
async def test_a_file_too_many_is_never_read(clean: Path) -> None:
    async with open_workspace(Workspace(clean)) as opened:
        before = await predict(opened.service)
    (model_folder(clean) / "weights.pt").write_bytes(b"\x80\x04.")
    async with open_workspace(Workspace(clean)) as opened:
        assert await predict(opened.service) == before
    assert_nothing_lost(clean, {TASK})


def test_a_sound_workspace_has_one_finding(clean: Path) -> None:
    (finding,) = verify(Workspace(clean))
    assert (finding.name, finding.state) == ("hashes", "ok")
    assert "1 tasks and 1 models" in finding.text
    assert_nothing_lost(clean, {TASK})


def test_damage_of_a_result_and_of_a_model_is_found(clean: Path) -> None:
    model, result = model_folder(clean), clean / ".ktrdr" / "tasks" / TASK / "bundle"
    with put_back(model), put_back(result):
        for folder in (model, result):
            (folder / "history.json").write_bytes(b"[]")
        (model.parent / ".staging-left").mkdir()
        findings = list(verify(Workspace(clean)))
        assert [each.name for each in findings] == ["tasks", "models", "staging"]
        assert [each.state for each in findings] == ["wrong", "wrong", "note"]
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
async def test_a_rebuild_leaves_out_what_is_damaged_and_says_so(clean: Path) -> None:
    with put_back(model_folder(clean)):
        (model_folder(clean) / "history.json").write_bytes(b"[]")
        made = await rebuild(Workspace(clean))
        assert (made.models, made.tasks, made.quarantined) == (0, 0, [])
        (left_out,) = made.left_out
        assert "history.json" in left_out.text
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
async def test_a_rebuild_of_a_sound_workspace_changes_nothing_a_client_sees(clean: Path) -> None:
    before = repair.read(clean / ".ktrdr" / "ktrdr.db")
    made = await rebuild(Workspace(clean))
    assert (made.models, made.tasks, made.quarantined, made.left_out) == (1, 0, [], [])
    assert repair.read(clean / ".ktrdr" / "ktrdr.db") == before
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
async def test_a_row_without_its_folder_is_reported(
    clean: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = model_folder(clean).relative_to(clean)
    with put_back(model_folder(clean)):
        shutil.rmtree(model_folder(clean))
        async with open_workspace(Workspace(clean)):
            pass
        assert f"{name} of model kept_model is gone" in caplog.text
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", [None, "card", "bundle"])
async def test_a_version_without_its_row_is_adopted_if_it_is_whole(
    copy_of: Callable[[str], Path], damage: str | None
) -> None:
    workspace = copy_of("clean")
    folder = model_folder(workspace)
    copied = folder.with_name(folder.name.replace("_v1", "_v2"))
    shutil.copytree(folder, copied)
    card = (copied / "model.json").read_text(encoding="utf-8")
    # Version 2 takes the place of version 1, whose row and folder are gone.
    (copied / "model.json").write_text(card.replace('"version": 1', '"version": 2'), "utf-8")
    shutil.rmtree(folder)
    with put_back(copied):
        if damage is not None:
            name = {"card": "model.json", "bundle": "history.json"}[damage]
            (copied / name).write_bytes(b"{}")
        made = await rebuild(Workspace(workspace))
        assert made.models == (1 if damage is None else 0)
    assert_nothing_lost(workspace, {TASK})
