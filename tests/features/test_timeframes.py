"""Indicators of wider bars against pandas on the raw bars, and with the future cut away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.errors import InvalidStrategy, NotEnoughData
from ktrdr_mcp.features.build import compute_indicators
from ktrdr_mcp.features.indicator import INDICATORS
from ktrdr_mcp.strategy.form import IndicatorSpec, Strategy
from ktrdr_mcp.strategy.parsing import parse_strategy
from tests.support.indicator_checks import check_indicator

HOUR = pd.Timedelta(hours=1)
THREE = """\
indicators:
  - {name: own, type: sma, period: 5}
  - {name: four, type: sma, period: 5, timeframe: 4h}
  - {name: daily, type: sma, period: 5, timeframe: 1d}
  - {name: high, type: distance_to_high, period: 3, timeframe: 1d}
fuzzy_sets: {own: crisp, four: crisp, daily: crisp, high: crisp}
"""


def session_market(make_market, days: int = 60) -> Bars:
    """Hourly bars of New York's sessions, which begin at half past nine, with holidays."""
    made = make_market(24 * days * 2)
    times = pd.date_range("2024-02-01", periods=24 * days * 2, freq="h", tz="America/New_York")
    times = times + pd.Timedelta(minutes=30)
    open_ = (times.hour >= 9) & (times.hour < 16) & (times.day_of_week < 5)
    open_ &= ~times.strftime("%Y-%m-%d").isin(["2024-02-19", "2024-03-29"])
    kept = np.flatnonzero(open_)
    chosen = times[kept].as_unit("ns")
    naive = chosen.tz_localize(None).asi8
    columns = {
        name: getattr(made, name)[kept] for name in ("open", "high", "low", "close", "volume")
    }
    return Bars("TEST", "1h", chosen.asi8, **columns, offset=naive - chosen.asi8)


def around_the_clock(make_market) -> Bars:
    """Hourly bars without a pause, in UTC."""
    return make_market(24 * 60)


MARKETS = {"sessions": session_market, "around the clock": around_the_clock}


def in_pandas(bars: Bars, wide: str) -> pd.DataFrame:
    """Each feature at each bar, bar by bar from the definition: what had closed by its close."""
    offset = np.zeros(len(bars), dtype=np.int64) if bars.offset is None else bars.offset
    local = pd.to_datetime(bars.time + offset)
    frame = pd.DataFrame(
        {name: getattr(bars, name) for name in ("open", "high", "low", "close")}, index=local
    )
    day = local.normalize()
    if wide == "1d":
        group, ends = day, day + pd.Timedelta(days=1)
    else:
        first = pd.Series(local, index=range(len(local))).groupby(day).transform("min")
        step = (local - pd.DatetimeIndex(first)) // pd.Timedelta(wide)
        group = pd.DatetimeIndex(first) + step * pd.Timedelta(wide)
        ends = pd.DatetimeIndex(np.minimum(group + pd.Timedelta(wide), day + pd.Timedelta(days=1)))
    made = frame.groupby(group).agg({"high": "max", "low": "min", "close": "last"})
    closes = pd.Series(ends, index=group).groupby(level=0).last()
    made["sma"] = made.close / made.close.rolling(5).mean()
    made["below"] = made.close / made.high.rolling(3).max() - 1
    rows = []
    for moment in local:
        known = made[(closes <= moment + HOUR).to_numpy()]
        rows.append(
            (known["sma"].iloc[-1], known["below"].iloc[-1]) if len(known) else (np.nan, np.nan)
        )
    return pd.DataFrame(rows, columns=["sma", "below"])


@pytest.mark.parametrize("market", MARKETS.values(), ids=MARKETS)
def test_three_timeframes_equal_pandas_and_do_not_change_when_the_future_is_cut_away(
    make_market, market
):
    bars = market(make_market)
    strategy = parse_strategy(THREE, "s")
    found = compute_indicators(bars, strategy).features
    close = pd.Series(bars.close)
    own = close / close.rolling(5).mean()
    np.testing.assert_allclose(found["own"], own, rtol=1e-9, equal_nan=True)
    for name, wide, column in (
        ("four", "4h", "sma"),
        ("daily", "1d", "sma"),
        ("high", "1d", "below"),
    ):
        expected = in_pandas(bars, wide)[column]
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, equal_nan=True)
        assert np.isnan(found[name]).sum() < len(bars) / 3
    cuts = np.random.default_rng(5).integers(len(bars) // 3, len(bars), 50)
    for stop in cuts.tolist():
        early = compute_indicators(bars.slice(0, stop), strategy).features
        for name, values in found.items():
            np.testing.assert_array_equal(early[name], values[:stop])


def test_a_day_counts_from_its_close_and_not_a_bar_sooner(make_market):
    bars = around_the_clock(make_market)
    text = "indicators: [{name: x, type: returns, timeframe: 1d}]\nfuzzy_sets: {x: crisp}"
    before = compute_indicators(bars, parse_strategy(text, "s")).features["x"]
    changed = bars.close.copy()
    changed[24 * 10 + 23] *= 1.0001  # the last bar of the eleventh day
    shown = replace(bars, close=changed, high=np.maximum(bars.high, changed))
    after = compute_indicators(shown, parse_strategy(text, "s")).features["x"]
    differ = np.flatnonzero(~np.isclose(before, after, rtol=0, atol=0, equal_nan=True))
    assert differ[0] == 24 * 10 + 23


@pytest.mark.parametrize("kind", INDICATORS)
def test_own_indicators_pass_the_generic_checks_in_a_wider_timeframe(make_market, kind):
    spec = IndicatorSpec("x", kind, timeframe="4h")
    assert check_indicator(spec, make_market(700)) == []


def test_a_timeframe_that_is_no_multiple_is_refused_with_its_place(make_market):
    for timeframe in ("30m", "5m"):
        text = f"indicators: [{{name: rsi, timeframe: {timeframe}}}]\nfuzzy_sets: {{rsi: auto}}"
        with pytest.raises(InvalidStrategy) as caught:
            compute_indicators(make_market(200), parse_strategy(text, "s"))
        assert caught.value.field == "strategy.indicators.rsi.timeframe"
    with pytest.raises(InvalidStrategy):
        parse_strategy("indicators: [{name: rsi, timeframe: 2h}]\nfuzzy_sets: {rsi: auto}", "s")


def test_too_few_wide_bars_are_said_as_such(make_market):
    text = "indicators: [{name: rsi, timeframe: 1w}]\nfuzzy_sets: {rsi: auto}"
    with pytest.raises(NotEnoughData):
        compute_indicators(make_market(24 * 7 * 8), parse_strategy(text, "s"))


def test_the_series_own_timeframe_is_no_other(make_market):
    bars = make_market(200)
    one, other = (
        compute_indicators(bars, parse_strategy(text, "s")).features["rsi"]
        for text in (
            "indicators: [{name: rsi, timeframe: 1h}]\nfuzzy_sets: {rsi: auto}",
            "indicators: [{name: rsi}]\nfuzzy_sets: {rsi: auto}",
        )
    )
    np.testing.assert_array_equal(one, other)


def test_an_older_stored_strategy_is_stored_as_it_was():
    strategy = parse_strategy("indicators: [{name: rsi}]\nfuzzy_sets: {rsi: auto}", "s")
    (entry,) = strategy.to_dict()["indicators"]
    assert set(entry) == {"name", "type", "params", "raw", "source"}
    wide = parse_strategy(THREE, "s")
    assert Strategy.from_dict(wide.to_dict()) == wide
