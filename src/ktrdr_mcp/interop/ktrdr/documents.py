"""The JSON and YAML files that KTRDR reads beside the weights, and what it cannot compute."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from ktrdr_mcp.features.registry import Resolved, find_used_indicators
from ktrdr_mcp.schemas.results import Json
from ktrdr_mcp.strategy.form import FuzzyInput, IndicatorSpec, Strategy
from ktrdr_mcp.strategy.parsing import MODEL_TRAINING
from ktrdr_mcp.training.formats import Identity

MODEL: Final = "model.pt"
CONFIG: Final = "config.json"
METRICS: Final = "metrics.json"
FEATURES: Final = "features.json"
METADATA: Final = "metadata.json"
FILES: Final = (MODEL, CONFIG, METRICS, FEATURES, METADATA)

# The indicators that both programs compute alike, with KTRDR's largest periods in bars. Its
# releases differ in some of them; these are the smallest.
LARGEST_PERIODS: Final[Mapping[str, Mapping[str, int]]] = {
    "rsi": {"period": 100},
    "sma": {"period": 200},
    "ema": {"period": 200},
    "macd": {"fast_period": 50, "slow_period": 100, "signal_period": 50},
}
RATIOS: Final = ("sma", "ema")  # fuzzified as close / average, if they are called exactly so

# Linear, activation and dropout are one place each in KTRDR's sequence of layers.
PLACES_PER_LAYER: Final = 3


def state_key(layer: int, kind: str) -> str:
    """What KTRDR calls a layer's "weight" or "bias"."""
    return f"{PLACES_PER_LAYER * layer}.{kind}"


MAX_SENTENCES: Final = 6


def incompatibilities(strategy: Strategy) -> list[str]:
    """Why KTRDR cannot compute the features; empty if it can.

    Args:
        strategy: every fuzzy set explicit.
    Returns:
        sentences, at most MAX_SENTENCES.
    """
    used = find_used_indicators(strategy)
    found = [sentence for each in used for sentence in of_indicator(each)]
    found += find_repeated_types(used)
    found += [sentence for each in strategy.fuzzy_inputs for sentence in of_input(each)]
    if len(found) > MAX_SENTENCES:
        left = len(found) - MAX_SENTENCES + 1
        return [*found[: MAX_SENTENCES - 1], f"There are {left} more reasons of these kinds."]
    return found


def of_indicator(each: Resolved) -> list[str]:
    """What KTRDR cannot do about one indicator."""
    name, kind = each.spec.name, each.spec.type
    if each.spec.timeframe is not None:
        return [f"Indicator '{name}' has a timeframe of its own; KTRDR reads one timeframe here."]
    if each.spec.window > 1:
        return [f"Indicator '{name}' has a window; KTRDR predicts from one bar."]
    if kind not in LARGEST_PERIODS:
        return [f"Indicator '{name}' is {kind}, which KTRDR does not compute."]
    found = [
        f"Indicator '{name}' has {key} {each.params[key]}; KTRDR takes at most {largest}."
        for key, largest in LARGEST_PERIODS[kind].items()
        if each.params[key] > largest
    ]
    if each.spec.raw and kind in RATIOS:
        found.append(f"Indicator '{name}' is raw; KTRDR always divides close by a moving average.")
    return found


def find_repeated_types(used: list[Resolved]) -> list[str]:
    """Types that stand twice: KTRDR finds an indicator by a name that is its type."""
    names: dict[str, list[str]] = {}
    for each in used:
        if each.spec.type in LARGEST_PERIODS:
            names.setdefault(each.spec.type, []).append(each.spec.name)
    return [
        f"Indicators {' and '.join(same)} are all {kind}; KTRDR can have one of each type."
        for kind, same in names.items()
        if len(same) > 1
    ]


def of_input(each: FuzzyInput) -> list[str]:
    """What KTRDR cannot do about one indicator's sets."""
    output = each.indicator_output
    if isinstance(each.sets, str):
        return [f"'{output}' is {each.sets}; KTRDR's features are memberships of explicit sets."]
    other = [one for one in each.sets if one.kind != "triangular"]
    return [
        f"Set '{one.name}' of '{output}' is {one.kind}; KTRDR's sets are triangles."
        for one in other
    ]


# What a strategy does not set was measured without; left out, KTRDR would take 0.5 and 4 hours.
MEASURED_DECISIONS: Final = {
    "confidence_threshold": 0.0,
    "position_awareness": True,
    "filters": {"min_signal_separation": 0.0},
}
ZIGZAGS: Final = ("zigzag", "zigzag_segments")
ZIGZAG_THRESHOLD: Final = 0.03  # the default of both kinds of labels
LOOKAHEAD_BARS: Final = 20  # KTRDR requires the key and does not use it
HISTORY_FIELDS: Final = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


def config(
    identity: Identity, strategy: Strategy, training: Mapping[str, Any], inputs: int, alike: bool
) -> Json:
    """config.json: the strategy under the model's name, with the network's shape.

    Args:
        identity: the version.
        strategy: every fuzzy set explicit.
        training: the effective configuration.
        inputs: how many features there are.
        alike: whether KTRDR can compute the features; its names and form are used then.
    """
    document = strategy_document(identity.model_name, strategy, training, alike)
    model = {**document["model"], "input_size": inputs}
    copies = {"architecture": model["architecture"], "features": model["features"]}
    return {**document, "model": model, **copies}


def encode(document: Mapping[str, Any]) -> bytes:
    """A document as JSON; its keys keep their order, which is that of the features."""
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def strategy_text(document: Mapping[str, Any]) -> str:
    """A strategy file of what `strategy_document` made."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)


def strategy_document(
    model_name: str, strategy: Strategy, training: Mapping[str, Any], alike: bool
) -> Json:
    """A strategy in KTRDR's form, under the model's name.

    Args:
        model_name: the model's folder; KTRDR finds the model by it.
        strategy: every fuzzy set explicit.
        training: the effective configuration.
        alike: whether KTRDR can compute the features.
    """
    names = ktrdr_names(strategy) if alike else {}
    validation, test = training["validation_split"], training["test_split"]
    document = {
        "name": model_name,
        "description": strategy.description,
        "indicators": indicators(strategy, alike),
        "fuzzy_sets": {
            names.get(each.indicator_output, each.indicator_output): fuzzy_sets(each)
            for each in strategy.fuzzy_inputs
        },
        "model": model_section(training),
        "training": {
            "labels": labels(training["labels"]),
            "data_split": {
                "train": round(1 - validation - test, 9),
                "validation": validation,
                "test": test,
            },
        },
        "decisions": {**MEASURED_DECISIONS, **strategy.decisions},
    }
    if strategy.orchestrator:
        document["orchestrator"] = orchestrator(strategy.orchestrator)
    return document


def labels(settings: Mapping[str, Any]) -> Json:
    """The labels, with KTRDR's own words beside them where its trainer has such labels."""
    if settings.get("method") not in ZIGZAGS:
        return dict(settings)
    lookahead = settings.get("horizon", LOOKAHEAD_BARS)
    threshold = settings.get("threshold", ZIGZAG_THRESHOLD)
    return {**settings, "zigzag_threshold": threshold, "label_lookahead": lookahead}


def orchestrator(settings: Mapping[str, Any]) -> Json:
    """The section orchestrator, without a second threshold that only KTRDR's backtest would heed.

    Args:
        settings: the strategy's own.
    """
    modes = dict(settings.get("modes", {}))
    if "backtest" in modes:
        modes["backtest"] = {
            key: value for key, value in modes["backtest"].items() if key != "confidence_threshold"
        }
    return {**settings, **({"modes": modes} if modes else {})}


def ktrdr_names(strategy: Strategy) -> dict[str, str]:
    """What KTRDR must call each indicator: it divides close by "sma" and by nothing else."""
    return {each.spec.name: each.spec.type for each in find_used_indicators(strategy)}


def indicators(strategy: Strategy, alike: bool) -> list[Json]:
    """The list of indicators; KTRDR heeds parameters under params alone."""
    if not alike:
        return [own_form(spec) for spec in strategy.indicators]
    entries = []
    for each in find_used_indicators(strategy):
        params: Json = {key: each.params[key] for key in LARGEST_PERIODS[each.spec.type]}
        if each.spec.source != "close":
            params["source"] = each.spec.source
        entries.append({"name": each.spec.type, "params": params})
    return entries


def own_form(spec: IndicatorSpec) -> Json:
    """An indicator that KTRDR does not have, as this program writes it."""
    entry = {"name": spec.name, "type": spec.type, "params": dict(spec.params)}
    return {**entry, "source": spec.source, **({"raw": True} if spec.raw else {})}


def fuzzy_sets(each: FuzzyInput) -> Json | str:
    """One indicator's sets, explicit."""
    if isinstance(each.sets, str):
        return each.sets
    return {one.name: {"type": one.kind, "parameters": list(one.parameters)} for one in each.sets}


def model_section(training: Mapping[str, Any]) -> Json:
    """The section model: the network and how it was trained; nothing is left to scale."""
    return {
        "type": "mlp",
        "architecture": {
            "hidden_layers": list(training["hidden_layers"]),
            "activation": training["activation"],
            "dropout": training["dropout_rate"],
            "output_activation": "softmax",
        },
        "training": {
            name: drop_none(training[name])
            for name in MODEL_TRAINING
            if training[name] is not None or name == "early_stopping"
        },
        "features": {
            "include_price_context": False,
            "include_volume_context": False,
            "include_raw_indicators": False,
            "scale_features": False,
        },
    }


def drop_none(value: Any) -> Any:
    """A setting without the parts that are not set."""
    if isinstance(value, Mapping):
        return {key: entry for key, entry in value.items() if entry is not None}
    return list(value) if isinstance(value, tuple) else value


def feature_names(strategy: Strategy, ours: Sequence[str], alike: bool) -> list[str]:
    """The features by KTRDR's names, in the network's order.

    Args:
        strategy: every fuzzy set explicit.
        ours: this program's names, in order.
        alike: whether KTRDR can compute the features.
    """
    if not alike:
        return list(ours)
    names = ktrdr_names(strategy)
    theirs = {
        f"{each.indicator_output}_{one.name}": f"{names[each.indicator_output]}_{one.name}"
        for each in strategy.fuzzy_inputs
        for one in each.sets
        if not isinstance(one, str)
    }
    return [theirs[name] for name in ours]


def features(names: Sequence[str]) -> Json:
    """features.json; nobody has measured the importance of a feature."""
    return {
        "feature_names": list(names),
        "feature_count": len(names),
        "feature_importance": {},
    }


def metrics(
    measured: Mapping[str, Mapping[str, Any]], history: Sequence[Mapping[str, float]]
) -> Json:
    """metrics.json: the restored epoch's figures, and every epoch's.

    Args:
        measured: "training_metrics" and "test_metrics" of a performance reply.
        history: every epoch.
    """
    training, test = measured["training_metrics"], measured["test_metrics"]
    columns = {name: [epoch[name] for epoch in history] for name in HISTORY_FIELDS}
    return {
        "epochs_trained": training["epochs_completed"],
        "final_train_loss": training["final_train_loss"],
        "final_train_accuracy": training["final_train_accuracy"],
        "best_train_accuracy": max(columns["train_accuracy"]),
        "final_val_loss": training["final_val_loss"],
        "final_val_accuracy": training["final_val_accuracy"],
        "best_val_accuracy": max(columns["val_accuracy"]),
        "training_time": training["training_time_minutes"] * 60,
        "test_accuracy": test["test_accuracy"],
        "test_loss": test["test_loss"],
        "history": columns,
    }


def metadata(
    identity: Identity, inputs: int, torch_version: str, figures: Mapping[str, Any]
) -> Json:
    """metadata.json: what KTRDR lists and needs before it can build the network.

    Args:
        identity: the version.
        inputs: how many features there are.
        torch_version: of the training.
        figures: what `metrics` made.
    """
    return {
        "strategy_name": identity.model_name,
        "symbol": identity.symbol,
        "timeframe": identity.timeframe,
        # KTRDR sorts these texts among its own, which have no zone
        "created_at": identity.created_at.removesuffix("Z"),
        "model_type": "Sequential",
        "input_size": inputs,
        "is_trained": True,
        "pytorch_version": torch_version,
        "created_by": "ktrdr-mcp",
        "training_summary": {
            "epochs": figures["epochs_trained"],
            "final_accuracy": figures["final_train_accuracy"],
            "best_val_accuracy": figures["best_val_accuracy"],
        },
    }
