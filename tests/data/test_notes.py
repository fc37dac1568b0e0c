"""Bars that are wrong without contradicting themselves: what is put in is what is noted."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.data import notes
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.errors import DataInvalid

US_HOLIDAYS = ["2023-01-16", "2023-02-20", "2023-04-07", "2023-05-29", "2023-06-19", "2023-07-04"]


def series(
    index: pd.DatetimeIndex, timeframe: str, seed: int = 1, volatility: float = 0.01
) -> Bars:
    """A walk at random over some openings."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, volatility, len(index))))
    opened = np.r_[100, close[:-1]]
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    time = index.tz_convert("UTC").tz_localize(None).as_unit("ns").to_numpy().view(np.int64)
    local = index.tz_localize(None).as_unit("ns").to_numpy().view(np.int64)
    offset = (local - time).copy() if (local != time).any() else None
    volume = np.ones(len(index))
    return Bars("X", timeframe, time.copy(), opened, high, low, close, volume, offset=offset)


def changed(bars: Bars, change: Callable[[dict[str, np.ndarray]], None]) -> Bars:
    """The same bars with other prices."""
    names = ("open", "high", "low", "close", "volume")
    columns = {name: getattr(bars, name).copy() for name in names}
    change(columns)
    return Bars(bars.symbol, bars.timeframe, bars.time, **columns, offset=bars.offset)


def chosen(bars: Bars, keep: np.ndarray) -> Bars:
    """Some of the bars."""
    columns = (column[keep] for column in bars.columns())
    offset = None if bars.offset is None else bars.offset[keep]
    return Bars(bars.symbol, bars.timeframe, bars.time[keep], *columns, offset=offset)


def days(count: int = 2_000) -> Bars:
    return series(pd.bdate_range("2014-01-01", periods=count, tz="UTC"), "1d")


def sessions(zone: str = "America/New_York") -> pd.DatetimeIndex:
    """The hours of an exchange over a year and a half, without its holidays."""
    dates = pd.bdate_range("2022-06-01", "2023-12-29").difference(pd.DatetimeIndex(US_HOLIDAYS))
    hours = [day + pd.Timedelta(minutes=570 + 60 * hour) for day in dates for hour in range(7)]
    return pd.DatetimeIndex(hours).tz_localize(zone)


SOUND = {
    "days of an exchange": (pd.bdate_range("2014-01-01", periods=2_000, tz="UTC"), "1d"),
    "days round the week": (pd.date_range("2014-01-01", periods=2_000, tz="UTC"), "1d"),
    "days in an offset": (pd.bdate_range("2014-01-01", periods=900, tz="Europe/Berlin"), "1d"),
    "hours round the clock": (pd.date_range("2023-01-01", periods=5_000, freq="h", tz="UTC"), "1h"),
    "hours of a session": (sessions(), "1h"),
    "hours of a session, in UTC": (sessions().tz_convert("UTC"), "1h"),
    "weeks": (pd.date_range("2014-01-06", periods=300, freq="W-MON", tz="UTC"), "1w"),
    "four hours": (pd.date_range("2023-01-01", periods=900, freq="4h", tz="Asia/Tokyo"), "4h"),
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sound_series_have_no_notes(name: str, seed: int) -> None:
    index, timeframe = SOUND[name]
    bars = series(index, timeframe, seed)
    assert notes.series_notes(bars) == []
    assert notes.find_unfinished(bars) == ""


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.25, 1 / 3, 0.5, 2 / 3, 1.5, 2, 4, 10])
@pytest.mark.parametrize("row", [60, 1_000, 1_990])
def test_a_split_is_named_with_its_day_and_size(ratio: float, row: int) -> None:
    def split(columns: dict[str, np.ndarray]) -> None:
        for name in ("open", "high", "low", "close"):
            columns[name][row:] *= ratio

    bars = changed(days(), split)
    (note,) = notes.series_notes(bars)
    assert bars.day(row) in note
    said = float(re.search(r"(?:falls|rises) to ([\d.]+)", note)[1])  # type: ignore[index]
    assert said == pytest.approx(bars.open[row] / bars.close[row - 1], rel=0.01)


@pytest.mark.parametrize("factor", [10, 0.1, 100])
def test_a_wrong_price_that_lasts_for_a_bar_is_named_once(factor: float) -> None:
    def spike(columns: dict[str, np.ndarray]) -> None:
        for name in ("open", "high", "low", "close"):
            columns[name][700] *= factor

    bars = changed(days(), spike)
    (note,) = notes.series_notes(bars)
    assert note.count("wrong price") == 1
    assert bars.day(700) in note


def test_a_high_far_from_open_and_close_is_named() -> None:
    bars = changed(days(), lambda columns: columns["high"].__setitem__(500, 1_000.0))
    (note,) = notes.series_notes(bars)
    assert f"on {bars.day(500)} the high" in note


def test_an_ordinary_crash_of_a_volatile_series_is_no_split() -> None:
    index = pd.date_range("2014-01-01", periods=1_000, tz="UTC")
    bars = series(index, "1d", volatility=0.05)
    assert notes.jump_notes(bars) == []


@pytest.mark.parametrize("name", [name for name in SOUND if name != "weeks"])
def test_a_missing_stretch_is_named_with_its_ends_and_size(name: str) -> None:
    index, timeframe = SOUND[name]
    bars = series(index, timeframe)
    first, stop = len(bars) // 2, len(bars) // 2 + len(bars) // 8
    holed = chosen(bars, np.r_[0:first, stop : len(bars)])
    (note,) = notes.missing_notes(holed)
    assert f"between {bars.timestamp(first - 1)} and {bars.timestamp(stop)}" in note
    count = int(re.search(r"^([\d,]+) bars", note)[1].replace(",", ""))  # type: ignore[index]
    # A holiday inside the stretch is missing from the rhythm too.
    assert count == pytest.approx(stop - first, rel=0.08)


def test_missing_bars_round_the_clock_are_counted_exactly() -> None:
    bars = series(pd.date_range("2023-01-02", periods=2_500, freq="h", tz="UTC"), "1h")
    (note,) = notes.missing_notes(chosen(bars, np.r_[0:1200, 1900:2500]))
    assert note.startswith("700 bars are missing between")


def test_weeks_that_are_missing_are_counted() -> None:
    index, timeframe = SOUND["weeks"]
    bars = series(index, timeframe)
    (note,) = notes.missing_notes(chosen(bars, np.r_[0:100, 103:300]))
    assert note.startswith("3 bars are missing")


def test_a_hole_inside_a_session_is_no_holiday() -> None:
    bars = series(sessions(), "1h")
    keep = np.ones(len(bars), dtype=np.bool_)
    keep[7 * 60 + 1 : 7 * 60 + 5] = False
    (note,) = notes.missing_notes(chosen(bars, keep))
    assert note.startswith("4 bars are missing")


def test_holidays_that_come_each_year_are_none_that_are_missing() -> None:
    index = pd.bdate_range("2014-01-01", "2021-12-31", tz="UTC")
    golden = [(month, day) for month, day in zip([10] * 8, range(1, 9), strict=True)]
    keep = np.array([(day.month, day.day) not in golden for day in index])
    assert notes.missing_notes(chosen(series(index, "1d"), keep)) == []


def test_bars_off_the_grid_are_counted_and_named() -> None:
    index = pd.date_range("2023-01-01", periods=900, freq="h", tz="UTC")
    moved = index.to_series().reset_index(drop=True)
    moved[[100, 200]] += pd.Timedelta(minutes=7)
    bars = series(pd.DatetimeIndex(moved), "1h")
    (note,) = notes.grid_notes(bars)
    assert note.startswith("2 bars do not open")
    assert bars.timestamp(100) in note
    assert bars.timestamp(200) in note


@pytest.mark.parametrize(
    ("name", "later"),
    [
        ("hours round the clock", "17min12s"),
        ("hours of a session", "11min"),
        ("days of an exchange", "16h"),
        ("days in an offset", "40h30min1s"),
        ("weeks", "3D"),
        ("four hours", "2h5min"),
    ],
)
def test_a_last_bar_that_opens_too_early_is_unfinished(name: str, later: str) -> None:
    index, timeframe = SOUND[name]
    live = index.append(pd.DatetimeIndex([index[-1] + pd.Timedelta(later)]))
    assert "unfinished" in notes.find_unfinished(series(live, timeframe))


@pytest.mark.parametrize(
    ("frequency", "timeframe", "offset", "until"),
    [
        ("h", "1h", "UTC", "1h"),
        ("D", "1d", "UTC", "24h"),  # round the clock
        ("B", "1d", "UTC", "21h"),  # the last exchange of the world has closed
        ("B", "1d", "Asia/Tokyo", "18h"),
        ("W-MON", "1w", "UTC", "7D"),
    ],
)
def test_a_last_bar_is_unfinished_until_its_period_is_over(
    frequency: str, timeframe: str, offset: str, until: str
) -> None:
    index = pd.date_range("2024-01-01", periods=60, freq=frequency, tz=offset)
    bars = series(index, timeframe)
    end = index[-1] + pd.Timedelta(until)
    assert notes.find_unfinished(bars, [end.value]) == ""
    assert notes.find_unfinished(bars, [index[-1].value - 1]) == ""  # a clock that stands wrong
    for timestamp in (index[-1].value, end.value - 1):
        assert bars.timestamp(59) in notes.find_unfinished(bars, [timestamp])


@pytest.mark.parametrize("length", [32, 33, 200])
@pytest.mark.parametrize("factor", [1.0, 0.37])
def test_repeated_history_is_found_whatever_its_scale(length: int, factor: float) -> None:
    bars = days()

    def repeat(columns: dict[str, np.ndarray]) -> None:
        moves = columns["close"][101 : 101 + length] / columns["close"][100]
        columns["close"][1200] *= factor
        columns["close"][1201 : 1201 + length] = columns["close"][1200] * moves

    rows, origin = notes.repeats(changed(bars, repeat))
    assert rows.tolist() == list(range(1201, 1201 + length))
    assert origin.tolist() == list(range(101, 101 + length))


@pytest.mark.parametrize("seed", range(3))
def test_flat_and_tick_rounded_stretches_are_no_repeated_history(seed: int) -> None:
    random = np.random.default_rng(seed)
    bars = days(20_000)

    def rounded(columns: dict[str, np.ndarray]) -> None:
        columns["close"][:] = 1 + 0.01 * (random.integers(0, 2, 20_000).cumsum() % 3)
        columns["close"][5_000:6_000] = 1.0

    assert notes.repeats(changed(bars, rounded))[0].tolist() == []


def test_shorter_repeats_are_chance() -> None:
    def repeat(columns: dict[str, np.ndarray]) -> None:
        moves = columns["close"][101:132] / columns["close"][100]
        columns["close"][1201:1232] = columns["close"][1200] * moves

    assert notes.repeats(changed(days(), repeat))[0].tolist() == []


@pytest.mark.parametrize(("length", "refused"), [(40, True), (33, False)])
def test_test_rows_of_which_more_than_one_percent_are_repeated_are_refused(
    length: int, refused: bool
) -> None:
    bars = days(4_500)

    def repeat(columns: dict[str, np.ndarray]) -> None:
        moves = columns["close"][101 : 101 + length] / columns["close"][100]
        columns["close"][3_000 + 1 : 3_001 + length] = columns["close"][3_000] * moves

    repeated, rows = changed(bars, repeat), np.arange(1_000, 4_500)
    notes.require_fresh(repeated, np.arange(1_000, 3_000))
    if not refused:
        notes.require_fresh(repeated, rows)
        return
    with pytest.raises(DataInvalid, match="40 of the 3,500 test rows"):
        notes.require_fresh(repeated, rows)


def test_times_just_before_the_full_minute_are_taken_for_ends() -> None:
    index = pd.date_range("2024-01-01", periods=60, freq="h", tz="UTC")
    assert notes.stamp_notes(series(index, "1h")) == []
    (note,) = notes.stamp_notes(series(index + pd.Timedelta("59min59.999s"), "1h"))
    assert "2024-01-03T11:59:59.999Z" in note
