"""The figures of a completed training, as its row and its bundle keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

import numpy as np

from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.learn.evaluate import CLASSES, Evaluation, class_shares
from ktrdr_mcp.learn.judge.baselines import Baselines, baselines
from ktrdr_mcp.learn.memory import weights_megabytes
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.learn.train import TrainedNetwork
from ktrdr_mcp.research.judgement import Judgement, equity_curve
from ktrdr_mcp.research.prepare import Prepared
from ktrdr_mcp.research.spec import TrainingSpec


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
        "test_period": [moment_text(int(times[0])), moment_text(int(times[-1]))],
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
