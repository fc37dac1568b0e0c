"""Parquet files: what is read from them, and that a damaged one harms nobody."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import fastparquet
import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.data import parquet
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.parquet import decode
from ktrdr_mcp.data.reader import Reader
from ktrdr_mcp.data.series import FileState
from ktrdr_mcp.data.tables import BarTable
from ktrdr_mcp.data.validation import check_bars
from ktrdr_mcp.errors import DataInvalid, LimitExceeded
from ktrdr_mcp.paths import Workspace

HERE = Path(__file__).parent
NAME = "P_1h.parquet"
SOUND = HERE / "utc_column.parquet"
HANGS_WHERE = {266: 88}  # fastparquet 2026.9 loops on these bytes


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "data").mkdir()
    return Workspace(tmp_path)


def load(workspace: Workspace) -> Bars:
    return BarCatalog(workspace).load("P", "1h").bars


def frame(times: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"Time": times, "Open": 10.0, "High": 12, "Low": 9.0, "Close": 11.0})


def decoded(folder: Path, table: pd.DataFrame, as_index: bool = False) -> BarTable:
    path = folder / NAME
    fastparquet.write(str(path), table, write_index=as_index)
    return decode(io.BytesIO(path.read_bytes()), NAME)


@pytest.mark.parametrize("name", ["utc_index_without_name", "utc_column"])
def test_files_written_by_another_library_are_read(workspace: Workspace, name: str) -> None:
    shutil.copy(HERE / f"{name}.parquet", workspace.data / NAME)
    bars = load(workspace)
    assert bars.times() == [f"2024-01-01T0{hour}:00:00Z" for hour in range(5)]
    assert [column[0] for column in bars.columns()] == [1.0, 2.0, 0.5, 1.5, 3.0]
    assert all(column.flags.aligned for column in bars.columns())


@pytest.mark.parametrize("as_index", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_times_may_be_index_or_column_and_text_or_datetimes(
    tmp_path: Path, as_index: bool, as_text: bool
) -> None:
    texts = ["2024-01-01 00:00:00", "2024-01-01 01:00:00"]
    table = frame(list(texts if as_text else pd.to_datetime(texts)))
    table = table.set_index("Time") if as_index else table
    bars = check_bars(decoded(tmp_path, table, as_index), "P", "1h")
    assert bars.times() == ["2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"]
    assert bars.volume.tolist() == [0.0, 0.0]


def test_defects_are_named_by_row(workspace: Workspace) -> None:
    table = frame(list(pd.to_datetime(["2024-01-02", "2024-01-01"])))
    fastparquet.write(str(workspace.data / NAME), table, write_index=False)
    with pytest.raises(DataInvalid, match=r"1 times before the bar above at row 2 \(2024-01-01T"):
        load(workspace)


def test_numbers_are_no_times(tmp_path: Path) -> None:
    table = decoded(tmp_path, frame([1, 2]))
    with pytest.raises(DataInvalid, match="2 unreadable times"):
        check_bars(table, "P", "1h")


def test_the_first_unreadable_time_is_told_by_the_process_that_reads(workspace: Workspace) -> None:
    fastparquet.write(str(workspace.data / NAME), frame([1735689600]), write_index=False)
    with pytest.raises(DataInvalid) as caught:
        load(workspace)
    assert "unreadable times at row 1" in caught.value.message
    assert "data import data/P_1h.parquet" in caught.value.hint  # which reads such times


def test_a_time_that_is_not_first_is_told_in_words_of_parquet(tmp_path: Path) -> None:
    table = frame(list(pd.to_datetime(["2024-01-02"])))
    with pytest.raises(DataInvalid, match="no column open") as caught:
        decoded(tmp_path, table[["Open", "High", "Low", "Close", "Time"]])
    assert "the time is its first column, or its index" in caught.value.hint
    assert "text" not in caught.value.hint


def test_times_beyond_64_bits_of_nanoseconds_are_unreadable(tmp_path: Path) -> None:
    times = np.array(["1500-01-01", "2024-01-01", "9999-01-01"], dtype="datetime64[us]")
    table = decoded(tmp_path, frame(list(pd.Series(times))))
    with pytest.raises(DataInvalid, match="2 unreadable times at row 1, row 3"):
        check_bars(table, "P", "1h")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="columns and no bars"):
        decoded(tmp_path, frame(list(pd.to_datetime(["2024-01-02"]))).iloc[:0])


def test_a_refusal_of_the_child_comes_through_whole(workspace: Workspace) -> None:
    (workspace.data / NAME).write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataInvalid) as caught:
        load(workspace)
    assert caught.value.message == "P_1h.parquet cannot be read as Parquet."
    assert "timestamp, open" in caught.value.hint


@pytest.mark.parametrize("share", range(20))
def test_a_file_that_was_cut_off_is_refused(share: int) -> None:
    data = SOUND.read_bytes()
    with pytest.raises(DataInvalid, match="cannot be read"):
        decode(io.BytesIO(data[: len(data) * share // 20]), NAME)


def test_a_file_on_which_the_decoder_hangs_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    data = bytearray(SOUND.read_bytes())
    for place, value in HANGS_WHERE.items():
        data[place] = value
    hanging = tmp_path / NAME
    hanging.write_bytes(bytes(data))
    reader = Reader(timeout_s=8)
    try:
        with pytest.raises(DataInvalid, match=r"^P_1h\.parquet cannot be decoded"):
            reader.read(FileState.of(hanging, hanging.stat()), NAME, "P", "1h")
        series = reader.read(FileState.of(SOUND, SOUND.stat()), NAME, "P", "1h")
        assert len(series.table.time) == 5
    finally:
        reader.close()


def test_a_file_that_claims_too_many_rows_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_ROWS", 4)
    with pytest.raises(LimitExceeded, match="claims 5 rows"):
        decode(io.BytesIO(SOUND.read_bytes()), NAME)
