"""Where bars come from: samples, files of the workspace, and what is refused."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ktrdr_mcp import limits, paths
from ktrdr_mcp.data import catalog
from ktrdr_mcp.data.bars import fingerprint
from ktrdr_mcp.data.catalog import BarCatalog, Samples, select_range
from ktrdr_mcp.data.files import WorkspaceFiles
from ktrdr_mcp.data.series import BarCache
from ktrdr_mcp.data.timestamps import parse_timestamp
from ktrdr_mcp.errors import (
    DataInvalid,
    DataNotFound,
    InvalidName,
    InvalidRequest,
    KtrdrError,
    LimitExceeded,
    NotEnoughData,
    StorageError,
)
from ktrdr_mcp.paths import Workspace
from tests.support.source_checks import check_source

HERE = Path(__file__).parent
HEADER = "timestamp,open,high,low,close,volume\n"
THREE_HOURS = HEADER + "".join(f"2024-01-01 0{hour}:00,10,12,9,11,{hour}\n" for hour in range(3))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "data").mkdir()
    return Workspace(tmp_path)


def put(workspace: Workspace, name: str, text: str = THREE_HOURS) -> Path:
    path = workspace.data / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_hourly_sample_is_real_and_complete(workspace: Workspace) -> None:
    loaded = BarCatalog(workspace).load("aapl", "1h")
    bars = loaded.bars
    assert (len(bars), bars.timestamp(0), bars.timestamp(-1)) == (
        3_478,
        "2024-08-06T13:30:00Z",
        "2026-08-05T19:30:00Z",
    )
    assert (bars.open[0], bars.volume[0]) == (205.38999938964844, 0.0)
    winter = np.searchsorted(
        bars.time, parse_timestamp("2024-12-02", "test_date", end_of_day=False)
    )
    assert bars.timestamp(int(winter)) == "2024-12-02T14:30:00Z"
    assert loaded.source == "built-in sample"
    told = " ".join(loaded.standing)
    assert loaded.notes == []
    assert "inferred" in told
    assert "unverified" in told
    assert "opening" in told


def test_the_hourly_sample_has_713_bars_in_the_range_of_the_specification(
    workspace: Workspace,
) -> None:
    bars = BarCatalog(workspace).load("AAPL", "1h").bars
    start = parse_timestamp("2024-01-01", "start_date", end_of_day=False)
    end = parse_timestamp("2024-12-31", "end_date", end_of_day=True)
    first, stop, warnings = select_range(bars, start, end)
    assert stop - first == 713
    assert len(warnings) == 1
    assert warnings[0] == (
        "The range starts at 2024-01-01T00:00:00Z, before the first stored bar. "
        "Bars are stored from 2024-08-06T13:30:00Z to 2026-08-05T19:30:00Z."
    )


def test_the_daily_sample_reaches_from_1980_to_2026(workspace: Workspace) -> None:
    bars = BarCatalog(workspace).load("AAPL", "1d").bars
    assert (len(bars), bars.timestamp(0), bars.timestamp(-1)) == (
        11_503,
        "1980-12-12T00:00:00Z",
        "2026-08-05T00:00:00Z",
    )


def test_an_altered_sample_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.SAMPLE_FILES, "1d", ("daily-prices.csv", "0" * 64))
    with pytest.raises(StorageError, match=r"daily-prices\.csv"):
        Samples(BarCache()).load("AAPL", "1d")


def test_an_absent_sample_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SAMPLES_PACKAGE", "no_such_package")
    with pytest.raises(StorageError, match=r"hourly-prices\.csv"):
        Samples(BarCache()).load("AAPL", "1h")


def test_every_source_keeps_its_promises(workspace: Workspace) -> None:
    put(workspace, "EURUSD_1h.csv")
    put(workspace, "BRK-B_1d.csv", THREE_HOURS.replace(":00,", ":00Z,"))
    shutil.copy(HERE / "utc_column.parquet", workspace.data / "P_1h.parquet")
    check_source(Samples(BarCache()))
    check_source(WorkspaceFiles(workspace, BarCache()))


def test_a_workspace_file_wins_over_the_sample(workspace: Workspace) -> None:
    put(workspace, "AAPL_1h.csv")
    loaded = BarCatalog(workspace).load("AAPL", "1h")
    assert (len(loaded.bars), loaded.source) == (3, "workspace file AAPL_1h.csv")
    assert loaded.notes == []


def test_a_file_that_changed_is_read_again(workspace: Workspace) -> None:
    path = put(workspace, "X_1h.csv")
    sources = BarCatalog(workspace)
    before = sources.load("X", "1h").bars
    assert sources.load("X", "1h").bars.time is before.time
    path.write_text(THREE_HOURS.replace("10,12", "10.5,12"), encoding="utf-8")
    assert sources.load("X", "1h").bars.open[0] == 10.5
    path.write_text("timestamp;open\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(DataInvalid, match="';'"):
            sources.load("X", "1h")
    path.unlink()
    with pytest.raises(DataNotFound):
        sources.load("X", "1h")


def test_notes_of_a_result_may_be_changed_by_its_owner(workspace: Workspace) -> None:
    sources = BarCatalog(workspace)
    sources.load("AAPL", "1w").notes.clear()
    assert sources.load("AAPL", "1w").notes


def test_many_threads_read_the_same_bars(workspace: Workspace) -> None:
    put(workspace, "X_1h.csv")
    sources = BarCatalog(workspace)
    with ThreadPoolExecutor(8) as pool:
        series = [("X", "1h"), ("AAPL", "1h"), ("AAPL", "4h")] * 8
        prints = list(pool.map(lambda one: fingerprint(sources.load(*one).bars), series))
    assert len(set(prints)) == 3


def test_the_cache_forgets_what_was_used_longest_ago(workspace: Workspace) -> None:
    for name in "ABC":
        put(workspace, f"{name}_1h.csv")
    source = WorkspaceFiles(workspace, BarCache(max_bytes=2 * 3 * 7 * 8))
    a, b = source.load("A", "1h").bars, source.load("B", "1h").bars
    assert source.load("A", "1h").bars.time is a.time
    source.load("C", "1h")
    assert source.load("A", "1h").bars.time is a.time
    assert source.load("B", "1h").bars.time is not b.time


def test_the_cache_keeps_a_bounded_number_of_refusals(workspace: Workspace) -> None:
    cache = BarCache(max_files=2)
    source = WorkspaceFiles(workspace, cache)
    for name in "ABC":
        put(workspace, f"{name}_1h.csv", HEADER)
        with pytest.raises(DataInvalid):
            source.load(name, "1h")
    assert len(cache._kept) == 2


def test_a_timeframe_that_is_not_stored_is_aggregated_and_the_notes_say_so(
    workspace: Workspace,
) -> None:
    loaded = BarCatalog(workspace).load("AAPL", "1w")
    assert loaded.bars.timeframe == "1w"
    assert "Aggregated to 1w from 1d" in loaded.notes[-1]
    four_hours = BarCatalog(workspace).load("AAPL", "4h")
    assert "first bar of each day in the file's own offset" in four_hours.notes[-1]
    assert four_hours.bars.timestamp(0) == "2024-08-06T13:30:00Z"


def test_too_few_bars_for_one_wider_bar_is_said(workspace: Workspace) -> None:
    put(workspace, "X_1h.csv")
    with pytest.raises(NotEnoughData, match="do not fill one 4h bar"):
        BarCatalog(workspace).load("X", "4h")


def test_what_is_not_there_is_refused_with_what_is(workspace: Workspace) -> None:
    put(workspace, "EURUSD_1h.csv")
    sources = BarCatalog(workspace)
    with pytest.raises(DataNotFound) as caught:
        sources.load("APPL", "1h")
    assert "Did you mean 'AAPL'?" in caught.value.message
    assert "AAPL 1h, AAPL 1d, EURUSD 1h" in caught.value.hint
    assert caught.value.field == "symbol"
    with pytest.raises(DataNotFound) as caught:
        sources.load("AAPL", "5m")
    assert "There is AAPL 1h, AAPL 1d." in caught.value.hint
    assert caught.value.field == "timeframe"


def test_a_long_list_of_what_is_there_is_cut(workspace: Workspace) -> None:
    for number in range(40):
        put(workspace, f"S{number}_1h.csv")
    with pytest.raises(DataNotFound) as caught:
        BarCatalog(workspace).load("NOPE", "1h")
    assert "and 30 more" in caught.value.hint


@pytest.mark.parametrize("symbol", ["../x", "/a", "a\\b", "", "X" * 100, "A\0B", "\ufb01", None, 7])
def test_a_malformed_symbol_never_becomes_a_path(workspace: Workspace, symbol: object) -> None:
    with pytest.raises(InvalidName):
        BarCatalog(workspace).load(symbol, "1h")  # type: ignore[arg-type]


def test_an_unknown_timeframe_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidName):
        BarCatalog(workspace).load("AAPL", "2h")


def test_available_lists_sound_and_defective_series(workspace: Workspace) -> None:
    put(workspace, "MSFT_1h.csv", THREE_HOURS.replace("12,9", "8,9"))
    put(workspace, "MSFT_1d.csv")
    for ignored in ("notes.txt", "msft_1h.csv", "MSFT_2h.csv", "MSFT.csv", ".csv", "_1h.csv"):
        put(workspace, ignored)
    found = BarCatalog(workspace).available()
    assert [(one.symbol, one.timeframe) for one in found] == [
        ("AAPL", "1h"),
        ("AAPL", "1d"),
        ("MSFT", "1h"),
        ("MSFT", "1d"),
    ]
    sample, _, bad, good = found
    assert (sample.bars, sample.defects) == (3_478, None)
    assert (bad.bars, bad.first_bar, bad.last_bar) == (0, None, None)
    assert bad.defects is not None
    assert "MSFT_1h.csv has 3 bars with high below low" in bad.defects
    assert good.notes == ["The bars are usually 60 minutes apart, which is less than 1d."]


def test_an_absent_data_folder_is_an_empty_one(tmp_path: Path) -> None:
    found = BarCatalog(Workspace(tmp_path / "nothing")).available()
    assert {one.symbol for one in found} == {"AAPL"}


def test_of_two_files_of_one_series_the_csv_is_read_and_said(workspace: Workspace) -> None:
    put(workspace, "X_1h.csv")
    shutil.copy(HERE / "utc_column.parquet", workspace.data / "X_1h.parquet")
    loaded = BarCatalog(workspace).load("X", "1h")
    assert loaded.source == "workspace file X_1h.csv"
    assert loaded.notes == ["X_1h.parquet is not read: X_1h.csv comes first."]


def refused(workspace: Workspace, symbol: str = "X") -> KtrdrError:
    with pytest.raises(KtrdrError) as caught:
        BarCatalog(workspace).load(symbol, "1h")
    assert str(workspace.root) not in f"{caught.value.message}{caught.value.hint}"
    return caught.value


def test_a_link_that_leads_outside_tells_nothing_of_what_is_there(workspace: Workspace) -> None:
    outside = workspace.root / "data-evil"
    outside.mkdir()
    (outside / "x.csv").write_text(THREE_HOURS, encoding="utf-8")
    told = set()
    for target in (outside / "x.csv", Path("/dev/zero"), workspace.root / "missing"):
        link = workspace.data / "X_1h.csv"
        link.symlink_to(target)
        error = refused(workspace)
        assert isinstance(error, DataNotFound)
        assert "data-evil" not in error.hint
        told.add((error.message, error.hint))
        link.unlink()
    assert len(told) == 1


def test_a_link_inside_the_data_folder_is_followed(workspace: Workspace) -> None:
    put(workspace, "real.csv")
    (workspace.data / "X_1h.csv").symlink_to("real.csv")
    assert len(BarCatalog(workspace).load("X", "1h").bars) == 3


def test_a_link_to_itself_is_refused(workspace: Workspace) -> None:
    (workspace.data / "X_1h.csv").symlink_to("X_1h.csv")
    refused(workspace)


def test_a_pipe_is_refused_without_waiting(workspace: Workspace) -> None:
    os.mkfifo(workspace.data / "X_1h.csv")
    error = refused(workspace)
    assert isinstance(error, DataInvalid)
    assert "not a regular file" in error.message


def test_a_folder_in_place_of_a_file_is_refused(workspace: Workspace) -> None:
    (workspace.data / "X_1h.csv").mkdir()
    assert "not a regular file" in refused(workspace).message


def test_refusals_leave_no_file_open(workspace: Workspace) -> None:
    (workspace.data / "X_1h.csv").mkdir()
    put(workspace, "Y_1h.csv", HEADER)
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not list open files")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        refused(workspace)
        refused(workspace, "Y")
    assert len(list(descriptors.iterdir())) == before


def test_a_file_beyond_the_size_limit_is_not_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(workspace, "X_1h.csv")
    monkeypatch.setattr(limits, "MAX_DATA_FILE_BYTES", 100)
    assert isinstance(refused(workspace), LimitExceeded)


def test_both_ends_of_a_range_are_included(workspace: Workspace) -> None:
    put(workspace, "X_1h.csv")
    bars = BarCatalog(workspace).load("X", "1h").bars
    assert select_range(bars, None, None) == (0, 3, [])
    one = datetime(2024, 1, 1, 1, tzinfo=UTC)
    assert select_range(bars, one, one) == (1, 2, [])
    assert select_range(bars, one.replace(tzinfo=None), None) == (1, 3, [])
    assert select_range(bars, int(bars.time[1]), int(bars.time[2]) - 1) == (1, 2, [])


def test_a_range_beyond_the_stored_days_is_said(workspace: Workspace) -> None:
    put(workspace, "X_1h.csv")
    bars = BarCatalog(workspace).load("X", "1h").bars
    same_day = parse_timestamp("2024-01-01", "end_date", end_of_day=True)
    assert select_range(bars, None, same_day) == (0, 3, [])
    warnings = select_range(bars, datetime(2023, 1, 1, tzinfo=UTC), same_day + 1)[2]
    assert len(warnings) == 2
    assert all("from 2024-01-01T00:00:00Z to 2024-01-01T02:00:00Z" in text for text in warnings)


@pytest.mark.parametrize(("start", "end"), [("2025-01-01", None), (None, "2023-12-31")])
def test_a_range_without_bars_says_what_there_is(
    workspace: Workspace, start: str | None, end: str | None
) -> None:
    put(workspace, "X_1h.csv")
    bars = BarCatalog(workspace).load("X", "1h").bars
    first = None if start is None else parse_timestamp(start, "start_date", end_of_day=False)
    last = None if end is None else parse_timestamp(end, "end_date", end_of_day=True)
    with pytest.raises(NotEnoughData) as caught:
        select_range(bars, first, last)
    assert "from 2024-01-01T00:00:00Z" in caught.value.hint
    assert caught.value.field == ("start_date" if start else "end_date")


def test_a_range_that_ends_before_it_starts_is_refused(workspace: Workspace) -> None:
    bars = BarCatalog(workspace).load("AAPL", "1d").bars
    with pytest.raises(InvalidRequest, match="before it starts") as caught:
        select_range(bars, 2, 1)
    assert caught.value.field == "end_date"


SYMBOLS_AND_FILES = [
    ("BTC/USDT", "BTC%2FUSDT"),
    ("BTC/USDT:USDT", "BTC%2FUSDT%3AUSDT"),
    ("^GSPC", "^GSPC"),
    ("EURUSD=X", "EURUSD=X"),
    ("BRK.B", "BRK.B"),
]


@pytest.mark.parametrize(("symbol", "file"), SYMBOLS_AND_FILES)
def test_a_symbol_is_found_as_users_write_it(workspace: Workspace, symbol: str, file: str) -> None:
    put(workspace, f"{file}_1h.csv")
    catalog = BarCatalog(workspace)
    assert (symbol, "1h") in catalog.series()
    assert catalog.load(symbol.lower(), "1h").bars.symbol == symbol
    assert catalog.not_read(symbol) == []


@pytest.mark.parametrize(("symbol", "file"), SYMBOLS_AND_FILES)
def test_no_file_name_of_a_symbol_leads_elsewhere(symbol: str, file: str) -> None:
    assert paths.symbol_in_file_name(symbol) == file
    assert paths.symbol_of_file_name(file) == symbol
    assert not set(file) & set('/\\:*?"<>|')


@pytest.mark.parametrize("name", ["BTC%5FUSDT", "A%41", "%2FBTC", "BTC%2", "A_B"])
def test_no_other_encoding_is_a_symbol(name: str) -> None:
    with pytest.raises(InvalidName):
        paths.symbol_of_file_name(name)
