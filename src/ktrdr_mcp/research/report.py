"""The figures of a performance reply, rounded as an agent reads them; the bundle keeps them too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.learn.evaluate import CLASSES, Evaluation
from ktrdr_mcp.learn.memory import FLOAT_BYTES
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.learn.train import TrainedNetwork
from ktrdr_mcp.research.prepare import Prepared
from ktrdr_mcp.research.spec import TrainingSpec


def performance(
    spec: TrainingSpec,
    prepared: Prepared,
    shape: NetworkShape,
    trained: TrainedNetwork,
    parts: Mapping[str, Evaluation],
    minutes: float,
) -> dict[str, Any]:
    """Everything a performance reply says, but for the task's id.

    Args:
        spec: what was trained.
        prepared: its data.
        shape: the network's shape.
        trained: the network, with the weights of its best epoch.
        parts: evaluations of "train", "validation" and "test" rows.
        minutes: how long the training took.
    """
    test, majority = parts["test"], majority_accuracy(prepared)
    times = prepared.bars.time[prepared.split.test]
    return {
        "training_metrics": training_metrics(trained, parts, minutes),
        "test_metrics": {
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "precision": test.precision,
            "recall": test.recall,
            "f1_score": test.f1_score,
            "majority_accuracy": majority,
        },
        "model_info": {
            "model_size_mb": shape.parameters_count * FLOAT_BYTES / 1e6,
            "parameters_count": shape.parameters_count,
            "architecture": shape.architecture,
        },
        "data": prepared.used.model_dump(),
        "test_period": [moment_text(int(times[0])), moment_text(int(times[-1]))],
        "predicted_shares": dict(zip(CLASSES, test.predicted_shares, strict=True)),
        "collapsed": test.collapsed,
        "summary": summary(test, majority, len(times)),
        "history": f"training://{spec.task_id}",
    }


def training_metrics(
    trained: TrainedNetwork, parts: Mapping[str, Evaluation], minutes: float
) -> dict[str, Any]:
    """Figures of the restored epoch on the rows that chose the weights."""
    train, validation = parts["train"], parts["validation"]
    return {
        "final_train_loss": train.loss,
        "final_val_loss": validation.loss,
        "final_train_accuracy": train.accuracy,
        "final_val_accuracy": validation.accuracy,
        "epochs_completed": trained.epochs_completed,
        "early_stopped": trained.early_stopped,
        "training_time_minutes": minutes,
        "best_epoch": trained.best_epoch,
    }


def majority_accuracy(prepared: Prepared) -> float:
    """Test accuracy of always answering the training rows' most frequent class."""
    labels, split = prepared.labels, prepared.split
    majority = np.bincount(labels[split.train], minlength=len(CLASSES)).argmax()
    return float((labels[split.test] == majority).mean())


def summary(test: Evaluation, majority: float, rows: int) -> str:
    """The figures in one sentence, with what they do not show."""
    if test.collapsed:
        constant = CLASSES[int(np.argmax(test.predicted_shares))]
        return (
            f"Collapsed: the model answers '{constant}' for every test row, so its test accuracy"
            f" {test.accuracy:.3f} says nothing. Try class_weights 'balanced', other labels or"
            " another strategy."
        )
    noise = 2 * math.sqrt(majority * (1 - majority) / rows)
    gain = test.accuracy - majority
    if gain <= 0:
        meaning = "not above; no evidence of skill"
    elif gain <= noise:
        meaning = "above, but within two standard errors; no evidence of skill"
    else:
        meaning = "above by more than two standard errors, which overlapping labels make too small"
    return (
        f"Test accuracy {test.accuracy:.3f} against {majority:.3f} of always answering the training"
        f" majority, on {rows} rows: {meaning}."
    )


def history(trained: TrainedNetwork) -> list[dict[str, Any]]:
    """Every epoch as JSON; losses in nats, of the training rows with dropout active."""
    names = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "learning_rate")
    return [
        {"epoch": number, **dict(zip(names, map(float, epoch), strict=True))}
        for number, epoch in enumerate(trained.history, start=1)
    ]
