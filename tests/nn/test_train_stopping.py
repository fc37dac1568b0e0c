"""Best weights, early stopping and progress."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn.loop import NetworkSettings, Trainer, TrainerSettings, train
from ktrdr_mcp.nn.record import BestEpoch
from tests.support.training_problems import SHAPE, rows

SETTINGS = TrainerSettings(epochs=15, batch_size=16, device="cpu")
NETWORK = NetworkSettings(seed=0, learning_rate=0.03)


def _measured(weights, data):
    """Validation loss and accuracy, computed by torch from weights."""
    chosen = data.validation_rows[0]
    outputs = SHAPE.forward(weights, torch.as_tensor(data.features[chosen]))
    labels = torch.as_tensor(data.labels[chosen])
    loss = torch.nn.functional.cross_entropy(outputs, labels).item()
    return loss, (outputs.argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_loss"])
def test_the_weights_are_those_of_the_best_epoch(monitor):
    settings = replace(SETTINGS, monitor=monitor)
    (result,) = train(SHAPE, settings, [NETWORK], rows(), NullContext())
    assert result.best_epoch < result.epochs_completed  # else nothing is shown
    best, last = result.history[result.best_epoch - 1], result.history[-1]
    loss, accuracy = _measured(result.weights, rows())
    assert loss == pytest.approx(best.val_loss, rel=1e-5)
    assert accuracy == pytest.approx(best.val_accuracy)
    assert loss != pytest.approx(last.val_loss, rel=1e-3)
    if monitor == "val_loss":
        assert best.val_loss == min(epoch.val_loss for epoch in result.history)
    else:
        assert best == max(result.history, key=lambda e: (e.val_accuracy, -e.val_loss))


def test_results_do_not_change_when_the_training_goes_on():
    trainer = Trainer(SHAPE, SETTINGS, [NETWORK], rows())
    trainer.run_epoch(NullContext())
    (early,) = trainer.results()
    before = {name: tensor.clone() for name, tensor in early.weights.items()}
    trainer.run_epoch(NullContext())
    assert all(torch.equal(early.weights[name], before[name]) for name in before)
    early.weights["layers.0.bias"].add_(1)  # and may be changed by the caller
    assert not torch.equal(trainer.results()[0].weights["layers.0.bias"], before["layers.0.bias"])


def test_training_stops_after_patience_epochs_without_improvement():
    settings = replace(SETTINGS, epochs=200, patience=3, monitor="val_loss")
    (result,) = train(SHAPE, settings, [NETWORK], rows(), NullContext())
    assert result.early_stopped
    assert result.epochs_completed == len(result.history) == result.best_epoch + 3


def test_a_training_that_reaches_its_last_epoch_was_not_stopped():
    (result,) = train(SHAPE, replace(SETTINGS, patience=100), [NETWORK], rows(), NullContext())
    assert not result.early_stopped
    assert result.epochs_completed == 15


def test_the_same_training_with_and_without_stopping_is_the_same_until_then():
    (full,) = train(SHAPE, replace(SETTINGS, epochs=40), [NETWORK], rows(), NullContext())
    settings = replace(SETTINGS, epochs=40, patience=4)
    (stopped,) = train(SHAPE, settings, [NETWORK], rows(), NullContext())
    assert stopped.early_stopped
    assert full.history[: stopped.epochs_completed] == stopped.history


@pytest.mark.parametrize(
    ("monitor", "epochs", "best", "waited"),
    [
        ("val_accuracy", [(1.0, 0.5), (0.9, 0.5)], 2, 0),  # a tie goes to the lower loss
        ("val_accuracy", [(1.0, 0.5), (1.1, 0.5)], 1, 1),
        ("val_accuracy", [(1.0, 0.5), (1.0, 0.5)], 1, 1),
        ("val_accuracy", [(1.0, 0.5), (2.0, 0.6), (0.1, 0.55)], 2, 1),
        ("val_accuracy", [(1.0, 0.0), (0.5, 0.0)], 2, 0),
        ("val_loss", [(1.0, 0.5), (0.9, 0.1)], 2, 0),
        ("val_loss", [(0.0, 0.5), (0.1, 0.9), (0.0, 0.9)], 1, 2),  # zero is a loss like any other
    ],
)
def test_what_counts_as_an_improvement(monitor, epochs, best, waited):
    tracker = BestEpoch()
    for number, (loss, accuracy) in enumerate(epochs, start=1):
        tracker.update(monitor, number, loss, accuracy)
    assert (tracker.epoch, tracker.epochs_without) == (best, waited)
    assert tracker.is_exhausted(waited or None) == bool(waited)
    assert not tracker.is_exhausted(waited + 1)


def test_every_epoch_is_reported_as_the_mean_of_the_networks_still_training():
    context = NullContext()
    networks = [NetworkSettings(seed, 0.03) for seed in range(3)]
    results = train(SHAPE, replace(SETTINGS, patience=2), networks, rows(), context)
    assert [report.epoch for report in context.reports] == list(range(1, len(context.reports) + 1))
    for report in context.reports:
        there = [r.history[report.epoch - 1] for r in results if len(r.history) >= report.epoch]
        assert report.val_loss == pytest.approx(fmean(epoch.val_loss for epoch in there))
        assert report.train_accuracy == pytest.approx(fmean(e.train_accuracy for e in there))
        assert report.total_epochs == 15


def test_training_accuracy_counts_every_row_once():
    data = rows(train=77)  # the last batch is not full
    (result,) = train(SHAPE, SETTINGS, [NETWORK], data, NullContext())
    shares = np.array([epoch.train_accuracy for epoch in result.history]) * 77
    np.testing.assert_allclose(shares, np.round(shares), atol=1e-9)
    assert max(shares) <= 77
