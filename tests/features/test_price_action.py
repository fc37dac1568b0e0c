"""Moves, shapes and volume against pandas, bar by bar from the definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.features.indicator import INDICATORS
from ktrdr_mcp.features.registry import resolve
from ktrdr_mcp.strategy.form import IndicatorSpec


def outputs(bars, kind, **params):
    resolved = resolve(IndicatorSpec("x", kind, params))
    computed = resolved.indicator.compute(bars, bars.close, resolved.params)
    return dict(zip(resolved.indicator.outputs, (each.value for each in computed), strict=True))


def frame(bars):
    names = ("open", "high", "low", "close", "volume")
    return pd.DataFrame({name: getattr(bars, name) for name in names})


def test_a_candle_is_its_body_its_wicks_and_the_gap_before_it(make_market):
    bars = make_market(300)
    data = frame(bars)
    found = outputs(bars, "candle")
    width = data.high - data.low
    expected = {
        "body": (data.close - data.open) / width,
        "upper_wick": (data.high - data[["open", "close"]].max(axis=1)) / width,
        "lower_wick": (data[["open", "close"]].min(axis=1) - data.low) / width,
        "gap": np.log(data.open / data.close.shift()),
    }
    for name, values in expected.items():
        assert np.isnan(found[name][0])
        np.testing.assert_allclose(found[name][1:], values[1:], rtol=1e-12, atol=1e-14)
    parts = np.abs(found["body"]) + found["upper_wick"] + found["lower_wick"]
    np.testing.assert_allclose(parts[1:], 1)


def test_a_bar_without_a_range_has_no_shape(make_market):
    bars = make_market(50)
    flat = replace(bars, open=bars.close, high=bars.close, low=bars.close)
    found = outputs(flat, "candle")
    assert all(set(found[name][1:]) == {0.0} for name in ("body", "upper_wick", "lower_wick"))


@pytest.mark.parametrize("period", [1, 5, 40])
def test_moves_are_those_of_the_last_bars(make_market, period):
    bars, period_of_two = make_market(300), max(period, 2)
    data, windows = frame(bars), np.lib.stride_tricks.sliding_window_view
    ((_, change),) = outputs(bars, "returns", period=period).items()
    np.testing.assert_allclose(change, np.log(data.close / data.close.shift(period)), rtol=1e-9)
    ((_, volatility),) = outputs(bars, "realised_volatility", period=period_of_two).items()
    moves = windows(np.diff(np.log(bars.close)), period_of_two)
    np.testing.assert_allclose(
        volatility[period_of_two:], np.sqrt((moves**2).mean(axis=1)), rtol=1e-9
    )
    ((_, below),) = outputs(bars, "distance_to_high", period=period_of_two).items()
    ((_, above),) = outputs(bars, "distance_to_low", period=period_of_two).items()
    first = period_of_two - 1
    highest = windows(bars.high, period_of_two).max(axis=1)
    lowest = windows(bars.low, period_of_two).min(axis=1)
    np.testing.assert_allclose(below[first:], bars.close[first:] / highest - 1, atol=1e-15)
    np.testing.assert_allclose(above[first:], bars.close[first:] / lowest - 1, atol=1e-15)
    assert below[first:].max() <= 0 <= above[first:].min()


def test_volume_is_compared_with_its_own_past_and_never_becomes_infinite(make_market):
    bars = make_market(300, zero_volume_share=0.3)
    ((_, found),) = outputs(bars, "relative_volume", period=10).items()
    mean = np.lib.stride_tricks.sliding_window_view(bars.volume, 10).mean(axis=1)
    np.testing.assert_allclose(found[9:], bars.volume[9:] / mean, rtol=1e-9)
    silent = replace(bars, volume=np.zeros(300))
    assert set(outputs(silent, "relative_volume", period=10)["relative_volume"][9:]) == {1.0}


def test_every_indicator_says_what_a_list_shows_of_it():
    for kind, known in INDICATORS.items():
        assert known.group != "other", kind
        assert known.units, kind
        assert known.about.endswith(".") or ";" in known.about, kind
