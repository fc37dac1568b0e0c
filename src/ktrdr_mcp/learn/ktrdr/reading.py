"""A model directory that KTRDR wrote: what it says, and the model where it can be reproduced.

Only model.pt and the JSON documents are read. scaler.pkl and model_full.pt are programs in a
pickle, and are never opened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ktrdr_mcp import limits
from ktrdr_mcp.errors import InvalidStrategy
from ktrdr_mcp.features.build import feature_names
from ktrdr_mcp.learn.bundle import Weights, corrupted, regular_file
from ktrdr_mcp.learn.evaluate import CLASSES
from ktrdr_mcp.learn.ktrdr import state_dict
from ktrdr_mcp.learn.ktrdr.conventions import CONFIG, FEATURES, METADATA, METRICS
from ktrdr_mcp.learn.ktrdr.strategy_rules import refused, strategy_of
from ktrdr_mcp.learn.memory import parameters_count, weights_megabytes
from ktrdr_mcp.learn.nets import ACTIVATIONS, NetworkShape
from ktrdr_mcp.strategy import Strategy


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
    shape: NetworkShape
    weights: Weights
    feature_names: tuple[str, ...]
    config: dict[str, Any]


def summary(directory: Path) -> Summary:
    """What a model directory says of itself. Raises ModelCorrupted."""
    metadata, config = document(directory, METADATA), document(directory, CONFIG)
    metrics = document(directory, METRICS)
    text = config.get("description")
    hidden = part(part(config, "model"), "architecture").get("hidden_layers")
    layers = hidden if isinstance(hidden, list) else []
    return Summary(
        created_at=moment(metadata.get("created_at")),
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
    return weights_megabytes(parameters_count((inputs, *hidden, len(CLASSES))))


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
    names = reproduced_names(strategy, document(directory, FEATURES))
    shape = shape_of(config, document(directory, METADATA), len(names))
    return KtrdrModel(strategy, shape, state_dict.read(directory, shape), names, config)


def reproduced_names(strategy: Strategy, features: Mapping[str, Any]) -> tuple[str, ...]:
    """The features' names, which must be those of the strategy. Raises ModelNotReproducible."""
    try:
        ours = feature_names(strategy)
    except InvalidStrategy as error:
        raise refused(error.message) from None
    theirs = features.get("feature_names")
    if theirs != list(ours):
        raise refused("its features.json names other features than its strategy makes.")
    return ours


def shape_of(config: Mapping[str, Any], metadata: Mapping[str, Any], inputs: int) -> NetworkShape:
    """The network that KTRDR would build. Raises ModelNotReproducible."""
    model = part(config, "model")
    architecture = part(model, "architecture")
    hidden = architecture.get("hidden_layers")
    if str(model.get("type", "")).lower() != "mlp" or not is_layers(hidden):
        raise refused("its network is not a multilayer perceptron of bounded size.")
    if metadata.get("input_size") != inputs:
        raise refused(
            f"its network has {metadata.get('input_size')!s:.20} inputs and its strategy makes"
            f" {inputs} features."
        )
    if architecture.get("output_activation", "softmax") != "softmax":
        raise refused("its output is not a softmax.")
    activation = str(architecture.get("activation", "relu")).lower()
    known = activation if activation in ACTIVATIONS else "relu"  # as KTRDR does
    return NetworkShape(inputs, tuple(hidden or ()), known)


def is_layers(hidden: Any) -> bool:
    """Whether a value is a list of hidden layers of bounded size."""
    return (
        isinstance(hidden, list)
        and 1 <= len(hidden) <= limits.MAX_LAYERS
        and all(type(units) is int and 1 <= units <= limits.MAX_LAYER_UNITS for units in hidden)
    )


def document(directory: Path, name: str) -> dict[str, Any]:
    """One of the JSON documents. Raises ModelCorrupted."""
    path = regular_file(directory, name, limits.MAX_BUNDLE_JSON_BYTES)
    try:
        values = json.loads(path.read_bytes())  # KTRDR writes bare NaN
    except (OSError, ValueError, RecursionError):
        raise corrupted(name, "is not valid JSON") from None
    if not isinstance(values, dict):
        raise corrupted(name, "is not a JSON object")
    return values


def part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; empty if there is none."""
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def share(value: Any) -> float | None:
    """An accuracy, if it is one."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if known else None


def moment(text: Any) -> str:
    """A time as replies show it; KTRDR's have no zone and count as UTC. Raises ModelCorrupted."""
    try:
        when = datetime.fromisoformat(text)
        aware = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise corrupted(METADATA, "does not say when the model was made") from None
    return aware.strftime("%Y-%m-%dT%H:%M:%SZ")
