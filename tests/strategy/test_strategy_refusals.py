"""What a strategy file may not say, and how the author is told."""

from __future__ import annotations

import pytest

from ktrdr_mcp.errors import InvalidName, InvalidStrategy
from ktrdr_mcp.strategy.parsing import parse_strategy

MINIMAL = """
indicators: [{name: rsi, params: {period: 14}}]
fuzzy_sets: {rsi: auto}
"""
REFUSED = {
    "not a mapping": ("- 1", "not a mapping", None),
    "empty": ("", "indicators is missing", "indicators"),
    "unknown section": (f"{MINIMAL}decision: {{}}", "Did you mean 'decisions'", "decision"),
    "unknown decision": (
        f"{MINIMAL}decisions: {{long_onyl: true}}",
        "Did you mean 'long_only'",
        "decisions.long_onyl",
    ),
    "name not text": (f"name: 7\n{MINIMAL}", "name is 7, not text", "name"),
    "indicators empty": ("indicators: []", "indicators has 0 entries", "indicators"),
    "too many indicators": (
        f"indicators: [{', '.join(['{name: rsi}'] * 129)}]",
        "indicators has 129 entries",
        "indicators",
    ),
    "indicators text": ("indicators: rsi", "indicators is missing", "indicators"),
    "v3 without sets": ("indicators: {rsi_14: {type: rsi}}", "is missing", "fuzzy_sets"),
    "v3 without inputs": (f"{MINIMAL}nn_inputs: []", "missing or empty", "fuzzy_sets"),
    "entry text": ("indicators: [rsi]", "indicators.0 is 'rsi', not a mapping", "indicators.0"),
    "dotted name": ("indicators: [{name: talib.ATR}]", "is 'talib.ATR'", "indicators.0.name"),
    "same name": ("indicators: [{name: rsi}, {name: rsi}]", "another", "indicators.1.name"),
    "conflict": (
        "indicators: [{name: rsi, period: 2, params: {period: 3}}]",
        "params says 3",
        "indicators.0.period",
    ),
    "boolean parameter": (
        "indicators: [{name: rsi, period: true}]",
        "is true, not a number",
        "indicators.0.period",
    ),
    "list parameter": (
        "indicators: [{name: rsi, period: [1]}]",
        "not a number",
        "indicators.0.period",
    ),
    "infinite parameter": (
        "indicators: [{name: rsi, period: 1e999}]",
        "is Infinity",
        "indicators.0.period",
    ),
    "huge integer": (
        f"indicators: [{{name: rsi, period: {'9' * 29}}}]",
        "is 9999",
        "indicators.0.period",
    ),
    "source": (
        "indicators: [{name: rsi, source: clse}]",
        "Did you mean 'close'",
        "indicators.0.source",
    ),
    "raw": ("indicators: [{name: rsi, raw: 1}]", "raw is 1", "indicators.0.raw"),
    "no fuzzy sets": ("indicators: [{name: rsi}]", "fuzzy_sets is missing", "fuzzy_sets"),
    "model typo": (
        f"{MINIMAL}model: {{training: {{learningrate: 1}}}}",
        "Did you mean 'learning_rate'",
        "model.training.learningrate",
    ),
    "learning rate text": (
        f"{MINIMAL}model: {{training: {{learning_rate: fast}}}}",
        "model.training.learning_rate",
        "model.training.learning_rate",
    ),
    "dropout": (
        f"{MINIMAL}model: {{architecture: {{dropout: 1}}}}",
        "must be below 1",
        "model.architecture.dropout",
    ),
    "optimizer": (
        f"{MINIMAL}model: {{training: {{optimizer: adm}}}}",
        "Did you mean 'adam'",
        "model.training.optimizer",
    ),
    "patience": (
        f"{MINIMAL}model: {{training: {{early_stopping: {{patience: 0}}}}}}",
        "at least 1",
        "model.training.early_stopping.patience",
    ),
    "lstm": (f"{MINIMAL}model: {{type: lstm}}", "model.type is 'lstm'", "model.type"),
    "sigmoid output": (
        f"{MINIMAL}model: {{architecture: {{output_activation: sigmoid}}}}",
        "is 'sigmoid'",
        "model.architecture.output_activation",
    ),
    "raw indicators": (
        f"{MINIMAL}model: {{features: {{include_raw_indicators: true}}}}",
        "not available",
        "model.features.include_raw_indicators",
    ),
    "shares": (
        f"{MINIMAL}training: {{data_split: {{train: 0.7, validation: 0.2, test: 0.2}}}}",
        "sum to 1",
        "training.data_split",
    ),
    "nothing left to test": (
        f"{MINIMAL}training: {{data_split: {{train: 0.8, validation: 0.2}}}}",
        "training.data_split leaves no rows for test",
        "training.data_split",
    ),
    "nothing left to validate": (
        f"{MINIMAL}training: {{data_split: {{train: 0.8, test: 0.3}}}}",
        "training.data_split leaves no rows for validation",
        "training.data_split",
    ),
    "nearly everything left": (
        f"{MINIMAL}training: {{data_split: {{train: 0.05, validation: 0.05}}}}",
        "leaves 0.9 of the rows for test",
        "training.data_split",
    ),
    "share too large": (
        f"{MINIMAL}training: {{data_split: {{validation: 0.95}}}}",
        "below 0.9",
        "training.data_split.validation",
    ),
    "two labels": (
        f"{MINIMAL}training: {{labels: {{method: triple_barrier, zigzag_threshold: 0.1}}}}",
        "beside zigzag_threshold",
        "training.labels.method",
    ),
    "label list": (
        f"{MINIMAL}training: {{labels: {{method: [1]}}}}",
        "training.labels",
        "training.labels.method",
    ),
    "confidence": (
        f"{MINIMAL}decisions: {{confidence_threshold: 5}}",
        "is 5",
        "decisions.confidence_threshold",
    ),
    "part of a bar": (
        f"{MINIMAL}decisions: {{max_holding_bars: 2.7}}",
        "decisions.max_holding_bars is 2.7",
        "decisions.max_holding_bars",
    ),
    "output sets": (
        f"{MINIMAL}decisions: {{fuzzy_outputs: {{bearish: [-2, -1, 0]}}}}",
        "lacks neutral",
        "decisions.fuzzy_outputs",
    ),
    "indicator for indicators": ("indicator: []", "Did you mean 'indicators'", "indicator"),
    "long key": (
        f"{MINIMAL}  # {{}}\norchestrator: {{modes: {{{'k' * 99}: 1}}}}",
        "has the name 'kkk",
        "orchestrator.modes",
    ),
    "long description": (
        f"description: {'x' * 501}\n{MINIMAL}",
        "501 characters",
        "description",
    ),
}


@pytest.mark.parametrize(("text", "message", "place"), REFUSED.values(), ids=REFUSED)
def test_a_malformed_file_is_refused_with_its_place(text, message, place):
    with pytest.raises(InvalidStrategy) as caught:
        parse_strategy(text, "s")
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.field == ("strategy" if place is None else f"strategy.{place}")


BAD_SETS = {
    "auto misspelt": ("atuo", "not a mapping"),
    "none": ("{}", "0 sets"),
    "too many": (str({f"s{i}": [0, 1, 2] for i in range(17)}), "17 sets"),
    "two numbers": ("{low: [1, 2]}", "2 numbers"),
    "decreasing": ("{low: [2, 1, 3]}", "must not decrease"),
    "no width": ("{low: [1, 1, 1]}", "no width"),
    "text": ("{low: [1, a, 3]}", "not a number"),
    "boolean": ("{low: [1, true, 3]}", "not a number"),
    "unknown kind": ("{low: {type: triangle, parameters: [1, 2, 3]}}", "Did you mean 'triangular'"),
    "wrong count": ("{low: {type: gaussian, parameters: [1, 2, 3]}}", "takes 2 numbers"),
    "no deviation": ("{low: {type: gaussian, parameters: [1, 0]}}", "above 0"),
    "no parameters": ("{low: {type: gaussian}}", "not a list"),
    "unknown key": ("{low: {kind: gaussian, parameters: [1, 2]}}", "unknown key 'kind'"),
    "name with a space": ("{'very low': [1, 2, 3]}", "has the name 'very low'"),
}


@pytest.mark.parametrize(("sets", "message"), BAD_SETS.values(), ids=BAD_SETS)
def test_impossible_fuzzy_sets_are_refused(sets, message):
    with pytest.raises(InvalidStrategy, match=message) as caught:
        parse_strategy(f"indicators: [{{name: rsi}}]\nfuzzy_sets: {{rsi: {sets}}}", "s")
    assert caught.value.field.startswith("strategy.fuzzy_sets.rsi")


def test_a_strategy_name_that_is_not_well_formed_is_refused():
    with pytest.raises(InvalidName):
        parse_strategy(MINIMAL, "../etc/passwd")
