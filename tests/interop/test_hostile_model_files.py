"""A model.pt that is anything but plain tensors is refused, and nothing of it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.interop.ktrdr import read
from ktrdr_mcp.interop.ktrdr.model_format import (
    LATER_METADATA,
    MODEL_FORMAT,
    MOST_SHOWN_CHARACTERS,
)
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service.diagnosis import models
from tests.support import ktrdr_writer

Edit = Callable[[Path], None]


def rewritten(path: Path, compress: int, **replace: bytes) -> None:
    """The same archive with other records."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in records.items():
            archive.writestr(name, replace.get(Path(name).name.replace(".", "_"), data))


def saved(path: Path, value: object) -> None:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    path.write_bytes(buffer.getvalue())


def state_of(path: Path) -> OrderedDict:
    return torch.load(path, weights_only=True)


def canary(path: Path) -> ktrdr_writer.Canary:
    return ktrdr_writer.Canary(path.parents[3] / "canary")


def a_bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(canary(path)))


def a_pickle_in_an_archive(path: Path) -> None:
    rewritten(path, zipfile.ZIP_STORED, data_pkl=pickle.dumps(canary(path), protocol=2))


def a_state_dict_with_a_canary(path: Path) -> None:
    saved(path, OrderedDict(state_of(path), extra=canary(path)))


def a_whole_network(path: Path) -> None:
    saved(path, torch.nn.Sequential(torch.nn.Linear(5, 3)))


def an_old_format(path: Path) -> None:
    torch.save(state_of(path), path, _use_new_zipfile_serialization=False)


def a_zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 100_000_000)


def a_compressed_archive(path: Path) -> None:
    rewritten(path, zipfile.ZIP_DEFLATED)


def a_pickle_of_a_megabyte(path: Path) -> None:
    rewritten(path, zipfile.ZIP_STORED, data_pkl=b"N" * 1_000_000)


def a_huge_file(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(50 * 1024**3)


def a_larger_network(path: Path) -> None:
    saved(path, OrderedDict({"0.weight": torch.zeros(2_000, 2_000)}))


def a_truncated_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def an_empty_file(path: Path) -> None:
    path.write_bytes(b"")


def a_record_cut_short(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data/0")]
        short = archive.read(name)[:8]
    rewritten(path, zipfile.ZIP_STORED, **{"0": short})


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere.pt"))
    path.symlink_to("elsewhere.pt")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_layers(path: Path) -> None:
    state = state_of(path)
    state["9.weight"] = state.pop("6.weight")
    saved(path, state)


def another_shape(path: Path) -> None:
    state = state_of(path)
    state["0.weight"] = state["0.weight"].T.contiguous()
    saved(path, state)


def a_view_of_one_number(path: Path) -> None:
    state = state_of(path)
    state["0.weight"] = torch.zeros(1).expand(12, 5)
    saved(path, state)


def whole_numbers(path: Path) -> None:
    state = state_of(path)
    state["0.bias"] = torch.zeros(12, dtype=torch.int64)
    saved(path, state)


def infinite_weights(path: Path) -> None:
    state = state_of(path)
    state["0.bias"][0] = float("inf")
    saved(path, state)


def a_list(path: Path) -> None:
    saved(path, list(state_of(path).values()))


HOSTILE = [
    *(a_bare_pickle, a_pickle_in_an_archive, a_state_dict_with_a_canary, a_whole_network),
    *(an_old_format, a_zip_bomb, a_compressed_archive, a_pickle_of_a_megabyte, a_huge_file),
    *(a_larger_network, a_truncated_file, an_empty_file, a_record_cut_short, a_link, a_folder),
    *(other_layers, another_shape, a_view_of_one_number, whole_numbers, infinite_weights, a_list),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda edit: edit.__name__)
def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path, hostile: Edit) -> None:
    directory = ktrdr_writer.write(tmp_path)
    read.read(directory, "theirs")  # it is sound before
    hostile(directory / "model.pt")
    with pytest.raises(ModelCorrupted, match=r"model\.pt"):
        read.read(directory, "theirs")
    assert not (tmp_path / "canary").exists()


def test_the_canary_sings_where_it_is_unpickled(tmp_path) -> None:
    directory = ktrdr_writer.write(tmp_path)
    pickle.loads((directory / "scaler.pkl").read_bytes())
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["config", "metadata", "features"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_a_damaged_document_is_refused_by_name(tmp_path, name, content) -> None:
    directory = ktrdr_writer.write(tmp_path)
    (directory / f"{name}.json").write_bytes(content)
    with pytest.raises(ModelCorrupted, match=rf"{name}\.json"):
        read.read(directory, "theirs")


HUGE = 10**400
MARKED = "plain\x1b[2J\u202etxet\u2028\x00"
HOSTILE_VALUES = [
    ("metadata", "input_size", HUGE),
    ("metadata", "input_size", -HUGE),
    ("metadata", "created_at", HUGE),
    ("metadata", "created_at", MARKED),
    ("metrics", "test_accuracy", HUGE),
    ("metrics", "final_train_accuracy", MARKED),
    ("config", "model", {"architecture": {"hidden_layers": [HUGE] * 50}}),
    ("config", "model", [HUGE]),
    ("config", "description", MARKED * 1_000),
    ("features", "feature_names", [MARKED] * 10_000),
]


@pytest.mark.parametrize(("document", "key", "value"), HOSTILE_VALUES)
def test_one_hostile_folder_does_not_break_the_list(tmp_path, document, key, value) -> None:
    workspace = Workspace(tmp_path)
    sound = ktrdr_writer.write(tmp_path)
    hostile = sound.parents[1] / "hostile" / sound.name
    shutil.copytree(sound, hostile)
    path = hostile / f"{document}.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {key: value}), encoding="utf-8")
    rows = MODEL_FORMAT.rows(workspace)
    assert sound.parent.name in {row.model_name for row in rows}
    listed = "hostile" in {row.model_name for row in rows}
    named = [folder for folder, _ in MODEL_FORMAT.unusable(workspace)]
    assert named == ([] if listed else [workspace.relative(hostile)])
    assert [finding.name for finding in models(workspace)] == ["models"] * len(named)
    for row in rows:
        texts = (row.description, row.created_at, row.architecture)
        assert all(text.isprintable() and len(text) < 5_000 for text in texts), row
        if row.model_name == "hostile":
            card = MODEL_FORMAT.card(workspace, row)
            assert printable_throughout(card)
            assert len(json.dumps(card)) < 4 * MOST_SHOWN_CHARACTERS


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("odd", [a_pipe, a_link_to_a_device, a_link_to_nothing, Path.mkdir])
def test_metadata_that_is_no_plain_file_is_named_and_holds_nobody_up(tmp_path, odd, later) -> None:
    workspace = Workspace(tmp_path)
    sound = ktrdr_writer.write(tmp_path)
    name, document = ("1h_v1", LATER_METADATA) if later else (sound.name, "metadata.json")
    hostile = sound.parents[1] / "hostile" / name
    hostile.mkdir(parents=True)
    odd(hostile / document)
    assert [row.model_name for row in MODEL_FORMAT.rows(workspace)] == [sound.parent.name]
    (found,) = models(workspace)
    assert found.state == "wrong"
    assert workspace.relative(hostile) in found.text
    assert document in found.text


def printable_throughout(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(printable_throughout, [*value, *value.values()]))
    if isinstance(value, list):
        return all(map(printable_throughout, value))
    return not isinstance(value, str) or value.isprintable()
