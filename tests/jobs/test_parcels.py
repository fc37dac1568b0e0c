"""What travels between the server's disk and a worker's arrives as it was, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.jobs.cluster import parcels

CHECKPOINT = {"checkpoints/a/state.json": b"1", "checkpoints/a/manifest.json": b"2"}
BUNDLE = {"bundle/weights": b"3", "bundle/bundle.json": b"4"}
LOOSE = {"folds.safetensors": b"5"}


def test_a_parcel_holds_what_was_packed() -> None:
    contents = {**CHECKPOINT, "empty": b""}
    assert parcels.unpack(parcels.pack(contents)) == contents


@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_damaged_parcel_is_refused(at: int) -> None:
    parcel = bytearray(parcels.pack(CHECKPOINT))
    parcel[at] ^= 1
    with pytest.raises((ValueError, KeyError)):
        parcels.unpack(bytes(parcel))


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../b", "a//b", ".hidden", "a/.staging-b", "", "a\\..\\b"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="leads elsewhere"):
        parcels.unpack(parcels.pack({name: b""}))


def test_everything_of_a_run_is_read_and_nothing_unfinished(tmp_path: Path) -> None:
    contents = {**CHECKPOINT, **BUNDLE, **LOOSE}
    left_out = {
        "checkpoints/.staging-b-1/state.json": b"",
        "bundle.earlier-1/bundle.json": b"",
        "other/file": b"",
    }
    parcels.lay_out(tmp_path, {**contents, **left_out})
    (tmp_path / "link").symlink_to(tmp_path / "folds.safetensors")
    assert parcels.read_all(tmp_path, "bundle") == contents


def test_only_what_has_changed_is_taken_and_once(tmp_path: Path) -> None:
    parcels.lay_out(tmp_path, CHECKPOINT)
    changes = parcels.Changes(tmp_path, "bundle")
    assert changes.take() == {}
    parcels.lay_out(tmp_path, {**LOOSE, "checkpoints/b/manifest.json": b"new"})
    assert changes.take(checkpoints_only=True) == {"checkpoints/b/manifest.json": b"new"}
    assert changes.take() == LOOSE
    assert changes.take() == {}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    parcels.lay_out(tmp_path, {**CHECKPOINT, "checkpoints/a/of-before": b""})
    parcels.put_in_place(tmp_path, CHECKPOINT, "bundle")
    assert parcels.read_all(tmp_path, "bundle") == CHECKPOINT


def test_an_earlier_result_is_set_aside(tmp_path: Path) -> None:
    parcels.lay_out(tmp_path, {"bundle/bundle.json": b"earlier"})
    parcels.put_in_place(tmp_path, {**BUNDLE, **LOOSE}, "bundle")
    assert parcels.read_all(tmp_path, "bundle") == {**BUNDLE, **LOOSE}
    (aside,) = files.folders_set_aside(tmp_path / "bundle")
    assert (aside / "bundle.json").read_bytes() == b"earlier"


def test_a_disk_that_fails_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcels.put_in_place(tmp_path, CHECKPOINT, "bundle")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(files, "write_new", refuse)
    with pytest.raises(StorageError):
        parcels.put_in_place(tmp_path, dict.fromkeys(CHECKPOINT, b"new"), "bundle")
    assert parcels.read_all(tmp_path, "bundle") == CHECKPOINT


def test_of_files_that_differ_the_whole_folder_counts() -> None:
    earlier = {**CHECKPOINT, **LOOSE}
    now = {**earlier, "checkpoints/a/state.json": b"other"}
    assert parcels.select_changed(now, earlier, "bundle") == {
        "checkpoints/a/state.json": b"other",
        "checkpoints/a/manifest.json": b"2",
    }


def test_an_index_says_how_long_each_file_is() -> None:
    parcel = parcels.pack(LOOSE)
    size = int.from_bytes(parcel[:8], "big")
    assert json.loads(parcel[8 : 8 + size])["files"] == [["folds.safetensors", 1]]
