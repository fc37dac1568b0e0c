"""Alarms speak only of what the epochs show."""

from __future__ import annotations

import pytest

from ktrdr_mcp.learn.alarms import alarm
from ktrdr_mcp.learn.settings import EpochMetrics


def epochs(train_loss, val_accuracy, train_accuracy=0.4):
    return [
        EpochMetrics(loss, loss, train_accuracy, accuracy, 0.001)
        for loss, accuracy in zip(train_loss, val_accuracy, strict=True)
    ]


MOVING = [0.40 + 0.01 * (number % 3) for number in range(12)]


@pytest.mark.parametrize(
    ("history", "word"),
    [
        (epochs([1.1, 0.9, 1.5], MOVING[:3]), "diverging"),
        (epochs([1.1] * 10, MOVING[:10]), "flat"),
        (epochs([1.1, 1.0, 0.9, 0.8, 0.7], [0.4] * 5), "collapsed"),
        (epochs([1.1, 0.5], [0.4, 0.41], train_accuracy=0.9), "overfitting"),
    ],
)
def test_each_trouble_is_named_with_what_to_try(history, word) -> None:
    said = alarm(history)
    assert said is not None
    assert said.startswith(word)
    assert ";" in said


def test_a_sound_training_raises_no_alarm() -> None:
    falling = [1.1 - 0.01 * number for number in range(12)]
    history = epochs(falling, MOVING)
    assert all(alarm(history[:length]) is None for length in range(1, 13))
