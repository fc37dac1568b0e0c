"""What a training does when it cannot go on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ktrdr_mcp.context import Cancelled, NullContext
from ktrdr_mcp.errors import Diverged, InvalidRequest, NotEnoughData, OutOfMemory
from ktrdr_mcp.nn import group
from ktrdr_mcp.nn.loop import NetworkSettings, Trainer, TrainerSettings, train
from ktrdr_mcp.nn.perceptron import Mlp
from tests.support.training_problems import SHAPE, rows, same_bits

SETTINGS = TrainerSettings(epochs=6, batch_size=16, optimizer="sgd", device="cpu")
SOUND = NetworkSettings(seed=0, learning_rate=0.01)
WILD = NetworkSettings(seed=1, learning_rate=1e6)


def test_a_diverged_training_says_when_and_at_which_rate():
    with pytest.raises(Diverged) as caught:
        train(SHAPE, SETTINGS, [WILD], rows(), NullContext())
    message = caught.value.message
    assert "epoch 1" in message
    assert "1e+06" in message
    assert "last finite loss was" in message
    assert "learning_rate" in caught.value.hint


def test_a_diverged_network_leaves_the_others_alone():
    sound, wild = train(SHAPE, SETTINGS, [SOUND, WILD], rows(), NullContext())
    (alone,) = train(SHAPE, SETTINGS, [SOUND], rows(), NullContext())
    assert same_bits(sound, alone)
    assert sound.diverged is None
    assert wild.diverged is not None
    assert wild.best_epoch == wild.epochs_completed == 0
    assert all(torch.isfinite(tensor).all() for tensor in wild.weights.values())


def test_reports_stay_finite_when_a_network_diverges():
    context = NullContext()
    train(SHAPE, SETTINGS, [SOUND, WILD], rows(), context)
    assert len(context.reports) == 6
    assert all(np.isfinite(report.train_loss) for report in context.reports)


def test_all_networks_diverged_is_a_failure():
    with pytest.raises(Diverged):
        train(SHAPE, SETTINGS, [WILD, replace(WILD, seed=2)], rows(), NullContext())


def test_a_label_outside_the_classes_is_refused_only_where_it_is_used():
    data = rows()
    labels = data.labels.copy()
    labels[250:] = -1
    used = replace(data, labels=labels, validation_rows=[np.arange(200, 250)])
    train(SHAPE, SETTINGS, [SOUND], used, NullContext())
    with pytest.raises(InvalidRequest, match="label"):
        train(SHAPE, SETTINGS, [SOUND], replace(data, labels=labels), NullContext())


@pytest.mark.parametrize("which", ["train_rows", "validation_rows"])
def test_no_rows_are_not_enough(which):
    with pytest.raises(NotEnoughData):
        train(SHAPE, SETTINGS, [SOUND], rows(**{which: [np.arange(0)]}), NullContext())


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidRequest) as caught:
        Trainer(SHAPE, replace(SETTINGS, device="cuda"), [SOUND], rows())
    assert caught.value.field == "config.device"


def test_a_network_that_does_not_fit_into_memory_is_said_to():
    enormous = Mlp(6, (10**7, 10**7), "relu")
    with pytest.raises(OutOfMemory) as caught:
        train(enormous, SETTINGS, [SOUND], rows(), NullContext())
    assert "hidden_layers" in caught.value.hint


class _StopsAt(NullContext):
    """Cancels at the n-th turn."""

    turns_left: int = 0

    def yield_turn(self) -> None:
        self.turns_left -= 1
        if self.turns_left < 0:
            raise Cancelled


def test_a_training_can_be_cancelled_at_any_step(monkeypatch):
    monkeypatch.setattr(group, "_INTERVAL_S", 0.0)  # a turn before every step
    steps_per_epoch = 13 + 1  # ceil(200 / 16), and one batch of validation rows
    for turns in (0, 5, steps_per_epoch, 2 * steps_per_epoch + 3):
        context = _StopsAt()
        context.turns_left = turns
        with pytest.raises(Cancelled):
            train(SHAPE, SETTINGS, [SOUND], rows(), context)
        assert len(context.reports) == turns // steps_per_epoch
