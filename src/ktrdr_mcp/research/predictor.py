"""Predictions from a model's files alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.features import build
from ktrdr_mcp.features.fuzzy import membership
from ktrdr_mcp.features.scaling import Scaler
from ktrdr_mcp.learn.bundle import Bundle
from ktrdr_mcp.learn.inference import probabilities
from ktrdr_mcp.learn.ktrdr.reading import KtrdrModel
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.strategy import Strategy

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A model ready to predict."""

    strategy: Strategy  # every fuzzy set explicit
    scaler: Scaler
    shape: NetworkShape
    weights: dict[str, Any]  # tensors
    document: dict[str, Any]  # bundle.json; empty for a model that KTRDR wrote


@dataclass(frozen=True)
class Scores:
    """What a model says of some bars."""

    probabilities: Floats  # (rows, 3)
    indicators: dict[str, Floats]  # (rows,) each, in their own units


def model_of(bundle: Bundle) -> Model:
    """Rebuilds a model from its bundle."""
    document = bundle.document
    network = document["network"]
    return Model(
        strategy=Strategy.from_dict(document["strategy"]),
        scaler=Scaler.from_dict(document["scaler"]),
        shape=NetworkShape(network["inputs"], tuple(network["hidden"]), network["activation"]),
        weights=bundle.weights,
        document=document,
    )


def model_of_ktrdr(read: KtrdrModel) -> Model:
    """A model that KTRDR wrote; it has no scaler, or it would not have been read."""
    return Model(
        strategy=read.strategy,
        scaler=Scaler("none", np.zeros(read.shape.inputs), np.ones(read.shape.inputs)),
        shape=read.shape,
        weights=dict(read.weights),
        document={},
    )


def predict(model: Model, bars: Bars, rows: npt.NDArray[np.int64]) -> Scores:
    """Scores some bars, with indicators computed from the first stored bar.

    Args:
        model: the model.
        bars: the series up to the last bar wanted, or longer.
        rows: (n,) bar indices after the warm-up.
    Raises:
        DataError: the series is shorter than the indicators' warm-up.
    """
    table = build.compute_indicators(bars, model.strategy)
    _, values = build.feature_matrix(table, model.strategy)
    return Scores(
        probabilities(model.shape, model.weights, model.scaler.transform(values[rows])),
        {name: column[rows] for name, column in table.outputs.items()},
    )


def direction_memberships(strategy: Strategy, direction: float) -> dict[str, float]:
    """Fuzzy outputs of p(buy) - p(sell).

    Args:
        strategy: whose output sets.
        direction: in [-1, 1].
    """
    at = np.array([direction])
    return {
        each.name: float(membership(each.kind, each.parameters, at)[0])
        for each in strategy.output_sets
    }
