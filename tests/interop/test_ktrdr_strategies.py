"""KTRDR's strategy files train as they are, and every difference is said."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib
import yaml

from ktrdr_mcp.errors import InvalidStrategy
from ktrdr_mcp.features.build import compute_indicators, feature_names
from ktrdr_mcp.features.registry import resolve
from ktrdr_mcp.interop.ktrdr import documents
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service import diagnosis
from ktrdr_mcp.service.data import check_strategy_file
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training.strategies import (
    check_strategy,
    list_strategies,
    read_strategy,
    warnings,
)
from tests.support.saved_models import hourly_bars

FILES = Path(__file__).parent / "strategies"
V1: dict[str, Any] = {
    "name": "s",
    "indicators": [{"name": "rsi", "params": {"period": 9}}],
    "fuzzy_sets": {"rsi": {"low": [0, 20, 40]}},
    "model": {
        "type": "mlp",
        "features": {"include_price_context": False, "include_volume_context": False},
    },
    "training": {"labels": {"zigzag_threshold": 0.02, "label_lookahead": 20}},
}
V3: dict[str, Any] = {
    "name": "s",
    "version": "3.0",
    "training_data": {
        "symbols": {"mode": "single", "symbol": "EURUSD"},
        "timeframes": {"mode": "single", "timeframe": "1h"},
    },
    "indicators": {"fast": {"type": "RSI", "period": 6}, "bands": {"type": "bbands", "period": 30}},
    "fuzzy_sets": {
        "momentum": {"indicator": "fast", "low": [0, 20, 40], "high": [60, 80, 100]},
        "ceiling": {"indicator": "bands.upper", "near": [0.98, 1, 1.02]},
        "unused": {"indicator": "fast", "all": [0, 50, 100]},
    },
    "nn_inputs": [
        {"fuzzy_set": "momentum", "timeframes": ["1h"]},
        {"fuzzy_set": "ceiling", "timeframes": "all"},
    ],
    "training": {"epochs": 7, "early_stopping": {"enabled": False}, "loss": "cross_entropy"},
    "decisions": {"output_format": "classification"},
}


def changed(base: dict[str, Any], **changes: Any) -> str:
    """A file; `model__type="lstm"` changes one place."""
    made = deepcopy(base)
    for place, value in changes.items():
        *way, last = place.split("__")
        target = made
        for key in way:
            target = target.setdefault(key, {})
        target[last] = value
    return yaml.safe_dump(made, sort_keys=False)


def file_named(name: str) -> Strategy:
    """One of the files beside this test, checked."""
    return check_strategy((FILES / f"{name}.yaml").read_text(encoding="utf-8"), name)


def refused(text: str) -> InvalidStrategy:
    """Why a file cannot be trained."""
    with pytest.raises(InvalidStrategy) as caught:
        check_strategy(text, "s")
    return caught.value


def places(error: InvalidStrategy) -> list[str]:
    """The places of everything that is wrong."""
    return [(each.field or "").removeprefix("strategy.") for each in error.problems]


def test_a_v1_file_is_read_with_every_difference_said() -> None:
    strategy = file_named("stretched-rsi")
    assert strategy.name == "stretched-rsi"
    assert feature_names(strategy) == ("rsi_low", "rsi_mid", "rsi_high", "sma_below", "sma_above")
    assert strategy.training["labels"] == {"method": "zigzag_segments", "threshold": 0.02}
    assert strategy.training["early_stopping"] == {"patience": 5, "monitor": "val_loss"}
    assert strategy.decisions["confidence_threshold"] == 0.6, "the orchestrator's, which is higher"
    assert set(strategy.ignored) == {
        "version",
        "decisions.output_format",
        "decisions.filters.volume_filter",
        "model.features.lookback_periods",
        "model.training.loss_function",
        "model.training.early_stopping_patience",
        "model.training.early_stopping.min_delta",
        "orchestrator.signal_cooldown",
        "training.method",
        "training.fitness_metrics",
        "training.labels.label_lookahead",
        "training.labels.source",
        "risk_management",
        "backtesting",
    }
    said = " ".join(warnings(strategy))
    for word in ("stretched_rsi_entry", "include_price_context", "orchestrator.modes.backtest"):
        assert word in said


def test_everything_wrong_with_a_file_is_one_reply() -> None:
    with pytest.raises(InvalidStrategy) as caught:
        file_named("range.squeeze.v2")
    assert places(caught.value) == ["indicators.heat"]
    for word in ("market_heat", "stoch_slowk, stoch_slowd", "indicators.bbands", "range_squeeze"):
        assert word in caught.value.message
    assert "fuzzy sets" in caught.value.hint


def test_ktrdrs_names_of_indicators_mean_talibs_functions() -> None:
    values = yaml.safe_load((FILES / "range.squeeze.v2.yaml").read_text(encoding="utf-8"))
    values["indicators"] = values["indicators"][:4]
    del values["fuzzy_sets"]["heat"]
    values["fuzzy_sets"]["stoch_slowk"] = values["fuzzy_sets"].pop("stoch")
    values["fuzzy_sets"]["bbands_upperband"] = "crisp"
    strategy = check_strategy(yaml.safe_dump(values, sort_keys=False), "s")
    bars = hourly_bars()
    table = compute_indicators(bars, strategy)
    high, low, close = bars.high, bars.low, bars.close
    upper, _, _ = talib.BBANDS(close, 20, 2.0, 2.0)
    slowk, _ = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    np.testing.assert_array_equal(table.features["bbands_upperband"], upper / close)
    np.testing.assert_array_equal(table.features["atr"], talib.ATR(high, low, close, 14) / close)
    np.testing.assert_array_equal(table.features["stoch_slowk"], slowk)
    np.testing.assert_array_equal(table.features["adx"], talib.ADX(high, low, close, 14))


MEANT = {
    "stochastic": ({"k_period": 9, "d_period": 4, "smooth_k": 2}, "talib.STOCH",
                   {"fastk_period": 9, "slowd_period": 4, "slowk_period": 2}),
    "Bollinger_Bands": ({"period": 10, "std_dev": 1.5}, "talib.BBANDS",
                        {"timeperiod": 10, "nbdevup": 1.5, "nbdevdn": 1.5}),
    "williams_r": ({"period": 7}, "talib.WILLR", {"timeperiod": 7}),
    "williamsr": ({}, "talib.WILLR", {"timeperiod": 14}),
    "cci": ({}, "talib.CCI", {"timeperiod": 20}),
    "mfi": ({"period": 5.0}, "talib.MFI", {"timeperiod": 5}),
    "roc": ({"period": 5}, "talib.ROC", {"timeperiod": 5}),
    "momentum": ({"period": 5}, "talib.MOM", {"timeperiod": 5}),
    "obv": ({"period": 5}, "talib.OBV", {}),
    "stochrsi": ({"period": 9, "k_period": 5, "d_period": 3}, "talib.STOCHRSI",
                 {"timeperiod": 9, "fastk_period": 5, "fastd_period": 3}),
    "ppo": ({"fast_period": 5, "slow_period": 9}, "talib.PPO", {"fastperiod": 5, "slowperiod": 9}),
    "MACD": ({"fast": 5, "slow": 9, "signal": 4}, "macd",
             {"fast_period": 5, "slow_period": 9, "signal_period": 4}),
    "ema": ({"periods": 12}, "ema", {"period": 12}),
}  # fmt: skip


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("name", MEANT)
def test_ktrdrs_parameters_are_talibs(name, nested) -> None:
    given, kind, expected = MEANT[name]
    entry = {"name": "x", "type": name, **({"params": given} if nested else given)}
    text = changed(V1, indicators=[*V1["indicators"], entry])
    found = next(each for each in check_strategy(text, "s").indicators if each.name == "x")
    assert found.type == kind
    params = resolve(found).params
    assert {key: params[key] for key in expected} == expected


def test_an_unknown_indicator_that_nothing_uses_is_left_out() -> None:
    unknown = {"name": "heat", "type": "market_heat"}
    text = changed(V1, indicators=[unknown, *V1["indicators"]])
    strategy = check_strategy(text, "s")
    assert [each.name for each in strategy.indicators] == ["rsi"]
    assert any("market_heat" in note and "indicators.0" in note for note in strategy.notes)


def test_flat_parameters_that_ktrdr_would_ignore_count_and_are_noted() -> None:
    text = changed(V1, indicators=[{"name": "rsi", "period": 2}])
    strategy = check_strategy(text, "s")
    assert strategy.indicators[0].params == {"period": 2}
    assert any("period" in note for note in strategy.notes)
    assert check_strategy(changed(V1), "s").notes == ()


REFUSED_FIRST = {
    "recurrent": (changed(V1, model__type="lstm", model__lstm_units=3), "model.type"),
    "regression": (
        changed(V3, decisions={"output_format": "regression", "horizon": 3}, model__bad=1),
        "decisions.output_format",
    ),
    "several symbols": (
        changed(V3, training_data__symbols={"mode": "multi", "list": ["A", "B"]}, wrong=1),
        "training_data.symbols",
    ),
}


@pytest.mark.parametrize("case", REFUSED_FIRST)
def test_another_kind_of_training_is_the_first_reason(case) -> None:
    text, place = REFUSED_FIRST[case]
    assert places(refused(text))[0] == place


REFUSED = {
    "a misspelt key of a family that is ignored": (
        changed(V1, orchestrator={"max_positon_size": 1}),
        ["orchestrator.max_positon_size"],
    ),
    "a misspelt threshold of a mode": (
        changed(V1, orchestrator={"modes": {"backtest": {"confidence_treshold": 0.6}}}),
        ["orchestrator.modes.backtest.confidence_treshold"],
    ),
    "a key that is not on the list": (changed(V1, market=1), ["market"]),
    "another loss": (
        changed(V1, model__training={"loss_function": "focal"}),
        ["model.training.loss_function"],
    ),
    "several at once": (
        changed(
            V1,
            market=1,
            model__training={"epochs": 0, "learning_rate": "fast"},
            decisions={"confidence_threshold": 7},
            indicators=[{"name": "rsi", "params": {"perod": 3}}],
        ),
        [
            "market",
            "model.training.epochs",
            "model.training.learning_rate",
            "decisions.confidence_threshold",
            "indicators.rsi",
        ],
    ),
    "a narrower timeframe": (
        changed(V3, nn_inputs=[{"fuzzy_set": "momentum", "timeframes": ["1h", "5m"]}]),
        ["nn_inputs.0.timeframes"],
    ),
    "an unknown timeframe": (
        changed(V3, nn_inputs=[{"fuzzy_set": "momentum", "timeframes": ["1h", "3h"]}]),
        ["nn_inputs.0.timeframes"],
    ),
    "another normalization": (
        changed(V3, nn_inputs=[{"raw_indicator": "fast", "normalization": "minmax"}]),
        ["nn_inputs.0.normalization"],
    ),
    "other labels": (
        changed(V3, training__labels={"source": "triple_barrier", "pt_multiplier": 2}),
        ["training.labels.source"],
    ),
    "an input without sets": (changed(V3, nn_inputs=[{"fuzzy_set": "none"}]),
        ["fuzzy_sets.none", "fuzzy_sets"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_honoured_is_refused_at_its_place(case) -> None:
    text, expected = REFUSED[case]
    error = refused(text)
    assert sorted(places(error)) == sorted(expected)
    for each in error.problems:
        assert each.hint
        assert len(error.problems) == 1 or each.message in error.message


def test_a_v3_file_is_converted() -> None:
    strategy = check_strategy(changed(V3), "s")
    assert feature_names(strategy) == ("fast_low", "fast_high", "bands_upperband_near")
    assert strategy.training["epochs"] == 7
    assert strategy.training["early_stopping"] is None
    assert {"fuzzy_sets.unused", "training_data", "version"} <= set(strategy.ignored)
    assert resolve(strategy.indicators[1]).params["timeperiod"] == 30


def test_sets_of_one_indicator_keep_the_name_of_their_group() -> None:
    inputs = [{"fuzzy_set": "momentum"}, {"fuzzy_set": "unused"}]
    strategy = check_strategy(changed(V3, nn_inputs=inputs), "s")
    names = ("fast_momentum_low", "fast_momentum_high", "fast_unused_all")
    assert feature_names(strategy) == names


def test_a_raw_input_is_a_value_by_itself() -> None:
    strategy = check_strategy(changed(V3, nn_inputs=[{"raw_indicator": "fast"}]), "s")
    assert feature_names(strategy) == ("fast",)


def test_inputs_of_several_timeframes_become_indicators_of_wider_bars() -> None:
    inputs = [
        {"fuzzy_set": "momentum", "timeframes": ["1h", "4h"]},
        {"fuzzy_set": "ceiling", "timeframes": ["1d"]},
    ]
    strategy = check_strategy(changed(V3, nn_inputs=inputs), "s")
    assert {each.name: each.timeframe for each in strategy.indicators} == {
        "fast": None,
        "bands": None,
        "fast_4h": "4h",
        "bands_1d": "1d",
    }
    assert feature_names(strategy) == (
        "fast_low",
        "fast_high",
        "fast_4h_low",
        "fast_4h_high",
        "bands_1d_upperband_near",
    )
    assert strategy.indicators[2].params == strategy.indicators[0].params


def test_a_file_of_several_timeframes_is_read() -> None:
    strategy = file_named("two_periods_v3")
    assert len({each.timeframe for each in strategy.indicators}) > 1


@pytest.mark.parametrize("base", [V1, V3], ids=["v1", "v3"])
def test_no_shape_of_a_value_breaks_the_reading(base) -> None:
    def paths(values: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        found = [way] if way else []
        items = values.items() if isinstance(values, dict) else ()
        items = enumerate(values) if isinstance(values, list) else items
        return found + [path for key, value in items for path in paths(value, (*way, key))]

    for way in paths(base):
        for odd in (None, 7, "text", [], {}, [1], {"a": 1}, True, float("nan")):
            made = target = deepcopy(base)
            for key in way[:-1]:
                target = target[key]
            target[way[-1]] = odd
            with suppress(InvalidStrategy):
                check_strategy(yaml.safe_dump(made, sort_keys=False), "s")


@pytest.mark.parametrize(
    ("labels", "lookahead"),
    [
        ({"method": "zigzag_segments", "threshold": 0.02}, 20),
        ({"method": "zigzag", "threshold": 0.02, "horizon": 12}, 12),
    ],
)
def test_a_saved_zigzag_has_ktrdrs_words_and_reads_back_as_it_was(labels, lookahead) -> None:
    written = documents.labels(labels)
    assert written["zigzag_threshold"] == 0.02
    assert written["label_lookahead"] == lookahead
    strategy = check_strategy(changed(V1, training__labels=written), "s")
    assert strategy.training["labels"] == labels


def test_labels_that_ktrdr_does_not_have_are_written_as_they_are() -> None:
    labels = {"method": "triple_barrier", "horizon": 8, "width": 0.85}
    assert documents.labels(labels) == labels


def test_list_check_doctor_and_training_say_the_same_of_each_file(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    workspace.strategies.mkdir()
    for file in FILES.iterdir():
        (workspace.strategies / file.name).write_bytes(file.read_bytes())
    lines = (FILES / "range.squeeze.v2.yaml").read_text(encoding="utf-8").splitlines()
    variant = [line for line in lines if "market_heat" not in line and "  heat:" not in line]
    (workspace.strategies / "range.variant.yaml").write_text("\n".join(variant), encoding="utf-8")
    catalog = StrategyCatalog(workspace)
    listed = {each.name: each for each in list_strategies(catalog)}
    findings = [each for each in diagnosis.strategies(workspace) if each.state != "ok"]
    files = {path.stem for path in workspace.strategies.iterdir()}
    assert "range.variant" in files
    assert len(findings) == len(files)
    for name in files - {"range.squeeze.v2"}:
        said = warnings(read_strategy(catalog, name))  # as every start does
        path = workspace.strategies / f"{name}.yaml"
        assert said
        assert listed[name].defects is None
        assert listed[name].warnings == said == warnings(check_strategy_file(path))
        assert any(each.text == f"{name}: {' '.join(said)}" for each in findings)
    with pytest.raises(InvalidStrategy) as refused:
        read_strategy(catalog, "range.squeeze.v2")
    with pytest.raises(InvalidStrategy) as checked:
        check_strategy_file(workspace.strategies / "range.squeeze.v2.yaml")
    told = (refused.value.message, refused.value.hint)
    assert listed["range.squeeze.v2"].defects == " ".join(told)
    assert (checked.value.message, checked.value.hint) == told
    assert any((each.text, each.remedy) == told for each in findings)


def test_a_number_in_the_place_of_a_set_says_what_a_set_looks_like() -> None:
    with pytest.raises(InvalidStrategy) as caught:
        check_strategy(changed(V1, fuzzy_sets__rsi__low=5), "s")
    assert places(caught.value) == ["fuzzy_sets.rsi.low"]
    assert "[0, 20, 40]" in caught.value.message + caught.value.hint
