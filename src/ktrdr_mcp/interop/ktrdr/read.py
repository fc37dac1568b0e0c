"""Reads a model directory that KTRDR wrote, and its strategy in this program's terms."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np

from ktrdr_mcp import limits
from ktrdr_mcp.errors import InvalidStrategy, ModelNotReproducible, quote
from ktrdr_mcp.features.build import feature_names
from ktrdr_mcp.features.inputs import Scaler
from ktrdr_mcp.interop.ktrdr.documents import CONFIG, FEATURES, LARGEST_PERIODS, METADATA, METRICS
from ktrdr_mcp.nn.perceptron import ACTIVATIONS, Mlp
from ktrdr_mcp.schemas.results import Json
from ktrdr_mcp.strategy.form import (
    FUZZY_KINDS,
    LARGEST_NUMBER,
    FeatureSettings,
    FuzzyInput,
    FuzzyKind,
    FuzzySetSpec,
    IndicatorSpec,
    Source,
    Strategy,
)
from ktrdr_mcp.training.bundle import Weights, corrupted_file, regular_file
from ktrdr_mcp.training.estimate import weights_megabytes

CLASS_NAMES: Final = {
    "rsiindicator": "rsi",
    "simplemovingaverage": "sma",
    "exponentialmovingaverage": "ema",
    "macdindicator": "macd",
}
SCALER: Final = "scaler.json"
# StandardScaler: (x - mean) / scale. MinMaxScaler: x * scale_ + min_, in the same form.
SCALER_LINE: Final = (
    """python -c "import json, pickle; s = pickle.load(open('scaler.pkl', 'rb'));"""
    """ d = hasattr(s, 'mean_'); m = s.mean_ if d else -s.min_ / s.scale_;"""
    """ k = s.scale_ if d else 1 / s.scale_; json.dump({'mean': m.tolist(), 'scale': k.tolist(),"""
    """ 'n_features': len(m)}, open('scaler.json', 'w'))\""""
)
CONFIDENCE_THRESHOLD: Final = 0.5  # KTRDR's default, and the next too
SEPARATION_HOURS: Final = 4.0
MAX_SEPARATION_HOURS: Final = 1e6  # as in a strategy of our own
CONTEXT_FEATURES: Final = {  # with what KTRDR takes if a file does not say it
    "include_price_context": (True, "features of prices beside the fuzzy sets"),
    "include_volume_context": (True, "features of volumes beside the fuzzy sets"),
    "include_raw_indicators": (False, "raw indicators as features"),
}


def strategy_of(config: Mapping[str, Any], name: str) -> Strategy:
    """The strategy of a config.json, as KTRDR reads it.

    Args:
        config: what the file holds.
        name: of the model.
    Raises:
        ModelNotReproducible: it uses something that this program does not compute alike.
    """
    model = config.get("model")
    features = model.get("features") if isinstance(model, Mapping) else None
    refuse_other_features(features if isinstance(features, Mapping) else {})
    entries, sets = config.get("indicators"), config.get("fuzzy_sets")
    if not isinstance(entries, list) or not isinstance(sets, Mapping):
        raise refusal("its config.json has no list of indicators with fuzzy sets.")
    if not all(
        isinstance(entry, Mapping) and isinstance(entry.get("name"), str) for entry in entries
    ):
        raise refusal("its config.json has an indicator without a name.")
    used = [entry for entry in entries if entry["name"] in sets]
    if not 1 <= len(used) <= limits.MAX_INDICATORS:
        raise refusal(f"it has fuzzy sets for {len(used)} indicators.")
    return Strategy(
        name=name,
        description="",
        indicators=tuple(indicator(entry, entries) for entry in used),
        fuzzy_inputs=tuple(fuzzy_input(entry["name"], sets[entry["name"]]) for entry in used),
        features=FeatureSettings("none"),
        decisions=decisions(config.get("decisions") or {}),
    )


def decisions(section: Any) -> Json:
    """How KTRDR's decision engine filters signals, its defaults included."""
    filters = (section.get("filters") or {}) if isinstance(section, Mapping) else None
    if not isinstance(filters, Mapping):
        raise refusal("its decisions are not a mapping.")
    threshold = section.get("confidence_threshold", CONFIDENCE_THRESHOLD)
    hours = filters.get("min_signal_separation", SEPARATION_HOURS)
    for name, value, most in (
        ("confidence_threshold", threshold, 1.0),
        ("filters.min_signal_separation", hours, MAX_SEPARATION_HOURS),
    ):
        if type(value) not in {int, float} or not 0 <= value <= most:
            raise refusal(f"its decisions.{name} is not a number from 0 to {most:g}.")
    return {"confidence_threshold": threshold, "filters": {"min_signal_separation": hours}}


def refuse_other_features(features: Mapping[str, Any]) -> None:
    """Refuses features that are not memberships. Raises ModelNotReproducible."""
    for key, (default, meaning) in CONTEXT_FEATURES.items():
        if features.get(key, default) is not False:
            said = "" if key in features else " (KTRDR's default)"
            raise refusal(f"model.features.{key} is true{said}: it has {meaning}.")


def indicator(entry: Mapping[str, Any], entries: list[Mapping[str, Any]]) -> IndicatorSpec:
    """One indicator with the parameters that KTRDR heeds."""
    name, kind = entry["name"], kind_of(entry)
    if kind not in LARGEST_PERIODS:
        raise refusal(f"its indicator {quote(name)} is {quote(kind)}, which is not computed alike.")
    if name.lower() != kind:
        raise refusal(
            f"its indicator {quote(name)} is not called {kind}; KTRDR finds values by the beginning"
            " of a name."
        )
    for other in entries:
        alike = (other["name"].lower(), kind_of(other))
        if other is not entry and any(text.startswith(kind) for text in alike):
            raise refusal(f"KTRDR may take {quote(other['name'])} for its indicator {quote(name)}.")
    params = entry.get("params") or {}
    if not isinstance(params, Mapping):
        raise refusal(f"its indicator {quote(name)} has params that are not a mapping.")
    return IndicatorSpec(name, kind, periods(name, kind, params), source=source(name, params))


def kind_of(entry: Mapping[str, Any]) -> str:
    """An indicator's type in lower case; KTRDR infers it from the name."""
    kind = str(entry.get("type") or entry["name"]).lower()
    return CLASS_NAMES.get(kind, kind)


def periods(name: str, kind: str, params: Mapping[str, Any]) -> dict[str, int]:
    """The periods under params; KTRDR has the same defaults for those that it does not find."""
    others = set(params) - set(LARGEST_PERIODS[kind]) - {"source"}
    if others - {"adjust"} or params.get("adjust", True) is not True:
        raise refusal(f"its indicator {quote(name)} has parameters that are not computed alike.")
    found = {key: params[key] for key in LARGEST_PERIODS[kind] if key in params}
    if not all(type(value) is int for value in found.values()):
        raise refusal(f"its indicator {quote(name)} has a period that is not a whole number.")
    return found


def source(name: str, params: Mapping[str, Any]) -> Source:
    """The price that an indicator is computed from."""
    chosen = params.get("source", "close")
    if chosen not in get_args(Source):
        raise refusal(f"its indicator {quote(name)} is computed from {quote(chosen)}.")
    return cast(Source, chosen)


def fuzzy_input(name: str, sets: Any) -> FuzzyInput:
    """One indicator's sets."""
    if not isinstance(sets, Mapping) or not (1 <= len(sets) <= limits.MAX_FUZZY_SETS_PER_INDICATOR):
        raise refusal(f"its fuzzy_sets.{name} is not a few named sets.")
    return FuzzyInput(name, tuple(fuzzy_set(f"{name}.{key}", key, sets[key]) for key in sets))


def fuzzy_set(place: str, name: str, values: Any) -> FuzzySetSpec:
    """One set, with its type and parameters."""
    kind = values.get("type", "triangular") if isinstance(values, Mapping) else None
    numbers = values.get("parameters") if isinstance(values, Mapping) else None
    numeric = isinstance(numbers, list) and all(type(x) in {int, float} for x in numbers)
    if kind not in FUZZY_KINDS or not numeric:
        raise refusal(f"its fuzzy_sets.{place} is not a set of a known type.")
    try:
        return FuzzySetSpec(
            name, cast(FuzzyKind, kind), tuple(map(float, cast(list[float], numbers)))
        )
    except (ValueError, OverflowError) as error:
        raise refusal(f"its fuzzy_sets.{place} cannot be computed: {error}.") from None


def refusal(reason: str, hint: str | None = None) -> ModelNotReproducible:
    """The error for one reason."""
    return ModelNotReproducible(
        f"KTRDR's model cannot be reproduced here: {reason}",
        hint=hint or "Train its strategy here with start_training, and save that task as a model.",
        field="model_name",
    )


@dataclass(frozen=True)
class Summary:
    """What a list says of a model."""

    created_at: str  # ISO 8601 UTC with Z
    description: str
    architecture: str
    size_mb: float  # the weights, in units of 10^6 bytes; 0 if the files do not say their shape
    training_accuracy: float | None
    test_accuracy: float | None


@dataclass(frozen=True)
class KtrdrModel:
    """A model of KTRDR's that can be computed here."""

    strategy: Strategy
    shape: Mlp
    weights: Weights
    scaler: Scaler
    feature_names: tuple[str, ...]
    config: Json


def summary(directory: Path) -> Summary:
    """What a model directory says of itself. Raises ModelCorrupted."""
    metadata, config = document(directory, METADATA), document(directory, CONFIG)
    metrics = document(directory, METRICS)
    text = config.get("description")
    hidden = part(part(config, "model"), "architecture").get("hidden_layers")
    layers = hidden if isinstance(hidden, list) else []
    return Summary(
        created_at=timestamp(metadata.get("created_at")),
        description=text[: limits.MAX_DESCRIPTION_CHARACTERS] if isinstance(text, str) else "",
        architecture="_".join(["mlp", *(f"{units}" for units in layers if type(units) is int)]),
        size_mb=size_megabytes(metadata.get("input_size"), hidden),
        training_accuracy=share(metrics.get("final_train_accuracy")),
        test_accuracy=share(metrics.get("test_accuracy")),
    )


def size_megabytes(inputs: Any, hidden: Any) -> float:
    """The size of a network's weights; 0 if its shape is not one."""
    if type(inputs) is not int or inputs < 1 or not is_layers(hidden):
        return 0.0
    shape = Mlp(inputs, tuple(hidden), "relu")
    return weights_megabytes(shape.parameters_count)


def read(directory: Path, name: str) -> KtrdrModel:
    """Reads a model that KTRDR wrote.

    Args:
        directory: the version's folder.
        name: of the model.
    Raises:
        ModelCorrupted: a file is missing, damaged or not what KTRDR writes.
        ModelNotReproducible: its features or its network cannot be computed here; says why.
    """
    config = document(directory, CONFIG)
    strategy = strategy_of(config, name)
    names = check_names(strategy, document(directory, FEATURES))
    shape = shape_of(config, document(directory, METADATA), len(names))
    scaler = scaler_of(directory, config, len(names))
    from ktrdr_mcp.interop.ktrdr import state_dict

    return KtrdrModel(strategy, shape, state_dict.read(directory, shape), scaler, names, config)


def scaler_of(directory: Path, config: Mapping[str, Any], inputs: int) -> Scaler:
    """The scaler of the features, from a JSON file beside KTRDR's pickle, which stays unread.

    Args:
        directory: the version's folder.
        config: config.json.
        inputs: how many features there are.
    Raises:
        ModelNotReproducible: there is a scaler, and no JSON file has it; the hint writes one.
        ModelCorrupted: the JSON file is not what that line writes.
    """
    if part(part(config, "model"), "features").get("scale_features", True) is False:
        return Scaler("none", np.zeros(inputs), np.ones(inputs))
    if not (directory / SCALER).exists():
        place = f"models/{directory.parent.name}/{directory.name}"
        raise refusal(
            "its features are scaled, and the scaler lies in a pickle that is never opened.",
            f"In KTRDR's own environment, in {place}, write {SCALER} with: {SCALER_LINE}",
        )
    values = document(directory, SCALER)
    columns = [numbers(values.get(key), inputs) for key in ("mean", "scale")]
    mean, scale = columns
    if mean is None or scale is None or values.get("n_features") != inputs or min(scale) <= 0:
        raise corrupted_file(
            SCALER, f"does not have mean, scale (above 0) and n_features of {inputs} features"
        )
    return Scaler("standard", np.array(mean), np.array(scale))


def numbers(values: Any, count: int) -> list[float] | None:
    """A list of so many finite numbers, or nothing."""
    if not isinstance(values, list) or len(values) != count:
        return None
    if not all(type(value) in {int, float} and abs(value) <= LARGEST_NUMBER for value in values):
        return None
    return [float(value) for value in values]


def check_names(strategy: Strategy, features: Mapping[str, Any]) -> tuple[str, ...]:
    """The features' names, which must be those of the strategy. Raises ModelNotReproducible."""
    try:
        ours = feature_names(strategy)
    except InvalidStrategy as error:
        raise refusal(error.message) from None
    theirs = features.get("feature_names")
    if theirs != list(ours):
        raise refusal("its features.json names other features than its strategy makes.")
    return ours


def shape_of(config: Mapping[str, Any], metadata: Mapping[str, Any], inputs: int) -> Mlp:
    """The network that KTRDR would build. Raises ModelNotReproducible."""
    model = part(config, "model")
    architecture = part(model, "architecture")
    hidden = architecture.get("hidden_layers")
    if str(model.get("type", "")).lower() != "mlp" or not is_layers(hidden):
        raise refusal("its network is not a multilayer perceptron of bounded size.")
    if metadata.get("input_size") != inputs:
        raise refusal(
            f"its network has {metadata.get('input_size')!s:.20} inputs and its strategy makes"
            f" {inputs} features."
        )
    if architecture.get("output_activation", "softmax") != "softmax":
        raise refusal("its output is not a softmax.")
    activation = str(architecture.get("activation", "relu")).lower()
    known = activation if activation in ACTIVATIONS else "relu"  # as KTRDR does
    return Mlp(inputs, tuple(hidden or ()), known)


def is_layers(hidden: Any) -> bool:
    """Whether a value is a list of hidden layers of bounded size."""
    return (
        isinstance(hidden, list)
        and 1 <= len(hidden) <= limits.MAX_LAYERS
        and all(type(units) is int and 1 <= units <= limits.MAX_LAYER_UNITS for units in hidden)
    )


def document(directory: Path, name: str) -> Json:
    """One of the JSON documents. Raises ModelCorrupted."""
    path = regular_file(directory, name, limits.MAX_BUNDLE_JSON_BYTES)
    try:
        values = json.loads(path.read_bytes())  # KTRDR writes bare NaN
    except (OSError, ValueError, RecursionError):
        raise corrupted_file(name, "is not valid JSON") from None
    if not isinstance(values, dict):
        raise corrupted_file(name, "is not a JSON object")
    return values


def part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; empty if there is none."""
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def share(value: Any) -> float | None:
    """An accuracy, if it is one."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if known else None


def timestamp(text: Any) -> str:
    """A time as replies show it; KTRDR's have no zone and count as UTC. Raises ModelCorrupted."""
    try:
        when = datetime.fromisoformat(text)
        aware = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise corrupted_file(METADATA, "does not say when the model was made") from None
    return aware.strftime("%Y-%m-%dT%H:%M:%SZ")
