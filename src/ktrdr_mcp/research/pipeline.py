"""The way of a training, from its specification to a published bundle and its figures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ktrdr_mcp import durable
from ktrdr_mcp.context import Context
from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.data.sources import BarSources
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.learn import bundle, train
from ktrdr_mcp.learn.evaluate import Evaluation, evaluate
from ktrdr_mcp.learn.inference import probabilities
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.research import report
from ktrdr_mcp.research.document import Parts, document
from ktrdr_mcp.research.fit import fit
from ktrdr_mcp.research.predictor import model_of, predict
from ktrdr_mcp.research.prepare import Prepared, prepare
from ktrdr_mcp.research.spec import TrainingSpec

PARITY_ROWS = 64  # the newest bars, whose probabilities prove that loading changes nothing


def run(
    raw_spec: Mapping[str, Any], directory: Path, context: Context, sources: BarSources
) -> dict[str, Any]:
    """Trains one model and publishes its bundle.

    Args:
        raw_spec: a `TrainingSpec` as JSON.
        directory: where the bundle is published; it must not exist.
        context: the way to the world while training.
        sources: where bars come from.
    Returns:
        "metrics", the figures of a performance reply, and "columns", what the task's row keeps.
    Raises:
        KtrdrError: the data or the numbers did not allow a model.
        Cancelled: the training was asked to stop.
    """
    spec = TrainingSpec.from_dict(raw_spec)
    if directory.exists() and (earlier := adopted(directory, spec)) is not None:
        return earlier
    prepared = prepare(spec, sources)
    shape = NetworkShape(
        len(prepared.view.feature_names), tuple(spec.config.hidden_layers), spec.config.activation
    )
    began = time.monotonic()
    trained = fit(shape, spec.config, prepared, context)
    context.end_turn()
    minutes = (time.monotonic() - began) / 60
    parts = judge(shape, trained, prepared)
    metrics = report.performance(spec, prepared, shape, trained, parts, minutes)
    publish(directory, spec, prepared, shape, trained, metrics)
    return result(bundle.read(directory).document)


def adopted(directory: Path, spec: TrainingSpec) -> dict[str, Any] | None:
    """The result of an earlier attempt that published and died before it could say so.

    Args:
        directory: what that attempt left; removed unless it is whole and of this specification.
        spec: what is to be trained.
    """
    with contextlib.suppress(ModelCorrupted):
        document = bundle.read(directory).document
        if durable.json_bytes(document["spec"]) == durable.json_bytes(spec.to_dict()):
            return result(document)
    durable.discard(directory)
    return None


def result(document: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a bundle, and what its task's row keeps beside them."""
    metrics = document["metrics"]
    test_start, test_end = metrics["test_period"]
    kept = {
        "data_fingerprint": document["data_fingerprint"],
        "test_start": test_start,
        "test_end": test_end,
        "current_epoch": metrics["training_metrics"]["epochs_completed"],
    }
    return {"metrics": metrics, "columns": kept}


def judge(
    shape: NetworkShape, trained: train.TrainedNetwork, prepared: Prepared
) -> dict[str, Evaluation]:
    """Evaluates the restored network on each part, without dropout."""
    split = prepared.split
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        name: evaluate(
            probabilities(shape, trained.weights, prepared.view.features[rows]),
            prepared.labels[rows],
        )
        for name, rows in parts.items()
    }


def publish(
    directory: Path,
    spec: TrainingSpec,
    prepared: Prepared,
    shape: NetworkShape,
    trained: train.TrainedNetwork,
    metrics: dict[str, Any],
) -> None:
    """Writes the bundle with the proof that it predicts what was measured."""
    rows = prepared.split.test[-PARITY_ROWS:]
    measured = probabilities(shape, trained.weights, prepared.view.features[rows])
    base = document(spec, prepared, shape, Parts(trained, metrics))

    def with_parity(weights: dict[str, Any]) -> dict[str, Any]:
        loaded = model_of(bundle.Bundle(weights, base))
        scores = predict(loaded, prepared.bars, rows)
        difference = float(np.abs(scores.probabilities - measured).max())
        parity = {
            "times": [moment_text(moment) for moment in prepared.bars.time[rows].tolist()],
            "probabilities": measured.tolist(),
            "largest_difference_after_loading": difference,
        }
        return {**base, "parity": parity}

    bundle.write(directory, trained.weights, report.history(trained), with_parity)
