"""Alarms speak only of what the epochs show."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn.loop import train
from ktrdr_mcp.nn.record import alarm
from ktrdr_mcp.nn.settings import EpochMetrics, NetworkSettings, TrainerSettings
from tests.support.training_problems import SHAPE, rows


def epochs(
    train_loss: Sequence[float],
    val_accuracy: Sequence[float],
    train_accuracy: float = 0.4,
    val_loss: Sequence[float] | None = None,
) -> list[EpochMetrics]:
    columns = zip(train_loss, val_loss or train_loss, val_accuracy, strict=True)
    return [
        EpochMetrics(train, validation, train_accuracy, accuracy, 0.001)
        for train, validation, accuracy in columns
    ]


MOVING = [0.40 + 0.01 * (number % 3) for number in range(12)]
DROPOUT_NOISE = [1.1 + 0.004 * (number % 3) for number in range(10)]


@pytest.mark.parametrize(
    ("history", "word"),
    [
        (epochs([1.1, 0.9, 1.5], MOVING[:3]), "diverging"),
        (epochs([1.1] * 10, MOVING[:10]), "flat"),
        (epochs(DROPOUT_NOISE, [0.3] * 10, val_loss=[1.1] * 10), "flat"),
        (epochs([1.1, 1.0, 0.95, 0.96, 0.95, 0.96, 0.95], [0.4] * 7), "collapsed"),
        (epochs([1.1, 0.5], [0.4, 0.41], train_accuracy=0.9), "overfitting"),
    ],
)
def test_each_trouble_is_named_with_what_to_try(history: list[EpochMetrics], word: str) -> None:
    said = alarm(history)
    assert said is not None
    assert said.startswith(word)
    assert ";" in said


FALLING = [1.1 - 0.01 * number for number in range(12)]


@pytest.mark.parametrize(
    "history",
    [
        epochs(FALLING, MOVING),
        epochs([1.0, 0.02, 0.031], [0.9, 0.9, 0.91]),  # a wobble near zero
        epochs([1.1, 1.07, 1.04, 1.01, 0.98], [0.45] * 5),  # it learns, on few validation rows
        epochs(DROPOUT_NOISE[:9], [0.3] * 9, val_loss=[1.1] * 9),  # not long enough to be flat
    ],
)
def test_a_sound_training_raises_no_alarm(history: list[EpochMetrics]) -> None:
    assert [alarm(history[:length]) for length in range(1, len(history) + 1)] == [None] * len(
        history
    )


def test_a_learning_rate_near_zero_is_called_flat_under_dropout() -> None:
    context = NullContext()
    settings = TrainerSettings(epochs=12, batch_size=32)
    networks = [NetworkSettings(seed=0, learning_rate=1e-9, dropout_rate=0.2)]
    (trained,) = train(SHAPE, settings, networks, rows(), context)
    losses = [epoch.train_loss for epoch in trained.history]
    assert max(losses) - min(losses) > 0.001, "dropout moves the training loss"
    said = [report.alarm or "" for report in context.reports]
    assert said[:9] == [""] * 9
    assert all(text.startswith("flat") for text in said[9:])
