"""The same training has the figures that were recorded when its mathematics got their version."""

from __future__ import annotations

import pytest
import torch
from training_problems import SHAPE, rows

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.learn import train
from ktrdr_mcp.learn.train import NetworkSettings, Trainer, TrainerSettings

RUNS = {
    "adam": {"optimizer": "adam"},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "gradient_clip": 0.5},
    "rmsprop": {"optimizer": "rmsprop", "scheduler": {"type": "exponential", "gamma": 0.7}},
}
# by version of the mathematics: training and validation loss after the third epoch
RECORDED: dict[int, dict[str, tuple[float, float]]] = {
    1: {
        "adam": (1.090259103329545, 1.080983154954428),
        "sgd": (1.1088762700689052, 1.092321110736341),
        "rmsprop": (1.0689837120679555, 1.0553373788925642),
    },
}


@pytest.mark.parametrize("run", RUNS)
def test_a_change_of_the_mathematics_has_a_version_of_its_own(run: str) -> None:
    network = NetworkSettings(seed=5, learning_rate=0.01, weight_decay=0.01, dropout_rate=0.3)
    settings = TrainerSettings(epochs=3, batch_size=32, device="cpu", **RUNS[run])
    # in double precision, in which processors differ in the last digits alone
    trainer = Trainer(SHAPE, settings, [network], rows(), torch.float64)
    while not trainer.finished:
        trainer.run_epoch(NullContext())
    (result,) = trainer.results()
    assert train.MATHEMATICS in RECORDED, "record the figures of the new version"
    last = result.history[-1]
    assert (last.train_loss, last.val_loss) == pytest.approx(
        RECORDED[train.MATHEMATICS][run], rel=1e-9
    ), "raise MATHEMATICS, so that no run goes on from a checkpoint of the old ones"
