"""Files of other tools: recognised, read whole, and stored as the same bars."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.imports.read import Wanted, import_files
from ktrdr_mcp.data.stored import read_bars
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import Conflict, DataInvalid, InvalidRequest, KtrdrError
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service.importing import import_bars
from tests.support.dialects import CASES, DAILY, HOURLY, Bar, Case, lines, ohlcv, utc


def iso(bar: Bar) -> str:
    return bar.time.strftime("%Y-%m-%dT%H:%M:%SZ")


def understood(case: Case, folder: Path, output: Path | None = None) -> dict[str, Any]:
    path = folder / case.file
    path.write_bytes(case.content)
    said = {name.removesuffix("_said"): value for name, value in case.said.items()}
    (one,) = import_files([(path, case.file)], Wanted(**said), output)
    return one


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_recognised_and_read_whole(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    one = understood(case, tmp_path, tmp_path)
    assert (one["dialect"], one["symbol"]) == (case.dialect, case.symbol)
    assert one["bars"] == len(case.bars)
    assert (one["first_bar"], one["last_bar"]) == (iso(case.bars[0]), iso(case.bars[-1]))
    assert len(one["left_out"]) == case.left_out
    with (tmp_path / "0/bars.parquet").open("rb") as file:
        table = read_bars(file, "0.parquet")
    assert [format_timestamp(time) for time in table.time] == [iso(bar) for bar in case.bars]
    for column in ("open", "high", "low", "close", "volume"):
        wanted = [getattr(bar, column) for bar in case.bars]
        assert table.columns[column].tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def written(folder: Path, text: str | bytes, name: str = "ACME_1h.csv") -> tuple[Path, str]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path, name


def rows(*bars: Bar) -> str:
    return lines(bars, lambda b: (utc(b, "%Y-%m-%d %H:%M:%S"), *ohlcv(b)))


HEADER = "timestamp,open,high,low,close,volume\n"


def refusal(folder: Path, text: str | bytes, **said: str) -> KtrdrError:
    with pytest.raises(KtrdrError) as caught:
        import_files([written(folder, text)], Wanted(**said), None)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (HEADER + rows(*HOURLY[:3]) + "yesterday,1,1,1,1,1\n" + rows(*HOURLY[3:6]), "line 5"),
        (HEADER + rows(*HOURLY[:3]) + "2024-01-02 17:30:00,1,x,1,1,1\n", "line 5"),
        (HEADER + rows(*HOURLY[:3]) + "2024-01-02 17:30:00,9,8,10,9,1\n", "line 5"),
        (HEADER + rows(*HOURLY[:3]) + "2024-01-02 16:30:00,1,1,1,1,1\n", "duplicate"),
        (HEADER + rows(*HOURLY[:3]) + "2024-01-02 17:30:00,1,1,1,1,1,7,7\n", "split"),
        ("these are no bars\n", "these are no bars"),
        ("", "empty"),
        (HEADER, "no bars"),
        (b"\x1f\x8b\x08\x00broken", "unpacked"),
        (b"PK\x03\x04broken", "zip"),
        (b"PAR1broken", "Parquet"),
        (b"ARROW1broken", "Feather"),
        ("{}", "JSON"),
        ("[[1, 2], [3]]", ""),
        ('{"a": {"b": {"c": {"d": {"e": 1}}}}}', "JSON"),
    ],
)
def test_what_is_no_bars_or_contradicts_itself_is_refused_with_its_place(
    text: str | bytes, where: str, tmp_path: Path
) -> None:
    error = refusal(tmp_path, text)
    assert error.http_status == 422
    assert where in error.message


def test_brokers_time_is_asked_for_with_the_usual_guesses(tmp_path: Path) -> None:
    case = CASES["MetaTrader 5"]
    error = refusal(tmp_path, case.content, symbol="EURUSD")
    assert (error.field, error.code) == ("timezone", "data_invalid")
    assert "NY+7" in error.hint


def test_a_zone_whose_clocks_never_show_a_time_is_refused(tmp_path: Path) -> None:
    # On 2024-03-10 clocks in New York went from 02:00 to 03:00.
    text = HEADER + "2024-03-10 01:30:00,1,1,1,1,1\n2024-03-10 02:30:00,1,1,1,1,1\n"
    assert refusal(tmp_path, text, timezone="America/New_York").field == "timezone"


def test_the_hour_that_comes_twice_is_kept_twice(tmp_path: Path) -> None:
    hours = ["00:30", "01:30", "01:30", "02:30"]
    text = HEADER + "".join(f"2024-11-03 {one}:00,1,1,1,1,{n}\n" for n, one in enumerate(hours))
    (one,) = import_files([written(tmp_path, text)], Wanted(timezone="America/New_York"), None)
    assert (one["bars"], one["first_bar"]) == (4, "2024-11-03T04:30:00Z")
    assert one["last_bar"] == "2024-11-03T07:30:00Z"


def test_an_unknown_zone_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, HEADER + rows(*HOURLY), timezone="Moon/Sea").field == "timezone"


def test_one_symbol_of_several_must_be_chosen(tmp_path: Path) -> None:
    case = CASES["Alpaca"]
    both = case.content + case.content.split(b"\n", 1)[1].replace(b"ACME", b"OTHER")
    error = refusal(tmp_path, both)
    assert "ACME, OTHER" in error.message
    (one,) = import_files([written(tmp_path, both)], Wanted(symbol="OTHER"), None)
    assert (one["symbol"], one["bars"]) == ("OTHER", 60)


def test_files_of_one_series_become_one_and_overlaps_are_dropped(tmp_path: Path) -> None:
    parts = [HOURLY[40:], HOURLY[:30], HOURLY[20:40]]
    files = [
        written(tmp_path, HEADER + rows(*part), f"ACME_1h_{n}.csv") for n, part in enumerate(parts)
    ]
    (one,) = import_files(files, Wanted(symbol="ACME"), None)
    assert (one["bars"], one["last_bar"]) == (60, iso(HOURLY[-1]))
    assert one["left_out"] == ["10 repeated bars"]


def test_the_distance_of_bars_tells_their_timeframe(tmp_path: Path) -> None:
    (one,) = import_files([written(tmp_path, HEADER + rows(*DAILY), "ACME_5m.csv")], Wanted(), None)
    assert one["timeframe"] == "1d"
    odd = [HOURLY[0].time + timedelta(minutes=7 * n) for n in range(30)]
    seven = HEADER + "".join(f"{time:%Y-%m-%d %H:%M:%S},1,1,1,1,1\n" for time in odd)
    assert refusal(tmp_path, seven).field == "timeframe"
    assert refusal(tmp_path, seven, timeframe="1h").field == "timeframe"


def test_a_bar_under_way_is_left_out(tmp_path: Path) -> None:
    path, name = written(tmp_path, HEADER + rows(*HOURLY))
    during = (HOURLY[-1].time + timedelta(minutes=10)).timestamp()
    os.utime(path, (during, during))
    (one,) = import_files([(path, name)], Wanted(), None)
    assert (one["bars"], one["left_out"]) == (59, ["1 unfinished last bar"])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "data").mkdir()
    return Workspace(tmp_path)


def imported(workspace: Workspace, *files: Path, **raw: Any) -> Any:
    request = parse(requests.ImportBars, {"files": [str(file) for file in files], **raw})
    return import_bars(workspace, request)


def test_imported_bars_are_found_with_the_days_of_their_clock(
    workspace: Workspace, tmp_path: Path
) -> None:
    case = CASES["yfinance history"]
    path, _ = written(tmp_path, case.content, case.file)
    reply = imported(workspace, path, symbol="BTC/USDT")
    assert reply.series[0].stored == "data/BTC%2FUSDT_1h.parquet"
    loaded = BarCatalog(workspace).load("btc/usdt", "1h")
    assert loaded.bars.timestamp(0) == iso(case.bars[0])
    # Noon in UTC is the morning of the same day in New York, midnight still the day before.
    midnight = next(n for n, bar in enumerate(case.bars) if bar.time.hour == 0)
    assert loaded.bars.day(midnight) == "2024-03-08"
    assert BarCatalog(workspace).not_read() == []


def test_a_dry_run_stores_nothing(workspace: Workspace, tmp_path: Path) -> None:
    path, _ = written(tmp_path, HEADER + rows(*HOURLY))
    reply = imported(workspace, path, dry_run=True)
    assert (reply.series[0].bars, reply.series[0].stored) == (60, None)
    assert list(workspace.data.iterdir()) == []


def test_a_known_dialect_in_the_data_folder_is_named_with_the_command_that_imports_it(
    workspace: Workspace,
) -> None:
    case = CASES["MetaTrader 5"]
    path, _ = written(workspace.data, case.content, "EURUSD_1h.csv")
    with pytest.raises(DataInvalid) as caught:
        BarCatalog(workspace).load("EURUSD", "1h")
    assert "MetaTrader 5" in caught.value.message
    command = "ktrdr-mcp data import data/EURUSD_1h.csv --symbol EURUSD --timeframe 1h"
    assert command in caught.value.hint
    said = command.split()
    reply = imported(workspace, Path(said[3]), symbol=said[5], timeframe=said[7], timezone="NY+7")
    assert reply.series[0].bars == len(case.bars)
    assert not path.exists()
    assert path.with_name("EURUSD_1h.csv.imported").read_bytes() == case.content
    assert len(BarCatalog(workspace).load("EURUSD", "1h").bars) == len(case.bars)


def test_packed_files_of_the_data_folder_are_named_with_the_same_command(
    workspace: Workspace,
) -> None:
    written(workspace.data, CASES["gz"].content, "ACME_1h.csv.gz")
    (one,) = BarCatalog(workspace).not_read()
    assert "ktrdr-mcp data import data/ACME_1h.csv.gz --symbol ACME" in one.remedy


def test_bars_that_are_there_are_not_overwritten(workspace: Workspace, tmp_path: Path) -> None:
    written(workspace.data, HEADER + rows(*HOURLY[:5]), "ACME_1h.csv")
    path, _ = written(tmp_path, HEADER + rows(*HOURLY))
    with pytest.raises(Conflict):
        imported(workspace, path)
    assert len(BarCatalog(workspace).load("ACME", "1h").bars) == 5
    assert sorted(one.name for one in workspace.data.iterdir()) == ["ACME_1h.csv"]


@pytest.mark.parametrize("file", ["nothing.csv", "data", "a\0b"])
def test_a_file_that_is_none_is_refused(workspace: Workspace, file: str) -> None:
    with pytest.raises(KtrdrError) as caught:
        imported(workspace, Path(file))
    assert caught.value.field == "files"


def test_an_unknown_dialect_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="metatrader4"):
        import_files(
            [written(tmp_path, HEADER + rows(*HOURLY))], Wanted(dialect="metatrader"), None
        )


def test_importing_the_same_again_makes_no_version_and_more_bars_make_one(
    workspace: Workspace, tmp_path: Path
) -> None:
    path, _ = written(tmp_path, HEADER + rows(*HOURLY[:40]))
    assert imported(workspace, path).series[0].dataset == "v1"
    again = imported(workspace, path).series[0]
    assert (again.dataset, again.is_new) == ("v1", False)
    written(tmp_path, HEADER + rows(*HOURLY))
    more = imported(workspace, path).series[0]
    assert (more.dataset, more.is_new) == ("v2", True)
    loaded = BarCatalog(workspace).load("ACME", "1h")
    assert (len(loaded.bars), loaded.dataset) == (60, "1h v2")
    first = BarCatalog(workspace).load("ACME", "1h", dataset="1h v1")
    assert len(first.bars) == 40
    assert first.bars.close.tolist() == [bar.close for bar in HOURLY[:40]]
