"""Versions of stored series: nothing is changed in place, and each can be read again."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from ktrdr_mcp import files
from ktrdr_mcp.data import stored, versions
from ktrdr_mcp.data.bars import Bars, fingerprint
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.notes import series_notes
from ktrdr_mcp.data.reader import READERS
from ktrdr_mcp.data.series import FileState, StoredSeries
from ktrdr_mcp.errors import DataInvalid, DataNotFound, StorageError
from ktrdr_mcp.paths import Workspace

HOUR_NS = 3_600 * 10**9
JANUARY_NS = 1_704_067_200 * 10**9  # 2024-01-01
FACTS = versions.Manifest(
    "BTC/USDT", "1h", "fake", {}, "none", "2024-06-01T00:00:00Z", "raw", "UTC"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    files.make_private_folder(made.internal)
    return made


def series(count: int, revised: int | None = None, offset_h: int = 0) -> Bars:
    close = 100 + np.sin(np.arange(count))
    if revised is not None:
        close[revised] += 1
    time = JANUARY_NS + np.arange(count, dtype=np.int64) * HOUR_NS
    columns = (close, close + 2, close - 2, close, np.full(count, 5.0))
    offset = None if not offset_h else np.full(count, offset_h * HOUR_NS)
    return Bars("BTC/USDT", "1h", time, *columns, offset=offset)


def commit(workspace: Workspace, bars: Bars, why: str = "") -> tuple[versions.Manifest, bool]:
    with files.staging(workspace.data / "x") as folder:
        staged = stored.stage(bars, folder / "0")
        return versions.commit(workspace, staged, FACTS, why)


def part_files(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.internal.rglob("parts/*")}


def test_every_version_can_be_read_again_to_the_bit(workspace: Workspace) -> None:
    made = [series(1_000), series(1_100), series(1_100, revised=50), series(1_100, offset_h=2)]
    for bars in made:
        commit(workspace, bars)
    # An offset changes no price: the fingerprint is that of the version before.
    for number, bars in enumerate(made[:3], start=1):
        loaded = versions.load_version(workspace, "BTC/USDT", "1h", f"v{number}")
        assert fingerprint(loaded) == fingerprint(bars)


def test_months_that_did_not_change_are_shared(workspace: Workspace) -> None:
    commit(workspace, series(1_000))  # January and February
    first = part_files(workspace)
    commit(workspace, series(1_000, revised=999))
    assert len(first) == 2
    assert len(part_files(workspace)) == 3
    assert first < part_files(workspace)


def test_the_file_in_data_is_the_newest_version(workspace: Workspace) -> None:
    commit(workspace, series(100))
    commit(workspace, series(120))
    loaded = BarCatalog(workspace).load("BTC/USDT", "1h")
    assert (len(loaded.bars), loaded.dataset) == (120, "1h v2")


def test_a_file_that_a_user_put_there_is_of_no_version(workspace: Workspace) -> None:
    commit(workspace, series(100))
    stored.write_bars(series(90), workspace.data / "other")
    (workspace.data / "other").replace(workspace.data_file("BTC/USDT", "1h", ".parquet"))
    assert BarCatalog(workspace).load("BTC/USDT", "1h").dataset is None


def test_a_copied_file_is_still_known(workspace: Workspace) -> None:
    commit(workspace, series(100))
    path = workspace.data_file("BTC/USDT", "1h", ".parquet")
    path.write_bytes(path.read_bytes())
    assert versions.version_of_file(workspace, "BTC/USDT", "1h") == "v1"


def test_a_damaged_part_is_refused(workspace: Workspace) -> None:
    commit(workspace, series(100))
    (part,) = workspace.internal.rglob("parts/*")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError):
        versions.load_version(workspace, "BTC/USDT", "1h", "v1")


def test_a_version_that_is_not_there_is_named_with_those_that_are(workspace: Workspace) -> None:
    commit(workspace, series(100))
    with pytest.raises(DataNotFound) as caught:
        versions.load_version(workspace, "BTC/USDT", "1h", "v7")
    assert "v1" in caught.value.hint


def test_wider_bars_are_made_of_a_pinned_version(workspace: Workspace) -> None:
    commit(workspace, series(100))
    commit(workspace, series(400))
    pinned = BarCatalog(workspace).load("BTC/USDT", "4h", dataset="1h v1")
    assert (len(pinned.bars), pinned.dataset) == (25, "1h v1")


@pytest.mark.parametrize("step", ["place", "replace"])
def test_a_disk_that_fails_leaves_the_version_before(
    workspace: Workspace, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(workspace, series(100))

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(files, step, fail)
        with pytest.raises(StorageError):
            commit(workspace, series(120))
    assert len(BarCatalog(workspace).load("BTC/USDT", "1h").bars) == 100
    manifest, is_new = commit(workspace, series(120))
    assert (manifest.newest.name, is_new) == ("v2", True)


def test_a_crash_between_manifest_and_file_is_made_good(workspace: Workspace) -> None:
    commit(workspace, series(100))
    old = workspace.data_file("BTC/USDT", "1h", ".parquet").read_bytes()
    commit(workspace, series(120))
    workspace.data_file("BTC/USDT", "1h", ".parquet").write_bytes(old)
    assert BarCatalog(workspace).load("BTC/USDT", "1h").dataset == "1h v1"
    _, is_new = commit(workspace, series(120))
    assert not is_new
    assert BarCatalog(workspace).load("BTC/USDT", "1h").dataset == "1h v2"


def test_the_manifest_says_everything(workspace: Workspace) -> None:
    commit(workspace, series(1_000), "fetched")
    path = versions.series_folder(workspace, "BTC/USDT", "1h") / versions.MANIFEST
    raw = json.loads(path.read_bytes())
    assert raw["last_final"] == "2024-02-11T15:00:00Z"
    assert raw["zone"] == "UTC"
    assert list(raw["versions"][0]["parts"]) == ["2024-01", "2024-02"]
    assert versions.read_manifest(workspace, "BTC/USDT", "1h") is not None
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(StorageError):
        versions.read_manifest(workspace, "BTC/USDT", "1h")


def test_removing_takes_all_versions_and_no_file_of_the_user(workspace: Workspace) -> None:
    commit(workspace, series(100))
    commit(workspace, series(120))
    assert versions.remove(workspace, "BTC/USDT", "1h") == 2
    assert list(workspace.data.iterdir()) == []
    with pytest.raises(DataNotFound):
        versions.remove(workspace, "BTC/USDT", "1h")


def test_the_file_of_a_version_is_read_here_and_one_with_other_bytes_in_a_process_of_its_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(workspace, series(1_000))
    path = workspace.data_file("BTC/USDT", "1h", ".parquet")
    elsewhere: list[str] = []
    read = READERS.read

    def reading(state: FileState, name: str, symbol: str, timeframe: str) -> StoredSeries:
        elsewhere.append(name)
        return read(state, name, symbol, timeframe)

    monkeypatch.setattr(READERS, "read", reading)
    own = BarCatalog(workspace).load("BTC/USDT", "1h")
    assert elsewhere == []
    assert fingerprint(own.bars) == fingerprint(series(1_000))

    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if it were the same
    with contextlib.suppress(DataInvalid):  # a flipped bit need not break the decoder
        BarCatalog(workspace).load("BTC/USDT", "1h")
    assert elsewhere == [path.name]


def test_a_stored_series_says_what_is_to_be_said_of_its_bars(workspace: Workspace) -> None:
    bars = series(1_000)
    bars = Bars(
        bars.symbol, bars.timeframe, bars.time, *(one / np.where(np.arange(1_000) < 500, 1, 4)
        for one in bars.columns()[:4]), bars.volume,
    )  # fmt: skip
    commit(workspace, bars)
    notes = BarCatalog(workspace).load("BTC/USDT", "1h").notes
    assert notes == series_notes(bars)
    assert any("split" in note for note in notes)
