"""KTRDR's indicators against their definitions, written out another way."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from ktrdr_mcp.errors import InvalidStrategy
from ktrdr_mcp.features.indicator import INDICATORS
from ktrdr_mcp.features.registry import resolve
from ktrdr_mcp.strategy.form import IndicatorSpec
from tests.support.indicator_checks import check_indicator


def output(bars, kind, source="close", **params):
    resolved = resolve(IndicatorSpec("x", kind, params, source=source))
    (result,) = resolved.indicator.compute(bars, getattr(bars, source), resolved.params)
    return result


def scalar_rsi(prices, period):
    """Wilder's RSI, one bar after the other, 50 where nothing has moved."""
    changes = [after - before for before, after in pairwise(prices)]
    gain = sum(max(change, 0) for change in changes[:period]) / period
    loss = sum(max(-change, 0) for change in changes[:period]) / period
    values = [float("nan")] * period
    for change in [None, *changes[period:]]:
        if change is not None:
            gain = (gain * (period - 1) + max(change, 0)) / period
            loss = (loss * (period - 1) + max(-change, 0)) / period
        if loss == 0:
            values.append(100.0 if gain > 0 else 50.0)
        else:
            values.append(100 - 100 / (1 + gain / loss))
    return values


@pytest.mark.parametrize("period", [2, 7, 14, 99])
def test_rsi_equals_a_scalar_loop(make_market, period):
    bars = make_market(600, seed=period)
    value = output(bars, "rsi", period=period).value
    np.testing.assert_allclose(value, scalar_rsi(bars.close.tolist(), period), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("step", "expected"), [(0.0, 50.0), (1.0, 100.0), (-1.0, 0.0)])
def test_rsi_of_a_straight_line_is_known(make_market, step, expected):
    bars = make_market(60)
    bars = replace(bars, close=100 + step * np.arange(60))
    assert set(output(bars, "rsi").value[14:]) == {expected}


@pytest.mark.parametrize("source", ["close", "high"])
def test_sma_is_the_mean_of_the_window_and_its_feature_close_over_it(make_market, source):
    bars = make_market(200)
    result = output(bars, "sma", source=source, period=20)
    windows = np.lib.stride_tricks.sliding_window_view(getattr(bars, source), 20)
    np.testing.assert_allclose(result.value[19:], windows.mean(axis=1), rtol=1e-12)
    assert np.isnan(result.value[:19]).all()
    np.testing.assert_allclose(result.feature[19:], bars.close[19:] / windows.mean(axis=1))


def test_ema_is_the_weighted_mean_of_all_bars_so_far(make_market):
    bars = make_market(120)
    result = output(bars, "ema", period=10)
    weights = (1 - 2 / 11) ** np.arange(120)
    expected = [
        np.average(bars.close[: t + 1], weights=weights[: t + 1][::-1]) for t in range(9, 120)
    ]
    np.testing.assert_allclose(result.value[9:], expected, rtol=1e-12)
    np.testing.assert_allclose(result.feature[9:], bars.close[9:] / expected, rtol=1e-12)
    assert np.isnan(result.value[:9]).all()


def test_macd_is_ktrdrs_line_in_price_units(make_market):
    bars = make_market(200)
    close = pd.Series(bars.close)
    line = (
        close.ewm(span=12, adjust=False).mean() - close.ewm(span=26, adjust=False).mean()
    ).to_numpy()
    result = output(bars, "macd")
    np.testing.assert_array_equal(result.value[25:], line[25:])
    assert np.isnan(result.value[:25]).all()
    np.testing.assert_array_equal(result.value, result.feature)


@pytest.mark.parametrize("kind", INDICATORS)
@pytest.mark.parametrize("zero_volume_share", [0.0, 1.0])
def test_own_indicators_pass_the_generic_checks(make_market, kind, zero_volume_share):
    bars = make_market(300, zero_volume_share=zero_volume_share)
    assert check_indicator(IndicatorSpec("x", kind), bars) == []


REFUSED = {
    "unknown type": (IndicatorSpec("x", "rsj"), "Did you mean 'rsi'"),
    "name as type": (IndicatorSpec("rsi_14", "rsi_14"), "Did you mean type 'rsi'"),
    "lower case": (IndicatorSpec("x", "talib.atr"), "Did you mean 'talib.ATR'"),
    "without prefix": (IndicatorSpec("x", "STOCH"), "Did you mean 'talib.STOCH'"),
    "ktrdr's stoch": (IndicatorSpec("stoch", "stoch"), "Did you mean 'talib.STOCH'"),
    "unknown function": (IndicatorSpec("x", "talib.BBAND"), "Did you mean 'talib.BBANDS'"),
    "unknown parameter": (IndicatorSpec("x", "rsi", {"perod": 3}), "Did you mean 'period'"),
    "talib parameter": (IndicatorSpec("x", "talib.RSI", {"period": 3}), "'timeperiod'"),
    "too short": (IndicatorSpec("x", "rsi", {"period": 1}), "period 1"),
    "too long": (IndicatorSpec("x", "sma", {"period": 10_001}), "period 10001"),
    "not whole": (IndicatorSpec("x", "rsi", {"period": 2.5}), "period 2.5"),
    "text": (IndicatorSpec("x", "rsi", {"period": "14"}), "period '14'"),
    "macd": (IndicatorSpec("x", "macd", {"fast_period": 26}), "fast_period must be below"),
    "talib bound": (IndicatorSpec("x", "talib.RSI", {"timeperiod": 1}), "accept timeperiod 1"),
    "talib real": (IndicatorSpec("x", "talib.T3", {"vfactor": 2.0}), "accept vfactor 2"),
    "talib length": (IndicatorSpec("x", "talib.SMA", {"timeperiod": 20_000}), "20000"),
    "talib average": (IndicatorSpec("x", "talib.MA", {"matype": 99}), "accept matype 99"),
    "average's name": (IndicatorSpec("x", "talib.MA", {"matype": "XMA"}), "matype 'XMA'"),
    "useless source": (IndicatorSpec("x", "talib.ATR", source="high"), "no effect"),
    "periods": (IndicatorSpec("x", "talib.MAVP"), "period for each bar"),
    "row number": (IndicatorSpec("x", "talib.MAXINDEX"), "talib.AROON"),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_computed_is_refused_with_the_nearest_word(spec, message):
    with pytest.raises(InvalidStrategy) as caught:
        resolve(spec)
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.field == f"strategy.indicators.{spec.name}"
