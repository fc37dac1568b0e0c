"""The same training has the figures that were recorded when its mathematics got their version."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn import loop
from ktrdr_mcp.nn.loop import NetworkSettings, TrainedNetwork, Trainer, TrainerSettings
from tests.support.training_problems import SHAPE, rows

# so that the two networks are at different steps from the second epoch on
ROW_COUNTS = (200, 90)
NETWORKS = (
    {"seed": 5, "learning_rate": 0.01, "weight_decay": 0.01, "dropout_rate": 0.3},
    {"seed": 6, "learning_rate": 0.005, "weight_decay": 0.02, "dropout_rate": 0.1},
)
FAST = {"learning_rate": 0.05}
RUNS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "adamw, stopped early": {
        "optimizer": "adam",
        "decoupled_decay": True,
        "class_weights": (0.5, 1.0, 2.0),
        "monitor": "val_loss",
        "patience": 2,
        "epochs": 12,
        "networks": FAST,
    },
    "sgd, in steps": {
        "optimizer": "sgd",
        "momentum": 0.9,
        "gradient_clip": 0.5,
        "scheduler": {"type": "step", "step_size": 2, "gamma": 0.3},
        "epochs": 5,
    },
    "rmsprop, stopped early": {
        "optimizer": "rmsprop",
        "momentum": 0.5,
        "scheduler": {"type": "exponential", "gamma": 0.7},
        "patience": 2,
        "epochs": 8,
    },
    # smooth, so that some epochs are just below the schedule's threshold and some just above
    "sgd, on a plateau": {
        "optimizer": "sgd",
        "scheduler": {"type": "reduce_on_plateau", "factor": 0.5, "patience": 0},
        "batch_size": 64,
        "epochs": 14,
        "networks": {"learning_rate": 0.02, "weight_decay": 0.0, "dropout_rate": 0.0},
    },
}
# of one network: the last epoch's training and validation loss, the best epoch, the epochs
# completed, the sum of the best epoch's absolute weights
Figures: TypeAlias = tuple[float, float, int, int, float]
# by version of the mathematics
RECORDED: dict[int, dict[str, tuple[Figures, Figures]]] = {
    1: {
        "adam": (
            (1.0901145195501238, 1.0779843167339764, 1, 3, 33.11125143604443),
            (1.077119864262768, 1.0727545941605299, 3, 3, 32.96851882229497),
        ),
        "adamw, stopped early": (
            (0.8973450540874451, 0.7070192644313198, 4, 6, 60.38727526766373),
            (0.796907591974511, 0.7155806674264308, 3, 5, 48.78992501032864),
        ),
        "sgd, in steps": (
            (1.1043612028824978, 1.0876069813428608, 4, 5, 36.90361879421334),
            (1.1073270564898505, 1.1110788024273537, 5, 5, 35.670486215753904),
        ),
        "rmsprop, stopped early": (
            (0.922992699108927, 0.8258829030457845, 4, 6, 23.775086846636654),
            (0.87704592648549, 0.8087978794140607, 2, 4, 29.740945304369202),
        ),
        "sgd, on a plateau": (
            (1.1102478885534877, 1.0872269696853998, 14, 14, 37.48143332921904),
            (1.099713016849363, 1.1023959578105569, 14, 14, 35.77214872889787),
        ),
    },
}


def trained(run: str) -> list[TrainedNetwork]:
    """A run in double precision, in which processors differ in the last digits alone."""
    changes = {"epochs": 3, "batch_size": 32, "device": "cpu", **RUNS[run]}
    shared = changes.pop("networks", {})
    networks = [NetworkSettings(**{**network, **shared}) for network in NETWORKS]
    weights = np.random.default_rng(1).uniform(0.5, 1.5, 300)
    data = rows(train_rows=[np.arange(count) for count in ROW_COUNTS], row_weights=weights)
    trainer = Trainer(SHAPE, TrainerSettings(**changes), networks, data, torch.float64)
    while not trainer.finished:
        trainer.run_epoch(NullContext())
    return trainer.results()


def figures(network: TrainedNetwork) -> Figures:
    """What is recorded of a network."""
    last = network.history[-1]
    size = sum(weight.abs().sum().item() for weight in network.weights.values())
    epochs = (network.best_epoch, network.epochs_completed)
    return (last.train_loss, last.val_loss, *epochs, size)


@pytest.mark.parametrize("run", RUNS)
def test_a_change_of_the_mathematics_has_a_version_of_its_own(run: str) -> None:
    assert loop.MATHEMATICS in RECORDED, "record the figures of the new version"
    recorded = [pytest.approx(each, rel=1e-9) for each in RECORDED[loop.MATHEMATICS][run]]
    assert [figures(network) for network in trained(run)] == recorded, (
        "raise MATHEMATICS, so that no run goes on from a checkpoint of the old ones"
    )
