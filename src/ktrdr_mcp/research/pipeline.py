"""The way of a training, from its specification to a published bundle and its figures."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktrdr_mcp import durable
from ktrdr_mcp.context import Context
from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.data.sources import BarSources
from ktrdr_mcp.errors import Diverged, ModelCorrupted
from ktrdr_mcp.learn import bundle, train
from ktrdr_mcp.learn.evaluate import Evaluation, evaluate
from ktrdr_mcp.learn.inference import probabilities
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.research import report
from ktrdr_mcp.research.checkpointed import FOLDER, Keeper
from ktrdr_mcp.research.cohort import Member, cohort
from ktrdr_mcp.research.document import document
from ktrdr_mcp.research.fit import fit
from ktrdr_mcp.research.judgement import judge
from ktrdr_mcp.research.predictor import model_of, predict
from ktrdr_mcp.research.prepare import Prepared, prepare
from ktrdr_mcp.research.spec import TrainingSpec
from ktrdr_mcp.research.window import tested_window

PARITY_ROWS = 64  # the newest bars, whose probabilities prove that loading changes nothing

log = logging.getLogger(__name__)


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
    members = cohort(prepared, spec.config)
    keeper = Keeper(directory.with_name(FOLDER), spec, context)
    networks = fit(shape, spec.config, members, keeper)
    context.end_turn()
    minutes = keeper.training_s / 60
    outcome = measure(shape, spec.config, prepared, members, networks, minutes)
    metrics = report.performance(spec, prepared, outcome)
    found: dict[str, Any] = {
        "metrics": metrics,
        "scores": outcome.judgement.scores(),
        "tested_window": window_of(prepared, members),
    }
    if "request" in raw_spec:
        found["request"] = raw_spec["request"]
    publish(directory, spec, prepared, outcome, found)
    return result(bundle.read(directory).document)


def window_of(prepared: Prepared, members: Sequence[Member]) -> list[str]:
    """The time that the model and its folds were tested on; twins have bars of their own."""
    splits = [member.split for member in members if member.dataset is prepared.dataset]
    return list(tested_window(prepared.dataset, splits))


def measure(
    shape: NetworkShape,
    config: EffectiveConfig,
    prepared: Prepared,
    members: Sequence[Member],
    networks: Sequence[train.TrainedNetwork],
    minutes: float,
) -> report.Outcome:
    """Evaluates every seed, chooses the model and judges it. Raises Diverged."""
    seeds = networks[: config.seeds]
    best = best_of(seeds, config)
    measured = {
        number: evaluations(shape, network, prepared)
        for number, network in enumerate(seeds)
        if network.diverged is None
    }
    judged = [best, *range(config.seeds, len(members))]
    return report.Outcome(
        shape=shape,
        trained=seeds[best],
        parts=measured[best],
        seeds=list(measured.values()),
        judgement=judge(shape, [members[n] for n in judged], [networks[n] for n in judged], config),
        minutes=minutes,
    )


def best_of(seeds: Sequence[train.TrainedNetwork], config: EffectiveConfig) -> int:
    """The number of the seed that is best on its validation rows. Raises Diverged."""
    finite = [number for number, network in enumerate(seeds) if network.diverged is None]
    if not finite:
        raise Diverged(
            seeds[0].diverged or "The loss stopped being a finite number.",
            hint="Start again with a lower learning_rate, or set gradient_clip (1.0).",
            field="config.learning_rate",
        )
    by_loss = config.early_stopping is None or config.early_stopping.monitor == "val_loss"

    def rank(number: int) -> tuple[float, float]:
        best = seeds[number].history[seeds[number].best_epoch - 1]
        return (0.0 if by_loss else -best.val_accuracy, best.val_loss)

    return min(finite, key=rank)


def adopted(directory: Path, spec: TrainingSpec) -> dict[str, Any] | None:
    """The result of an earlier attempt that published and died before it could say so.

    Anything else is set aside: an older database that was put back does not know every result.

    Args:
        directory: what lies there; it stays if it is whole and of this specification.
        spec: what is to be trained.
    """
    earlier = earlier_result(directory, spec)
    if earlier is None:
        aside = durable.set_aside(directory)
        log.warning(
            "task %s: another training's result, or a damaged one, had its place and is kept as %s",
            spec.task_id,
            aside.name,
        )
    return earlier


def earlier_result(directory: Path, spec: TrainingSpec) -> dict[str, Any] | None:
    """The result that a folder holds, if it is whole and of this specification."""
    # Nothing has hashed the document itself.
    with contextlib.suppress(ModelCorrupted, KeyError, TypeError, ValueError):
        document = bundle.read(directory).document
        if durable.json_bytes(document["spec"]) == durable.json_bytes(spec.to_dict()):
            return result(document)
    return None


def result(document: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a bundle, and what its task's row keeps beside them.

    The window is that of the bars as they were when it trained, whatever they were at its start.
    """
    window = document.get("tested_window")
    kept = {} if window is None else dict(zip(("test_start", "test_end"), window, strict=True))
    kept |= {
        "data_fingerprint": document["data_fingerprint"],
        "current_epoch": document["metrics"]["training_metrics"]["epochs_completed"],
        "scores": json.dumps(document["scores"], allow_nan=False),
    }
    return {"metrics": document["metrics"], "columns": kept}


def evaluations(
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
    outcome: report.Outcome,
    figures: Mapping[str, Any],
) -> None:
    """Writes the bundle with the proof that it predicts what was measured."""
    rows = prepared.split.test[-PARITY_ROWS:]
    shape, trained = outcome.shape, outcome.trained
    measured = probabilities(shape, trained.weights, prepared.view.features[rows])
    base = document(spec, prepared, shape, trained.best_epoch) | dict(figures)

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
