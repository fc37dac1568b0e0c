"""The way of a training, from its specification to a published bundle and its figures."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np

from ktrdr_mcp import files
from ktrdr_mcp.context import Context
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import Diverged, ModelCorrupted
from ktrdr_mcp.evaluation.baselines import Baselines, baselines
from ktrdr_mcp.evaluation.metrics import CLASSES, Evaluation, class_shares, evaluate
from ktrdr_mcp.nn import loop
from ktrdr_mcp.nn.loop import TrainedNetwork
from ktrdr_mcp.nn.network import NetworkShape, probabilities
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.candidates import Candidate, fit, make_candidates
from ktrdr_mcp.training.checkpointer import FOLDER, Checkpointer
from ktrdr_mcp.training.estimate import weights_megabytes
from ktrdr_mcp.training.judgement import Judgement, equity_curve, judge, tested_window
from ktrdr_mcp.training.predictor import model_of, predict
from ktrdr_mcp.training.prepare import Prepared, prepare
from ktrdr_mcp.training.publish import document
from ktrdr_mcp.training.spec import TrainingSpec


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a training produced, measured."""

    shape: NetworkShape
    trained: TrainedNetwork  # the model: the best seed, with the weights of its best epoch
    parts: Mapping[str, Evaluation]  # of the "train", "validation" and "test" rows
    seeds: Sequence[Mapping[str, Evaluation]]  # the same of every seed
    judgement: Judgement
    minutes: float


def performance(spec: TrainingSpec, prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """Everything that a performance reply and its resource say, but for the verdict.

    Args:
        spec: what was trained.
        prepared: its data.
        outcome: what came of it.
    """
    test, simple = outcome.parts["test"], baselines_of(prepared)
    times = prepared.bars.time[prepared.split.test]
    return {
        "training_metrics": training_metrics(outcome),
        "test_metrics": {
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "precision": test.precision,
            "recall": test.recall,
            "f1_score": test.f1_score,
        },
        "baselines": asdict(simple),
        "beats_linear": test.accuracy > simple.logistic.accuracy,
        "trading": outcome.judgement.trading.figures(),
        "trading_rule": asdict(outcome.judgement.rule),
        "model_info": model_info(outcome.shape),
        "collapsed": test.collapsed,
        "seeds": seed_figures(outcome.seeds) if len(outcome.seeds) > 1 else None,
        "data": prepared.used.model_dump(),
        "test_period": [format_timestamp(int(times[0])), format_timestamp(int(times[-1]))],
        "predicted_shares": dict(zip(CLASSES, test.predicted_shares, strict=True)),
        "validation_collapsed": outcome.parts["validation"].collapsed,
        "validation_majority": float(class_shares(validation_labels(prepared)).max()),
        "walk_forward": walked(outcome.judgement),
        "equity": equity_curve(outcome.judgement.trading),
        "details": f"training://{spec.task_id}",
    }


def walked(judgement: Judgement) -> dict[str, Any]:
    """What the verdict rests on: the time, how many folds of those planned, and each of them."""
    lost = judgement.lost_folds
    return {
        "tested": judgement.tested,
        "planned": lost.planned,
        "used": lost.planned - lost.lost,
        "folds": judgement.folds,
    }


def training_metrics(outcome: Outcome) -> dict[str, Any]:
    """Figures of the restored epoch on the rows that chose the weights."""
    train, validation = outcome.parts["train"], outcome.parts["validation"]
    return {
        "final_train_loss": train.loss,
        "final_val_loss": validation.loss,
        "final_train_accuracy": train.accuracy,
        "final_val_accuracy": validation.accuracy,
        "epochs_completed": outcome.trained.epochs_completed,
        "early_stopped": outcome.trained.early_stopped,
        "training_time_minutes": outcome.minutes,
        "best_epoch": outcome.trained.best_epoch,
    }


def model_info(shape: NetworkShape) -> dict[str, Any]:
    """The network's size."""
    return {
        "model_size_mb": weights_megabytes(shape.parameters_count),
        "parameters_count": shape.parameters_count,
        "architecture": shape.architecture,
    }


def baselines_of(prepared: Prepared) -> Baselines:
    """Simple rules on the test rows of the final split."""
    dataset, split = prepared.dataset, prepared.split
    return baselines(prepared.view.features, dataset.label, dataset.end, split.train, split.test)


def validation_labels(prepared: Prepared) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(v,) class indices of the validation rows."""
    return prepared.labels[prepared.split.validation]


def seed_figures(seeds: Sequence[Mapping[str, Evaluation]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds that did not diverge."""

    def spread(part: str) -> dict[str, float]:
        values = [seed[part].accuracy for seed in seeds]
        return {"mean": fmean(values), "deviation": pstdev(values)}

    return {
        "count": len(seeds),
        "val_accuracy": spread("validation"),
        "test_accuracy": spread("test"),
    }


def history(trained: TrainedNetwork) -> list[dict[str, Any]]:
    """Every epoch as JSON; losses in nats, of the training rows with dropout active."""
    names = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "learning_rate")
    return [
        {"epoch": number, **dict(zip(names, map(float, epoch), strict=True))}
        for number, epoch in enumerate(trained.history, start=1)
    ]


PARITY_ROWS = 64  # the newest bars, whose probabilities prove that loading changes nothing

log = logging.getLogger(__name__)


def run(
    raw_spec: Mapping[str, Any], directory: Path, context: Context, sources: BarCatalog
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
    members = make_candidates(prepared, spec.config)
    keeper = Checkpointer(directory.with_name(FOLDER), spec, context)
    networks = fit(shape, spec.config, members, keeper)
    context.end_turn()
    minutes = keeper.training_s / 60
    outcome = measure(shape, spec.config, prepared, members, networks, minutes)
    metrics = performance(spec, prepared, outcome)
    found: dict[str, Any] = {
        "metrics": metrics,
        "scores": outcome.judgement.scores(),
        "tested_window": window_of(prepared, members),
    }
    if "request" in raw_spec:
        found["request"] = raw_spec["request"]
    publish(directory, spec, prepared, outcome, found)
    return result(bundle.read(directory).document)


def window_of(prepared: Prepared, members: Sequence[Candidate]) -> list[str]:
    """The time that the model and its folds were tested on; twins have bars of their own."""
    splits = [member.split for member in members if member.dataset is prepared.dataset]
    return list(tested_window(prepared.dataset, splits))


def measure(
    shape: NetworkShape,
    config: EffectiveConfig,
    prepared: Prepared,
    members: Sequence[Candidate],
    networks: Sequence[loop.TrainedNetwork],
    minutes: float,
) -> Outcome:
    """Evaluates every seed, chooses the model and judges it. Raises Diverged."""
    seeds = networks[: config.seeds]
    best = best_of(seeds, config)
    measured = {
        number: evaluations(shape, network, prepared)
        for number, network in enumerate(seeds)
        if network.diverged is None
    }
    judged = [best, *range(config.seeds, len(members))]
    return Outcome(
        shape=shape,
        trained=seeds[best],
        parts=measured[best],
        seeds=list(measured.values()),
        judgement=judge(shape, [members[n] for n in judged], [networks[n] for n in judged], config),
        minutes=minutes,
    )


def best_of(seeds: Sequence[loop.TrainedNetwork], config: EffectiveConfig) -> int:
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
        aside = files.set_aside(directory)
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
        if files.json_bytes(document["spec"]) == files.json_bytes(spec.to_dict()):
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
    shape: NetworkShape, trained: loop.TrainedNetwork, prepared: Prepared
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
    outcome: Outcome,
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
            "times": [format_timestamp(moment) for moment in prepared.bars.time[rows].tolist()],
            "probabilities": measured.tolist(),
            "largest_difference_after_loading": difference,
        }
        return {**base, "parity": parity}

    bundle.write(directory, trained.weights, history(trained), with_parity)
