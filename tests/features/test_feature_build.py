"""From bars to the feature matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.errors import DataInvalid, InvalidStrategy, NotEnoughData
from ktrdr_mcp.features.build import compute_indicators, feature_matrix, feature_names, fit_fuzzy
from ktrdr_mcp.labels.registry import complete
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.parsing import parse_strategy

BUILT_IN = ("default", "mean_reversion", "trend_following", "volatility_breakout")
BARS = 1_200
TRAINING_STOP = 700


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return StrategyCatalog(Workspace(tmp_path_factory.mktemp("workspace")))


def read(indicators, fuzzy_sets):
    return parse_strategy(f"indicators: [{indicators}]\nfuzzy_sets: {{{fuzzy_sets}}}", "s")


def build(bars, strategy):
    table = compute_indicators(bars, strategy, own_units=True)
    fitted = fit_fuzzy(table, strategy, np.arange(table.warm_up_bars, TRAINING_STOP))
    return table, fitted, *feature_matrix(table, fitted)


def test_every_shipped_strategy_is_tested_here(library):
    assert set(library.names()) == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("zero_volume_share", [0.0, 0.3, 1.0])
def test_built_in_strategies_give_finite_features_in_zero_to_one(
    library, make_market, name, zero_volume_share
):
    strategy = library.read(name)
    table, fitted, names, values = build(
        make_market(BARS, zero_volume_share=zero_volume_share), strategy
    )
    assert names == feature_names(strategy) == feature_names(fitted)
    assert values.shape == (BARS, len(names))
    assert np.isnan(values[: table.warm_up_bars]).any(axis=1).all()
    features = values[table.warm_up_bars :]
    assert ((features >= 0) & (features <= 1)).all()
    complete(strategy.training.get("labels", {}))


@pytest.mark.parametrize("name", BUILT_IN)
def test_features_do_not_change_when_the_future_is_cut_off(library, make_market, name):
    bars = make_market(BARS)
    _, fitted, _, whole = build(bars, library.read(name))
    for stop in (TRAINING_STOP, 901, BARS - 1):
        _, past = feature_matrix(compute_indicators(bars.slice(0, stop), fitted), fitted)
        np.testing.assert_array_equal(past, whole[:stop])


@pytest.mark.parametrize("name", BUILT_IN)
def test_automatic_sets_depend_on_training_rows_alone(library, make_market, name):
    bars, other = make_market(BARS), make_market(BARS, seed=1)
    spliced = replace(
        bars,
        **{
            column: np.r_[
                getattr(bars, column)[:TRAINING_STOP], getattr(other, column)[TRAINING_STOP:]
            ]
            for column in ("open", "high", "low", "close", "volume")
        },
    )
    strategy = library.read(name)
    assert build(bars, strategy)[1] == build(spliced, strategy)[1]


def test_the_default_strategy_shows_ratios_as_features_and_prices_as_values(library, make_market):
    bars = make_market(BARS)
    table, _, names, _ = build(bars, library.read("default"))
    assert list(table.outputs) == ["rsi_14", "sma_20", "ema_20"]
    assert names[:3] == ("rsi_14_low", "rsi_14_medium", "rsi_14_high")
    assert table.warm_up_bars == 19
    window = bars.close[481:501]
    assert table.outputs["sma_20"][500] == pytest.approx(window.mean())
    assert table.features["sma_20"][500] == pytest.approx(bars.close[500] / window.mean())


def test_features_stand_in_the_order_of_indicators_then_outputs_then_sets():
    strategy = read(
        "{name: bands, type: talib.BBANDS}, {name: rsi}",
        "rsi: {up: [50, 80, 100], down: [0, 20, 50]}, bands_lowerband: crisp, "
        "bands_upperband: auto",
    )
    assert feature_names(strategy) == (
        "bands_upperband_low",
        "bands_upperband_medium",
        "bands_upperband_high",
        "bands_lowerband",
        "rsi_up",
        "rsi_down",
    )


def test_crisp_passes_the_value_through_and_raw_keeps_price_units(make_market):
    bars = make_market(200)
    strategy = read(
        "{name: atr, type: talib.ATR}, {name: atr_raw, type: talib.ATR, raw: true}",
        "atr: crisp, atr_raw: crisp",
    )
    _, values = feature_matrix(compute_indicators(bars, strategy), strategy)
    np.testing.assert_allclose(values[14:, 0] * bars.close[14:], values[14:, 1])


def test_unfitted_automatic_sets_are_a_defect_of_the_caller(make_market):
    strategy = read("{name: rsi}", "rsi: auto")
    table = compute_indicators(make_market(100), strategy)
    with pytest.raises(ValueError, match="fit_fuzzy"):
        feature_matrix(table, strategy)


@pytest.mark.parametrize("bars", [0, 1, 19])
def test_a_series_shorter_than_the_warm_up_is_refused(library, make_market, bars):
    with pytest.raises(NotEnoughData, match=r"'\w+' needs \d+ bars; TEST 1h has"):
        compute_indicators(make_market(bars), library.read("default"))


def test_one_bar_after_the_warm_up_is_enough_to_compute(library, make_market):
    table = compute_indicators(make_market(20), library.read("default"))
    assert np.isfinite([values[-1] for values in table.features.values()]).all()


def test_an_indicator_that_fails_at_a_bar_is_named_with_that_bar(make_market):
    bars = make_market(200)
    volume = bars.volume.copy()
    volume[100:140] = 0
    silent = replace(bars, volume=volume)
    strategy = read("{name: relative, type: talib.RVOL}", "relative: auto")
    with pytest.raises(
        DataInvalid, match=r"'relative' \(talib.RVOL\) has no finite value at bar 1"
    ):
        compute_indicators(silent, strategy)


def test_an_overflow_is_an_error_and_never_an_infinity(make_market):
    strategy = read("{name: huge, type: talib.EXP}", "huge: crisp")
    with pytest.raises(DataInvalid, match="no finite value at bar 0"):
        compute_indicators(make_market(50, price_factor=1e3), strategy)


def test_an_indicator_without_any_value_is_an_error(make_market):
    strategy = read("{name: average, type: talib.VWMA}", "average: auto")
    with pytest.raises(DataInvalid, match="volume there is 0"):
        compute_indicators(make_market(100, zero_volume_share=1.0), strategy)


def test_an_indicator_that_hardly_varies_is_named(make_market):
    strategy = read("{name: doji, type: talib.CDLDOJI}", "doji: auto")
    table = compute_indicators(make_market(300), strategy)
    with pytest.raises(NotEnoughData, match="'doji': the 5th, 50th and 95th percentiles are 0"):
        fit_fuzzy(table, strategy, np.arange(10, 200))


@pytest.mark.parametrize(
    ("indicators", "fuzzy_sets", "message"),
    [
        ("{name: rsi}", "rsj: auto", "Did you mean 'rsi'"),
        ("{name: bands, type: talib.BBANDS}", "bands: auto", "Did you mean 'bands_"),
        (
            "{name: bands, type: talib.BBANDS}, {name: bands_upperband, type: rsi}",
            "bands_upperband: auto",
            "indicator outputs are called 'bands_upperband'",
        ),
        (
            "{name: a, type: rsi}, {name: a_b, type: rsi}",
            "a: {b_c: [0, 1, 2]}, a_b: {c: [0, 1, 2]}",
            "features are called 'a_b_c'",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(indicators, fuzzy_sets, message):
    with pytest.raises(InvalidStrategy, match=message):
        feature_names(read(indicators, fuzzy_sets))


def test_bars_are_left_as_they_were(library, make_market):
    bars = make_market(BARS)
    before = [column.copy() for column in bars.columns()]
    build(bars, library.read("volatility_breakout"))
    assert isinstance(bars, Bars)
    for column, kept in zip(bars.columns(), before, strict=True):
        np.testing.assert_array_equal(column, kept)
