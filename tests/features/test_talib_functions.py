"""TA-Lib's whole table: what is read of it and what the project says about units."""

from __future__ import annotations

import numpy as np
import pytest
import talib

from ktrdr_mcp.features.registry import resolve
from ktrdr_mcp.features.talib_functions import REFUSED, function, function_names
from ktrdr_mcp.strategy.form import IndicatorSpec
from tests.support.indicator_checks import check_indicator

NEEDS_VOLUME = {"VWMA", "RVOL"}  # nothing to divide by where no volume is
# Neither proportional nor indifferent to price, because the function is not linear in it.
OF_NO_DEGREE = {
    "ATAN", "CEIL", "COS", "COSH", "EXP", "FLOOR", "LN", "LOG10", "SIN", "SINH", "SQRT", "TAN",
    "TANH", "LINEARREG_ANGLE",
}  # fmt: skip


def outputs(bars, name, **params):
    resolved = resolve(IndicatorSpec("x", f"talib.{name}", params))
    with np.errstate(all="ignore"):
        computed = resolved.indicator.compute(bars, bars.close, resolved.params)
    return dict(zip(resolved.indicator.outputs, computed, strict=True))


def test_every_function_is_usable_or_refused_for_a_reason():
    assert set(function_names()) | set(REFUSED) == set(talib.get_functions())
    assert len(REFUSED) == 6


@pytest.mark.parametrize("zero_volume_share", [0.0, 0.02, 1.0])
def test_every_function_passes_the_generic_checks(make_market, zero_volume_share):
    bars = make_market(420, zero_volume_share=zero_volume_share)
    found = {
        name: defects
        for name in function_names()
        if (defects := check_indicator(IndicatorSpec("x", f"talib.{name}"), bars))
    }
    assert set(found) == (NEEDS_VOLUME if zero_volume_share == 1 else set())


def test_features_of_every_function_are_free_of_price_units(make_market):
    bars, doubled = (make_market(600, price_factor=factor) for factor in (0.01, 0.02))
    dependent = set()
    for name in function_names():
        after = outputs(doubled, name)
        for key, before in outputs(bars, name).items():
            if not np.allclose(before.feature, after[key].feature, 1e-9, 1e-12, equal_nan=True):
                dependent.add(name)
    assert dependent == OF_NO_DEGREE


def test_outputs_without_price_units_are_not_divided(make_market):
    bars, doubled = (make_market(600, price_factor=factor) for factor in (0.01, 0.02))
    for name in set(function_names()) - OF_NO_DEGREE:
        after = outputs(doubled, name)
        for key, before in outputs(bars, name).items():
            indifferent = np.allclose(before.value, after[key].value, 1e-9, 1e-12, equal_nan=True)
            divided = before.value is not before.feature
            assert divided is not indifferent, (name, key)


def test_bollinger_bands_are_divided_by_close(make_market):
    bars = make_market(100)
    upper = outputs(bars, "BBANDS", timeperiod=20)["upperband"]
    windows = np.lib.stride_tricks.sliding_window_view(bars.close, 20)
    expected = windows.mean(axis=1) + 2 * windows.std(axis=1)
    np.testing.assert_allclose(upper.value[19:], expected, rtol=1e-10)
    np.testing.assert_allclose(upper.feature[19:], expected / bars.close[19:], rtol=1e-10)


@pytest.mark.parametrize("word", ["EMA", "ema", 1])
def test_a_moving_average_is_chosen_by_name_or_number(make_market, word):
    bars = make_market(100)
    chosen = outputs(bars, "MA", timeperiod=10, matype=word)["real"].value
    np.testing.assert_array_equal(chosen, talib.EMA(bars.close, timeperiod=10))


def test_the_source_replaces_close(make_market):
    bars = make_market(100)
    resolved = resolve(IndicatorSpec("x", "talib.MAX", {"timeperiod": 5}, source="high"))
    (highest,) = resolved.indicator.compute(bars, bars.high, resolved.params)
    assert highest.value[50] == bars.high[46:51].max()


def test_integer_outputs_are_missing_in_their_warm_up(make_market):
    bars = make_market(100)
    pattern = outputs(bars, "CDLDOJI")["integer"].value
    assert pattern.dtype == np.float64
    assert np.isnan(pattern[:10]).all()
    assert set(pattern[10:]) <= {0.0, 100.0, -100.0}


def test_parameters_and_defaults_are_those_of_talib():
    stoch = function("STOCH")
    assert {key: each.default for key, each in stoch.parameters.items()} == {
        "fastk_period": 5,
        "slowk_period": 3,
        "slowk_matype": 0,
        "slowd_period": 3,
        "slowd_matype": 0,
    }
    assert stoch.outputs == ("slowk", "slowd")
    assert not stoch.takes_source
