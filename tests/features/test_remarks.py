"""What is said of a strategy in which nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from ktrdr_mcp.features.build import find_ineffective, remarks
from ktrdr_mcp.features.indicator import INDICATORS
from ktrdr_mcp.features.registry import resolve
from ktrdr_mcp.features.talib_functions import function_names
from ktrdr_mcp.strategy.form import IndicatorSpec
from ktrdr_mcp.strategy.parsing import parse_strategy

RAW = """
indicators:
  - {{name: one, type: {kind}, raw: true}}
  - {{name: rsi}}
fuzzy_sets: {{{output}: auto, rsi: auto}}
"""


def test_raw_is_said_to_matter_exactly_where_a_feature_differs_from_the_value(make_market):
    bars = make_market(420)
    kinds = [*INDICATORS, *(f"talib.{name}" for name in function_names())]
    assert len(kinds) > 100
    for kind in kinds:
        resolved = resolve(IndicatorSpec("x", kind))
        with np.errstate(all="ignore"):
            outputs = resolved.indicator.compute(bars, bars.close, resolved.params)
        alike = all(np.array_equal(one.value, one.feature, equal_nan=True) for one in outputs)
        assert resolved.indicator.rescaled != alike, kind


@pytest.mark.parametrize(
    ("kind", "output", "places"),
    [
        ("macd", "one", ["indicators.one.raw"]),
        ("talib.RSI", "one", ["indicators.one.raw"]),
        ("sma", "one", []),
        ("talib.MACD", "one_macd", []),
    ],
)
def test_raw_where_it_changes_nothing_is_without_effect(kind, output, places):
    strategy = parse_strategy(RAW.format(kind=kind, output=output), "s")
    assert find_ineffective(strategy) == places


def test_macd_is_said_to_be_in_price_units_where_a_feature_is_made_of_it():
    text = "indicators: [{name: line, type: macd}, {name: rsi}]\nfuzzy_sets: {rsi: auto%s}"
    (sentence,) = remarks(parse_strategy(text % ", line: auto", "s"))
    assert "line" in sentence
    assert "price units" in sentence
    assert "use talib.MACD" in sentence
    assert remarks(parse_strategy(text % "", "s")) == []
