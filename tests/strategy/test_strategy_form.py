"""What a strategy file may say, and what it comes to."""

from __future__ import annotations

import json

import pytest

from ktrdr_mcp.strategy.form import (
    FeatureSettings,
    FuzzyInput,
    FuzzySetSpec,
    IndicatorSpec,
    Strategy,
)
from ktrdr_mcp.strategy.parsing import parse_strategy

MINIMAL = """
indicators: [{name: rsi, params: {period: 14}}]
fuzzy_sets: {rsi: auto}
"""
KTRDR_V1 = """
name: neuro
version: "1.0"
indicators:
  - {name: rsi, period: 14, source: close}
  - {name: macd, fast_period: 12, slow_period: 26, signal_period: 9}
  - {name: sma_fast, type: sma, params: {period: 20}}
fuzzy_sets:
  rsi:
    oversold: {type: triangular, parameters: [0, 10, 30]}
    neutral: [20, 50, 80]
  sma_fast: {near: [0.9, 0.98, 1.02, 1.1]}
model:
  type: mlp
  input_size: 12
  architecture:
    {hidden_layers: [30, 15, 8], activation: relu, output_activation: softmax, dropout: 0.2}
  training:
    learning_rate: 1e-3
    batch_size: 32
    epochs: 100
    optimizer: adam
    weight_decay: .0001
    lr_scheduler: {type: step, step_size: 30, gamma: 0.1}
    early_stopping: {patience: 15, monitor: val_loss, min_delta: 0.001}
  features:
    include_price_context: false
    scale_features: true
    scaling_method: minmax
    lookback_periods: 2
training:
  method: supervised
  labels: {source: zigzag, zigzag_threshold: .03, label_lookahead: 20}
  data_split: {train: .7, validation: .15, test: .15}
  fitness_metrics: {primary: accuracy}
decisions:
  confidence_threshold: .5
  position_awareness: true
  filters: {min_signal_separation: 1, volume_filter: false}
orchestrator:
  max_position_size: 0.95
  signal_cooldown: 4
  modes: {backtest: {confidence_threshold: 0.6}}
backtesting: {initial_capital: 100000}
"""


def test_ktrdr_v1_file_becomes_the_contracts_words():
    strategy = parse_strategy(KTRDR_V1, "neuro")
    assert strategy.indicators == (
        IndicatorSpec("rsi", "rsi", {"period": 14}),
        IndicatorSpec("macd", "macd", {"fast_period": 12, "slow_period": 26, "signal_period": 9}),
        IndicatorSpec("sma_fast", "sma", {"period": 20}),
    )
    assert strategy.fuzzy_inputs == (
        FuzzyInput(
            "rsi",
            (
                FuzzySetSpec("oversold", "triangular", (0.0, 10.0, 30.0)),
                FuzzySetSpec("neutral", "triangular", (20.0, 50.0, 80.0)),
            ),
        ),
        FuzzyInput("sma_fast", (FuzzySetSpec("near", "trapezoidal", (0.9, 0.98, 1.02, 1.1)),)),
    )
    assert strategy.features == FeatureSettings("minmax")
    assert strategy.training == {
        "model_type": "mlp",
        "hidden_layers": [30, 15, 8],
        "activation": "relu",
        "dropout_rate": 0.2,
        "learning_rate": 0.001,
        "batch_size": 32,
        "epochs": 100,
        "optimizer": "adam",
        "weight_decay": 0.0001,
        "lr_scheduler": {"type": "step", "step_size": 30, "gamma": 0.1},
        "early_stopping": {"patience": 15, "monitor": "val_loss"},
        "labels": {"method": "zigzag_segments", "threshold": 0.03},
        "validation_split": 0.15,
        "test_split": 0.15,
    }
    assert strategy.decisions["filters"] == {"min_signal_separation": 1.0}
    assert strategy.orchestrator["modes"] == {"backtest": {"confidence_threshold": 0.6}}


def test_settings_without_effect_are_listed():
    assert set(parse_strategy(KTRDR_V1, "neuro").ignored) == {
        "version",
        "backtesting",
        "indicators.macd",
        "model.input_size",
        "model.training.early_stopping.min_delta",
        "model.features.lookback_periods",
        "training.method",
        "training.fitness_metrics",
        "training.labels.source",
        "training.labels.label_lookahead",
        "decisions.filters.volume_filter",
        "orchestrator.signal_cooldown",
    }


@pytest.mark.parametrize(
    ("indicators", "named", "unused"),
    [
        ("{name: rsi}, {name: rsi_7, type: rsi}", "rsi_7", ("indicators.rsi",)),
        ("{name: rsi}, {name: rsi_7, type: rsi}", "rsi", ("indicators.rsi_7",)),
        (
            "{name: b, type: talib.BBANDS}, {name: b_up, type: rsi}",
            "b_upperband",
            ("indicators.b_up",),
        ),
        ("{name: b, type: talib.BBANDS}", "b_upperband", ()),
    ],
)
def test_an_indicator_is_unused_whatever_another_ones_name_begins_with(indicators, named, unused):
    text = f"indicators: [{indicators}]\nfuzzy_sets: {{{named}: auto}}"
    assert parse_strategy(text, "s").ignored == unused


PRICE, VOLUME = "include_price_context", "include_volume_context"
KTRDR_WORDS = {
    "version": 'version: "1.0"',
    "labels": "training: {labels: {zigzag_threshold: 0.03, label_lookahead: 20}}",
    "method": "training: {method: supervised}",
}


@pytest.mark.parametrize("word", KTRDR_WORDS)
@pytest.mark.parametrize(
    ("features", "named"),
    [
        ("{}", [PRICE, VOLUME]),
        (f"{{{PRICE}: false}}", [VOLUME]),
        ("{scale_features: true}", [PRICE, VOLUME]),
    ],
)
def test_features_that_ktrdr_makes_unasked_are_noted_in_its_files(word, features, named):
    text = f"{MINIMAL}{KTRDR_WORDS[word]}\nmodel: {{features: {features}}}"
    (note,) = parse_strategy(text, "s").notes
    assert [key for key in (PRICE, VOLUME) if key in note] == named
    assert "write false" in note


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL,
        f"{MINIMAL}model: {{features: {{scale_features: false}}}}",
        f'{MINIMAL}version: "1.0"\nmodel: {{features: {{{PRICE}: false, {VOLUME}: false}}}}',
    ],
)
def test_a_file_that_leaves_nothing_to_ktrdrs_defaults_has_no_note(text):
    assert parse_strategy(text, "s").notes == ()


def test_notes_are_no_part_of_what_is_stored():
    noted = parse_strategy(f'{MINIMAL}version: "1.0"', "s")
    assert noted.notes
    assert "notes" not in noted.to_dict()


def test_a_minimal_file_sets_nothing_of_the_training():
    strategy = parse_strategy(MINIMAL, "small")
    assert (strategy.training, strategy.features.scaling, strategy.ignored) == ({}, "standard", ())


@pytest.mark.parametrize(
    "entry",
    [
        "{name: rsi, period: 2}",
        "{name: rsi, params: {period: 2}}",
        "{name: rsi, period: 2, params: {period: 2}}",
    ],
)
def test_flat_and_nested_parameters_mean_the_same(entry):
    strategy = parse_strategy(f"indicators: [{entry}]\nfuzzy_sets: {{rsi: auto}}", "s")
    assert strategy.indicators == (IndicatorSpec("rsi", "rsi", {"period": 2}),)


@pytest.mark.parametrize("text", [MINIMAL, KTRDR_V1.replace("name: neuro\n", "")])
def test_the_stored_form_gives_the_same_strategy_back(text):
    strategy = parse_strategy(text, "s")
    assert Strategy.from_dict(json.loads(json.dumps(strategy.to_dict()))) == strategy


@pytest.mark.parametrize("stored", [{}, {"name": "x"}, {"indicators": 3}])
def test_something_else_is_not_taken_for_a_stored_strategy(stored):
    with pytest.raises(ValueError, match="not a stored strategy"):
        Strategy.from_dict(stored)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("{train: 0.7, validation: 0.15}", {"validation_split": 0.15, "test_split": 0.15}),
        ("{train: 0.7, test: 0.2}", {"validation_split": 0.1, "test_split": 0.2}),
        ("{validation: 0.3}", {"validation_split": 0.3}),
    ],
)
def test_shares_that_are_left_out_follow_from_the_others(split, expected):
    text = f"{MINIMAL}training: {{data_split: {split}}}"
    assert parse_strategy(text, "s").training == expected


def test_own_labels_pass_to_the_labelers():
    text = f"{MINIMAL}training: {{labels: {{method: triple_barrier, horizon: 4}}}}"
    assert parse_strategy(text, "s").training == {
        "labels": {"method": "triple_barrier", "horizon": 4}
    }


def test_output_sets_can_be_configured():
    text = (
        f"{MINIMAL}decisions: {{fuzzy_outputs: "
        "{bearish: [-2, -1, 0], neutral: [-0.5, 0, 0.5], bullish: [0, 1, 2]}}"
    )
    neutral = parse_strategy(text, "s").output_sets[1]
    assert neutral == FuzzySetSpec("neutral", "triangular", (-0.5, 0.0, 0.5))


def test_words_that_older_yaml_takes_for_booleans_stay_words():
    text = "indicators: [{name: rsi}]\nfuzzy_sets: {rsi: {on: [0, 1, 2], no: [1, 2, 3]}}"
    sets = parse_strategy(text, "s").fuzzy_inputs[0].sets
    assert [each.name for each in sets] == ["on", "no"]
