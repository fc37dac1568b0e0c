"""Strategies as text: what a caller sent as an object, and what a task was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from ktrdr_mcp.errors import InvalidStrategy, quote
from ktrdr_mcp.strategy.form import OUTPUT_SETS, FuzzySetSpec, IndicatorSpec, Strategy
from ktrdr_mcp.strategy.parsing import ARCHITECTURE, MODEL_TRAINING
from ktrdr_mcp.strategy.sections import Values
from ktrdr_mcp.strategy.yaml_text import MAX_DEPTH, MAX_NODES, load

WIDTH: Final = 100  # of a line


class Writer(yaml.SafeDumper):
    """Writes plain values without anchors, each leaf mapping and list on one line."""

    def ignore_aliases(self, data: object) -> bool:
        """A value that stands twice is written twice: anchors are not read."""
        return True


def text_of(values: Mapping[str, Any]) -> str:
    """A strategy's plain values as YAML that is read back as the same values.

    Args:
        values: text, numbers, booleans, None, lists and mappings by text.
    Raises:
        InvalidStrategy: they are too many, too deep or nothing that YAML says.
    """
    refuse_excess(values)
    try:
        text = yaml.dump(
            dict(values),
            Dumper=Writer,
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
            width=WIDTH,
        )
    except yaml.YAMLError:
        raise InvalidStrategy(
            "The strategy has a value that a file cannot hold.",
            hint="Use text, numbers, true, false, null, lists and mappings.",
            field="strategy",
        ) from None
    if load(text) != values:
        raise InvalidStrategy(
            "The strategy has a value that would be read back as another one.",
            hint="Send it as YAML text instead.",
            field="strategy",
        )
    return text


def refuse_excess(values: object) -> None:
    """Raises InvalidStrategy for more values than a file may have, before they are written."""
    left, nodes = [(values, 1)], 0
    while left:
        value, depth = left.pop()
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise InvalidStrategy(
                "The strategy is nested too deep or has too many values.",
                hint=f"Keep to {MAX_DEPTH} levels and {MAX_NODES:,} values.",
                field="strategy",
            )
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise InvalidStrategy(
                        f"The strategy has the key {quote(key)}, which is not text.",
                        hint="Use text for every key.",
                        field="strategy",
                    )
            nodes += len(value)
            left += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list):
            left += [(each, depth + 1) for each in value]


def file_text(strategy: Strategy) -> str:
    """A file that says what a strategy says, in this program's own form."""
    return text_of(file_values(strategy))


def file_values(strategy: Strategy) -> Values:
    """The plain values of such a file."""
    training = {**strategy.training}
    architecture = {key: training[name] for key, name in ARCHITECTURE.items() if name in training}
    model: Values = {}
    if "model_type" in training:
        model["type"] = training["model_type"]
    model["architecture"] = architecture
    model["training"] = {name: training[name] for name in MODEL_TRAINING if name in training}
    scaling = strategy.features.scaling
    if scaling != "standard":
        model["features"] = (
            {"scale_features": False} if scaling == "none" else {"scaling_method": scaling}
        )
    shares = {
        key: training[name]
        for key, name in (("validation", "validation_split"), ("test", "test_split"))
        if name in training
    }
    rest = {"labels": training.get("labels"), "data_split": shares}
    decisions = dict(strategy.decisions)
    if strategy.output_sets != OUTPUT_SETS:
        decisions["fuzzy_outputs"] = sets_of(strategy.output_sets)
    values = {
        "name": strategy.name,
        "description": strategy.description,
        "indicators": [indicator_entry(each) for each in strategy.indicators],
        "fuzzy_sets": {
            each.indicator_output: each.sets if isinstance(each.sets, str) else sets_of(each.sets)
            for each in strategy.fuzzy_inputs
        },
        "model": {key: value for key, value in model.items() if value},
        "training": {key: value for key, value in rest.items() if value},
        "decisions": decisions,
        "orchestrator": dict(strategy.orchestrator),
    }
    return {key: value for key, value in values.items() if value}


def indicator_entry(spec: IndicatorSpec) -> Values:
    """One entry of the list of indicators."""
    entry: Values = {"name": spec.name, "type": spec.type}
    if spec.params:
        entry["params"] = dict(spec.params)
    if spec.raw:
        entry["raw"] = True
    if spec.source != "close":
        entry["source"] = spec.source
    if spec.timeframe is not None:
        entry["timeframe"] = spec.timeframe
    if spec.window != 1:
        entry["window"] = spec.window
    return entry


def sets_of(sets: tuple[FuzzySetSpec, ...]) -> Values:
    """Fuzzy sets by name."""
    return {
        one.name: list(one.parameters)
        if one.kind != "gaussian"
        else {"type": one.kind, "parameters": list(one.parameters)}
        for one in sets
    }
