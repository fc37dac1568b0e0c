"""What is counted from bars, and how wider bars are made."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars, aggregate, bars_per_year, fingerprint
from ktrdr_mcp.data.timestamps import parse_timestamp
from ktrdr_mcp.errors import InvalidRequest, NotEnoughData
from tests.support.source_checks import check_bars

HOUR_NS = 3_600 * 10**9


def bars_at(time: NDArray[np.int64], timeframe: str = "1h", seed: int = 0) -> Bars:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, len(time))))
    opened = np.r_[100.0, close[:-1]][: len(time)]
    high, low = np.maximum(opened, close) * 1.002, np.minimum(opened, close) * 0.998
    volume = random.integers(0, 100, len(time)).astype(np.float64)
    return Bars("TEST", timeframe, time, opened, high, low, close, volume)


def hours(first: str, count: int) -> NDArray[np.int64]:
    return parse_timestamp(first, "test_date", end_of_day=False) + HOUR_NS * np.arange(count)


def test_arrays_cannot_be_written_to_nor_can_their_slices() -> None:
    bars = bars_at(hours("2024-01-01", 10))
    for part in (bars, bars.slice(2, 5)):
        check_bars(part)
        with pytest.raises(ValueError, match="read-only"):
            part.close[0] = 1.0


def test_a_slice_holds_the_asked_bars() -> None:
    bars = bars_at(hours("2024-01-01", 10))
    part = bars.slice(2, 5)
    assert len(part) == 3
    assert part.times() == ["2024-01-01T02:00:00Z", "2024-01-01T03:00:00Z", "2024-01-01T04:00:00Z"]
    assert part.timestamp(-1) == part.times()[-1]


def test_the_fingerprint_changes_with_every_column_and_not_with_the_name() -> None:
    bars = bars_at(hours("2024-01-01", 10))
    prints = {fingerprint(bars), fingerprint(bars.slice(0, 9))}
    for name in ("time", "open", "high", "low", "close", "volume"):
        columns = {**vars(bars), name: getattr(bars, name) + 1}
        prints.add(fingerprint(Bars(**columns)))
    assert len(prints) == 8
    renamed = Bars(**{**vars(bars), "symbol": "OTHER"})
    assert fingerprint(renamed) == fingerprint(bars)


def test_bars_per_year_are_counted_from_the_data() -> None:
    assert bars_per_year(bars_at(hours("2023-01-01", 24 * 365))) == pytest.approx(8_765.82)
    with pytest.raises(NotEnoughData):
        bars_per_year(bars_at(hours("2024-01-01", 1)))


@pytest.mark.parametrize(("timeframe", "rule"), [("4h", "4h"), ("1d", "1D"), ("1w", "W-MON")])
def test_days_without_gaps_are_aggregated_as_pandas_does(timeframe: str, rule: str) -> None:
    bars = bars_at(hours("2024-01-01", 24 * 21))  # a Monday
    index = pd.DatetimeIndex(bars.time, tz="UTC")
    frame = pd.DataFrame(dict(zip("ohlcv", bars.columns(), strict=True)), index=index)
    how = {"o": "first", "h": "max", "l": "min", "c": "last", "v": "sum"}
    expected = frame.resample(rule, closed="left", label="left").agg(how)
    wide = aggregate(bars, timeframe)
    assert wide.times() == [
        timestamp.strftime("%Y-%m-%dT%H:%M:%SZ") for timestamp in expected.index
    ]
    for column, name in zip(wide.columns(), "ohlcv", strict=True):
        np.testing.assert_allclose(column, expected[name])
    assert wide.timeframe == timeframe


def test_within_a_day_wide_bars_begin_at_its_first_bar() -> None:
    session = hours("2024-08-06T13:30:00Z", 7)
    bars = bars_at(np.r_[session, session + 24 * HOUR_NS, [session[0] + 48 * HOUR_NS]])
    wide = aggregate(bars, "4h")
    expected = ["06T13:30", "06T17:30", "07T13:30", "07T17:30"]
    assert wide.times() == [f"2024-08-{timestamp}:00Z" for timestamp in expected]
    assert wide.open[1] == bars.open[4]
    assert wide.close[1] == bars.close[6]


def test_a_wide_bar_ends_with_its_day() -> None:
    bars = bars_at(hours("2024-01-01T22:00:00Z", 8))  # two hours of one day, six of the next
    assert aggregate(bars, "4h").times() == ["2024-01-01T22:00:00Z", "2024-01-02T00:00:00Z"]


def test_a_last_wide_bar_that_is_not_filled_is_left_out() -> None:
    assert len(aggregate(bars_at(hours("2024-01-01", 8)), "4h")) == 2
    assert len(aggregate(bars_at(hours("2024-01-01", 7)), "4h")) == 1
    assert len(aggregate(bars_at(hours("2024-01-01", 3)), "4h")) == 0


def test_aggregation_looks_at_no_later_bar() -> None:
    bars = bars_at(np.delete(hours("2024-01-01", 24 * 30), np.arange(50, 90)))
    whole = aggregate(bars, "4h")
    for stop in range(1, len(bars), 37):
        part = aggregate(bars.slice(0, stop), "4h")
        for one, other in zip(part.columns(), whole.columns(), strict=True):
            np.testing.assert_array_equal(one, other[: len(part)])


def test_bars_before_1970_fall_into_the_right_days() -> None:
    bars = bars_at(hours("1969-12-29", 24 * 14))  # a Monday
    assert aggregate(bars, "1d").times()[:2] == ["1969-12-29T00:00:00Z", "1969-12-30T00:00:00Z"]
    assert aggregate(bars, "1w").times() == ["1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"]


@pytest.mark.parametrize("timeframe", ["1h", "30m"])
def test_only_a_wider_timeframe_can_be_made(timeframe: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be made"):
        aggregate(bars_at(hours("2024-01-01", 9)), timeframe)
