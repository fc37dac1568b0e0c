"""Whole runs against torch's own autograd, optimizers and schedulers."""

from __future__ import annotations

import pytest
import torch

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn.loop import NetworkSettings, Trainer, TrainerSettings
from ktrdr_mcp.nn.perceptron import Mlp
from tests.support.reference_trainer import MODULES, Problem, train_slowly
from tests.support.training_problems import rows

RUNS = {
    "adam": {},
    "adam with L2 decay": {"decay": 0.01},
    "adam with decoupled decay": {"decay": 0.1, "decoupled_decay": True},
    "sgd": {"optimizer": "sgd", "rate": 0.1},
    "sgd with momentum and decay": {
        "optimizer": "sgd",
        "rate": 0.05,
        "momentum": 0.9,
        "decay": 0.01,
    },
    "rmsprop": {"optimizer": "rmsprop"},
    "rmsprop with momentum and decay": {
        "optimizer": "rmsprop",
        "momentum": 0.5,
        "decay": 0.01,
    },
    "clipped": {"optimizer": "sgd", "rate": 0.2, "gradient_clip": 0.3},
    "class weights": {"class_weights": (0.5, 1.0, 2.0)},
    "dropout": {"dropout": 0.4},
    "step": {"scheduler": {"type": "step", "step_size": 2, "gamma": 0.3}},
    "exponential": {"scheduler": {"type": "exponential", "gamma": 0.7}},
    "plateau": {
        "optimizer": "sgd",
        "rate": 3.0,
        "scheduler": {"type": "reduce_on_plateau", "factor": 0.4, "patience": 1},
    },
}


def _settings(run, epochs):
    run = dict(run)
    network = NetworkSettings(
        seed=5,
        learning_rate=run.pop("rate", 0.01),
        weight_decay=run.pop("decay", 0.0),
        dropout_rate=run.pop("dropout", 0.0),
    )
    return network, TrainerSettings(epochs=epochs, batch_size=32, device="cpu", **run)


def _compare(shape, run, dtype, tolerance, epochs=6):
    network, settings = _settings(run, epochs)
    data = rows()
    problem = Problem(
        torch.as_tensor(data.features, dtype=dtype),
        torch.as_tensor(data.labels),
        data.train_rows[0],
        data.validation_rows[0],
    )
    slow = train_slowly(shape, settings, network, problem, dtype)
    trainer = Trainer(shape, settings, [network], data, dtype)
    while not trainer.finished:
        trainer.run_epoch(NullContext())
    (fast,) = trainer.results()
    assert [epoch.learning_rate for epoch in fast.history] == pytest.approx(slow.rates)
    assert [epoch.val_loss for epoch in fast.history] == pytest.approx(
        slow.val_losses, rel=tolerance
    )
    if settings.class_weights is None:  # torch averages batches, not rows
        assert [epoch.train_loss for epoch in fast.history] == pytest.approx(
            slow.train_losses, rel=tolerance
        )
    assert [epoch.val_accuracy for epoch in fast.history] == pytest.approx(slow.val_accuracies)
    for name, found in fast.weights.items():
        expected = slow.weights[fast.best_epoch - 1][name]
        assert (found - expected).abs().max() < tolerance, name


@pytest.mark.parametrize("run", list(RUNS))
def test_a_run_ends_where_torch_ends_in_float64(run):
    _compare(Mlp(6, (12, 8), "relu"), RUNS[run], torch.float64, 1e-9)


@pytest.mark.parametrize("activation", list(MODULES))
def test_a_run_with_every_activation_ends_where_torch_ends(activation):
    run = {"dropout": 0.2, "decay": 0.001}
    _compare(Mlp(6, (12, 8), activation), run, torch.float64, 1e-9)
    _compare(Mlp(6, (12, 8), activation), run, torch.float32, 1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_run_in_single_precision_stays_with_torch(optimizer):
    run = {"optimizer": optimizer, "dropout": 0.2}
    _compare(Mlp(6, (16, 8), "relu"), run, torch.float32, 1e-4)
