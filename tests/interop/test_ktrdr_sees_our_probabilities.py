"""KTRDR's reading rules, applied to what a save writes, give this program's probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.ktrdr_reader import backtest_probabilities, features
from tests.support.saved_models import hourly_bars, table_of

BARS = np.arange(len(hourly_bars()) - 500, len(hourly_bars()))
FOUR_INDICATORS = """
indicators:
  - {name: slow_average, type: sma, params: {period: 50}}
  - {name: unused, type: talib.ATR}
  - {name: speed, type: rsi, period: 7}
  - {name: line, type: macd, params: {fast_period: 5, slow_period: 20}}
  - {name: fast_average, type: ema, params: {period: 12}, source: high}
fuzzy_sets:
  fast_average: {below: [0.9, 0.99, 1.0], above: [1.0, 1.01, 1.1]}
  line: auto
  speed: {oversold: [0, 0, 40], middle: [20, 50, 80], overbought: [60, 100, 100]}
  slow_average: auto
"""


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "leaky_relu"])
def test_the_default_strategy_gives_the_same_probabilities_on_500_bars(saver, activation) -> None:
    row = saver.saved("default_model", activation=activation, hidden_layers=[16, 8])
    theirs = backtest_probabilities(saver.root, "default_model", "AAPL_1h", table_of(hourly_bars()))
    ours = saver.our_probabilities(row, BARS)
    assert len(ours) == 500
    assert np.ptp(ours, axis=0).min() > 0.01, "a constant network would prove nothing"
    np.testing.assert_allclose(theirs[BARS], ours, rtol=0, atol=1e-5)
    assert row.details["ktrdr"]["incompatibilities"] == []


@pytest.mark.parametrize("scaling", ["standard", "minmax", "none"])
def test_renamed_reordered_and_dropped_indicators_give_the_same_probabilities(
    saver, scaling
) -> None:
    settings = f"scaling_method: {scaling}" if scaling != "none" else "scale_features: false"
    text = f"{FOUR_INDICATORS}model: {{features: {{{settings}}}}}\n"
    row = saver.saved("four", "four_strategy", text)
    theirs = backtest_probabilities(saver.root, "four", "AAPL_1h", table_of(hourly_bars()))
    ours = saver.our_probabilities(row, BARS)
    np.testing.assert_allclose(theirs[BARS], ours, rtol=0, atol=1e-5)
    config = json.loads((saver.root / row.path / "config.json").read_text(encoding="utf-8"))
    listed = json.loads((saver.root / row.path / "features.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in config["indicators"]] == ["sma", "rsi", "macd", "ema"]
    names, _ = features(config, table_of(hourly_bars()))
    assert listed["feature_names"] == names
    assert listed["feature_count"] == len(names)


def test_every_version_is_followed_by_its_own_strategy_file_and_link(saver) -> None:
    for version in (1, 2, 3):
        saver.train(f"task{version}", saver.strategy("default", None), seed=version)
        row = saver.save("model", f"task{version}", version=version)
        theirs = backtest_probabilities(saver.root, "model", "AAPL_1h", table_of(hourly_bars()))
        ours = saver.our_probabilities(row, BARS)
        np.testing.assert_allclose(theirs[BARS], ours, rtol=0, atol=1e-5)
