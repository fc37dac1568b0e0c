"""Days and weeks are those of the file's own offset, checked against pandas' own calendar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.data.bars import Bars, aggregate
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.timestamps import DAY_NS
from ktrdr_mcp.paths import Workspace

ZONES = ["Europe/Berlin", "Asia/Tokyo", "America/New_York", "Asia/Kolkata", "America/Havana"]


def write(workspace: Workspace, name: str, index: pd.DatetimeIndex) -> pd.DataFrame:
    """Bars that walk at random, in a file whose times carry the index's offset."""
    random = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, len(index))))
    opened = np.r_[100, close[:-1]]
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    columns = {"open": opened, "high": high, "low": low, "close": close, "volume": 1000.0}
    frame = pd.DataFrame(columns, index=index)
    workspace.data.mkdir(exist_ok=True)
    frame.to_csv(workspace.data / f"{name}.csv", index_label="Date")
    return frame


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def stored(workspace: Workspace, zone: str) -> tuple[Bars, pd.DataFrame]:
    """A daily series whose bars are stamped at local midnight, over two changes of clocks."""
    index = pd.bdate_range("2023-01-02", periods=600, tz=zone)
    frame = write(workspace, "LOCAL_1d", index)
    return BarCatalog(workspace).load("LOCAL", "1d").bars, frame


@pytest.mark.parametrize("zone", ZONES)
def test_a_date_means_the_session_of_the_line_that_begins_with_it(
    workspace: Workspace, zone: str
) -> None:
    bars, frame = stored(workspace, zone)
    for place, timestamp in enumerate(frame.index):
        day = timestamp.strftime("%Y-%m-%d")
        assert bars.day(place) == day
        start = bars.bound(day, "start_date", end_of_day=False)
        end = bars.bound(day, "end_date", end_of_day=True)
        assert np.flatnonzero((bars.time >= start) & (bars.time <= end)).tolist() == [place]


@pytest.mark.parametrize("zone", ZONES)
def test_a_week_begins_with_mondays_session(workspace: Workspace, zone: str) -> None:
    bars, frame = stored(workspace, zone)
    weeks = frame.assign(week=frame.index.tz_localize(None).to_period("W-SUN")).groupby("week")
    expected = weeks.agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    wide = aggregate(bars, "1w")
    assert wide.open.tolist() == expected["open"].tolist()[: len(wide)]
    assert wide.high.tolist() == expected["high"].tolist()[: len(wide)]
    assert wide.close.tolist() == expected["close"].tolist()[: len(wide)]
    assert len(expected) - len(wide) <= 1
    mondays = {pd.Timestamp(wide.day(place)).weekday() for place in range(len(wide))}
    assert mondays == {0}


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_of_hours_is_the_files_own_day(workspace: Workspace, zone: str) -> None:
    index = pd.date_range("2023-01-02", periods=24 * 400, freq="1h", tz=zone)
    frame = write(workspace, "HOURS_1h", index)
    bars = BarCatalog(workspace).load("HOURS", "1d").bars
    expected = frame.groupby(frame.index.tz_localize(None).date).agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    )
    whole = expected.iloc[: len(bars)]
    assert len(expected) - len(bars) <= 1
    assert bars.close.tolist() == whole["close"].tolist()
    assert bars.volume.tolist() == whole["volume"].tolist()
    assert [bars.day(place) for place in range(len(bars))] == [str(day) for day in whole.index]


def test_a_task_of_before_keeps_its_days_in_utc(workspace: Workspace) -> None:
    bars, _ = stored(workspace, "Europe/Berlin")
    day = bars.day(100)
    start = bars.bound(day, "start_date", end_of_day=False, rule="utc")
    assert start % DAY_NS == 0
    assert int(np.searchsorted(bars.time, start)) == 101  # midnight there is the day before here
    sundays = aggregate(bars, "1w", "utc")
    assert set(sundays.time // DAY_NS % 7) == {4}  # Mondays, UTC
    assert sundays.close.tolist() != aggregate(bars, "1w").close.tolist()[: len(sundays)]


def test_times_that_name_utc_have_no_offset(workspace: Workspace) -> None:
    write(workspace, "UTC_1d", pd.date_range("2024-01-01", periods=10, tz="UTC"))
    assert BarCatalog(workspace).load("UTC", "1d").bars.offset is None
