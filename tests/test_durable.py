"""A file or folder is whole under its final name, or it is not there."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError, StorageFull


def test_replacing_a_file_leaves_the_new_content_and_no_leftovers(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.json"
    files.replace(target, b"one")
    files.replace(target, b"two", mode=0o600)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_replacement_keeps_the_old_content(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "file"
    files.replace(target, b"old")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(StorageFull):
        files.replace(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_unpublished_staging_folder_disappears(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"

    def interrupted() -> None:
        with files.staging(destination) as staged:
            files.write_new(staged / "file", b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_published_folder_is_whole_and_never_overwrites(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    for content in (b"first", b"second"):
        with files.staging(destination) as staged:
            files.write_new(staged / "file", content)
            if content == b"first":
                files.publish(staged, destination)
            else:
                with pytest.raises(StorageError):
                    files.publish(staged, destination)
    assert (destination / "file").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_error_names_the_trouble_but_no_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as failed, files.storage_errors("writing x"):
        (tmp_path / "missing" / "file").write_text("", encoding="utf-8")
    assert "No such file or directory" in failed.value.message
    assert str(tmp_path) not in failed.value.message + failed.value.hint


def test_sweeping_removes_leftovers_only(tmp_path: Path) -> None:
    (tmp_path / ".staging-bundle-1").mkdir()
    (tmp_path / ".staging-file-2").write_bytes(b"x")
    (tmp_path / "bundle").mkdir()
    assert files.sweep(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert files.sweep(tmp_path / "absent") == 0


def test_discarding_frees_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    files.discard(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_is_set_aside_keeps_its_content_under_the_first_free_name(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (tmp_path / "bundle.earlier-2").symlink_to("nowhere")
    for content in (b"first", b"second"):
        folder.mkdir()
        (folder / "file").write_bytes(content)
        files.set_aside(folder)
    aside = files.folders_set_aside(folder)
    assert [path.name for path in aside] == ["bundle.earlier-1", "bundle.earlier-3"]
    assert [(path / "file").read_bytes() for path in aside] == [b"first", b"second"]
    assert not folder.exists()


def test_what_cannot_be_set_aside_stays(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="setting bundle aside"):
        files.set_aside(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_json_is_strict_and_stable() -> None:
    assert files.json_bytes({"b": 1, "a": 0.1}) == b'{\n "a": 0.1,\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.json_bytes(float("nan"))


class Drive:
    """A Mac's drive: what it was asked to sync, and how it answers a full sync."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: int | None = None) -> None:
        self.asked: list[str] = []
        self._answer = answer
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setitem(
            sys.modules, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=self._fcntl)
        )
        monkeypatch.setattr(os, "fsync", lambda descriptor: self.asked.append("fsync"))

    def _fcntl(self, descriptor: int, command: int) -> int:
        self.asked.append(f"fcntl {command}")
        if self._answer is not None:
            raise OSError(self._answer, os.strerror(self._answer))
        return 0


def test_on_a_mac_the_drive_itself_is_asked_for_files_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(monkeypatch)
    files.replace(tmp_path / "file", b"content")
    assert drive.asked == ["fcntl 51", "fcntl 51"]


@pytest.mark.parametrize("refusal", ["ENOTSUP", "ENOTTY", "EINVAL"])
def test_on_a_mac_a_file_system_without_full_sync_is_synced_as_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    drive = Drive(monkeypatch, getattr(errno, refusal))
    files.sync_directory(tmp_path)
    assert drive.asked == ["fcntl 51", "fsync"]


def test_on_a_mac_a_drive_that_fails_is_an_error_and_not_tried_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(monkeypatch, errno.EIO)
    with pytest.raises(StorageError, match="Input/output error"):
        files.replace(tmp_path / "file", b"content")
    assert drive.asked == ["fcntl 51"]
    assert list(tmp_path.iterdir()) == []
