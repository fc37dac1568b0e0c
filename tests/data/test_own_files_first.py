"""The user's own bars come before the built-in ones, and none is passed over without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.files import WorkspaceFiles
from ktrdr_mcp.data.series import BarCache
from ktrdr_mcp.errors import DataInvalid, DataNotFound
from ktrdr_mcp.paths import TIMEFRAME_MINUTES, Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service import data

HEADER = "timestamp,open,high,low,close,volume\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "data").mkdir()
    return Workspace(tmp_path)


def put(workspace: Workspace, name: str, minutes: int = 60, bars: int = 3) -> Path:
    moments = np.datetime64("2024-01-01T00:00:00") + np.arange(bars) * 60 * minutes
    lines = [f"{timestamp},10,12,9,11,1\n" for timestamp in moments]
    path = workspace.data / name
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path


def test_one_file_gives_every_wider_timeframe_of_a_symbol_that_is_also_built_in(
    workspace: Workspace,
) -> None:
    put(workspace, "AAPL_5m.csv", minutes=5, bars=8 * 288)  # Monday to Monday
    sources = BarCatalog(workspace)
    for timeframe in ("5m", "15m", "30m", "1h", "4h", "1d", "1w"):
        loaded = sources.load("AAPL", timeframe)
        assert loaded.source == "workspace file AAPL_5m.csv"
        whole = 7 * 1_440 if timeframe == "1w" else 8 * 1_440
        assert len(loaded.bars) == whole // TIMEFRAME_MINUTES[timeframe]
    assert [(one.symbol, one.timeframe) for one in sources.available()] == [("AAPL", "5m")]


@pytest.mark.parametrize("names", [[], ["AAPL_1d.csv"], ["AAPL_1h.csv"], ["AAPL_30m.csv"]])
def test_what_is_listed_is_what_is_loaded(workspace: Workspace, names: list[str]) -> None:
    for name in names:
        put(workspace, name, minutes=30, bars=96)
    sources = BarCatalog(workspace)
    for one in sources.available():
        loaded = sources.load(one.symbol, one.timeframe)
        assert (loaded.source, len(loaded.bars)) == (one.source, one.bars)
        assert not any("Aggregated" in note for note in loaded.notes)


def test_defective_bars_of_the_user_are_not_replaced_by_built_in_ones(
    workspace: Workspace,
) -> None:
    path = put(workspace, "AAPL_5m.csv", minutes=5)
    path.write_text(path.read_text("utf-8").replace("12,9", "8,9"), encoding="utf-8")
    with pytest.raises(DataInvalid, match="AAPL_5m"):
        BarCatalog(workspace).load("AAPL", "1h")


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("msft_1h.csv", "MSFT_1h.csv"),
        ("MSFT_1H.csv", "MSFT_1h.csv"),
        ("MSFT_1h.CSV", "MSFT_1h.csv"),
        ("Msft_1H.Parquet", "MSFT_1h.parquet"),
    ],
)
def test_a_file_in_the_wrong_case_is_named_with_its_right_name(
    workspace: Workspace, name: str, right: str
) -> None:
    put(workspace, name)
    with pytest.raises(DataNotFound) as caught:
        BarCatalog(workspace).load("MSFT", "1h")
    assert f"'{name}', which is not read" in caught.value.hint
    assert f"Rename it to {right}." in caught.value.hint
    assert "Or put" not in caught.value.hint


def test_the_built_in_bars_are_never_taken_for_a_misnamed_file_without_a_word(
    workspace: Workspace,
) -> None:
    put(workspace, "aapl_1h.csv")
    sources = BarCatalog(workspace)
    for timeframe in ("1h", "4h"):
        loaded = sources.load("AAPL", timeframe)
        assert loaded.source == "built-in sample"
        assert "'aapl_1h.csv', which is not read" in loaded.notes[-1]


def test_a_misnamed_file_that_could_not_serve_is_not_spoken_of(workspace: Workspace) -> None:
    put(workspace, "aapl_1w.csv")
    put(workspace, "msft_1h.csv")
    notes = BarCatalog(workspace).load("AAPL", "1d").notes
    assert not any("not read" in note for note in notes)


def test_a_link_that_leads_outside_is_named_and_a_copy_asked_for(workspace: Workspace) -> None:
    outside = put(workspace, "real.csv").rename(workspace.root / "real.csv")
    (workspace.data / "MSFT_1h.csv").symlink_to(outside)
    with pytest.raises(DataNotFound) as caught:
        BarCatalog(workspace).load("MSFT", "1h")
    assert "'MSFT_1h.csv', which is not read: it is a link that leads to" in caught.value.hint
    assert "Put a copy of the file there" in caught.value.hint


def test_nobody_is_told_to_rename_a_file_over_another(workspace: Workspace) -> None:
    put(workspace, "MSFT_1h.csv")
    if put(workspace, "msft_1h.csv").samefile(workspace.data / "MSFT_1h.csv"):
        pytest.skip("this file system does not tell upper from lower case")
    [note] = BarCatalog(workspace).load("MSFT", "1h").notes
    assert "MSFT_1h.csv is there too" in note
    assert "Rename" not in note


def test_names_that_are_no_series_in_any_case_are_left_alone(workspace: Workspace) -> None:
    for name in ("notes.txt", "_1h.csv", ".MSFT_1h.csv", "MSFT_1h.csv.bak", "README.csv", "a.png"):
        put(workspace, name)
    source = WorkspaceFiles(workspace, BarCache())
    assert source.series() == set()
    assert source.not_read() == []


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe", "right"),
    [
        ("AAG_1h.csv.gz", "AAG", "1h", "AAG_1h.csv"),
        ("BTC_60m.csv", "BTC", "1h", "BTC_1h.csv"),
        ("BTC-240min.csv", "BTC", "4h", "BTC_4h.csv"),
        ("ETH.csv", "ETH", None, "ETH_TIMEFRAME.csv"),
        ("SOL_1h (1).csv", "SOL", "1h", "SOL_1h.csv"),
        ("XRP-1h.csv", "XRP", "1h", "XRP_1h.csv"),
        ("EURUSD_M15.csv", "EURUSD", "15m", "EURUSD_15m.csv"),
        ("EURUSD_H4.parquet", "EURUSD", "4h", "EURUSD_4h.parquet"),
        ("ibm_daily.txt", "IBM", "1d", "--symbol IBM --timeframe 1d"),
        ("BRK-B-1wk.csv", "BRK-B", "1w", "BRK-B_1w.csv"),
        ("SPY_1d.feather", "SPY", "1d", "data/SPY_1d.feather"),
        ("SPY 1day.zip", "SPY", "1d", "--symbol SPY --timeframe 1d"),
        ("MSFT_2h.csv", "MSFT", None, "MSFT_TIMEFRAME.csv"),
        ("MSFT_1M.csv", "MSFT", None, "MSFT_TIMEFRAME.csv"),  # months, not minutes
    ],
)
def test_a_file_named_in_another_tools_way_is_named_with_its_right_name(
    workspace: Workspace, name: str, symbol: str, timeframe: str | None, right: str
) -> None:
    put(workspace, name)
    (found,) = BarCatalog(workspace).not_read()
    assert (found.name, found.symbol, found.timeframe) == (name, symbol, timeframe)
    assert right in found.remedy
    with pytest.raises(DataNotFound) as caught:
        BarCatalog(workspace).load(symbol, timeframe or "1h")
    assert f"'{name}', which is not read" in caught.value.hint


def days_and_hours(workspace: Workspace, days: int, hours: int) -> list[str]:
    """The notes on daily bars beside hourly ones, both from the same first day on."""
    workspace.data.mkdir(parents=True, exist_ok=True)
    for name, count, frequency in (("X_1d", days, "D"), ("X_1h", hours, "h")):
        index = pd.date_range("2023-01-01", periods=count, freq=frequency)
        prices = np.linspace(100, 110, count).round(3)
        frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), prices), index=index)
        frame.assign(volume=1).to_csv(workspace.data / f"{name}.csv", index_label="time")
    return BarCatalog(workspace).load("X", "1d").notes


def test_a_small_file_that_hides_more_bars_of_a_finer_one_says_so(workspace: Workspace) -> None:
    (note,) = days_and_hours(workspace, days=30, hours=24 * 200)
    assert "X_1h.csv would give 200 1d bars" in note
    assert "X_1d.csv, which comes first, has 30" in note


def test_a_file_that_hides_nothing_says_nothing(workspace: Workspace) -> None:
    assert days_and_hours(workspace, days=200, hours=24 * 200) == []
    assert days_and_hours(workspace, days=200, hours=24 * 30) == []


def test_the_list_of_series_names_the_first_files_that_are_not_read(workspace: Workspace) -> None:
    for name in ("a_1h.csv", "b_1h.csv", "c_1h.csv", "d_1h.csv"):
        put(workspace, name)
    sources = BarCatalog(workspace)
    told = data.data_summary(sources, parse(requests.SummarizeData, {})).not_read
    assert all(f"'{name}_1h.csv'" in sentence for name, sentence in zip("abc", told, strict=False))
    assert told[3] == "1 more of data/ not read; ktrdr-mcp doctor names them all."
    [of_d] = data.data_summary(sources, parse(requests.SummarizeData, {"symbol": "d"})).not_read
    assert "Rename it to D_1h.csv." in of_d


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("$SPX_1d.csv", "SPX_1d.csv"),
        ("BTC_USDT_1h.parquet", "BTC-USDT_1h.parquet"),
        ("eur usd_1w.csv", "EUR-USD_1w.csv"),
        ("BRK+B_1d.csv", "BRK-B_1d.csv"),
        ("%5EGSPC_1d.csv", "to ^GSPC_1d.csv"),
        ("BTC%2FUS+DT_1h.csv", "to BTC%2FUS-DT_1h.csv"),
    ],
)
def test_a_file_of_what_is_no_symbol_is_named_with_the_reason(
    workspace: Workspace, name: str, right: str
) -> None:
    workspace.data.mkdir(parents=True, exist_ok=True)
    (workspace.data / name).write_text("x")
    (found,) = BarCatalog(workspace).not_read()
    assert name.rpartition("_")[0] in found.why
    assert right in found.remedy
