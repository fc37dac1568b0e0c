"""A training's state can be taken out and put back at any epoch's end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.errors import TrainingFailed
from ktrdr_mcp.nn import group
from ktrdr_mcp.nn.loop import NetworkSettings, Trainer, TrainerSettings, TrainerState, train
from tests.support.training_problems import SHAPE, rows, same_bits

SETTINGS = TrainerSettings(
    epochs=12,
    batch_size=32,
    patience=3,
    scheduler={"type": "reduce_on_plateau", "factor": 0.5, "patience": 0},
    device="cpu",
)
NETWORKS = [NetworkSettings(seed, 0.03, 0.001, 0.2) for seed in range(3)]


def _through_json(state):
    """What a checkpoint keeps: tensors, and values that JSON can hold."""
    return TrainerState(
        {name: tensor.clone() for name, tensor in state.tensors.items()},
        json.loads(json.dumps(state.values, allow_nan=False)),
    )


def _states(settings=SETTINGS):
    states = []
    results = train(
        SHAPE,
        settings,
        NETWORKS,
        rows(),
        NullContext(),
        at_epoch_end=lambda state: states.append(_through_json(state())),
    )
    return results, states


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_continued_training_has_the_same_bits(optimizer):
    settings = replace(SETTINGS, optimizer=optimizer, momentum=0.0 if optimizer == "adam" else 0.5)
    expected, states = _states(settings)
    assert len({result.epochs_completed for result in expected}) > 1  # some left earlier
    for state in states:
        found = train(SHAPE, settings, NETWORKS, rows(), NullContext(), resume_from=state)
        assert all(map(same_bits, expected, found))
        assert [r.early_stopped for r in found] == [r.early_stopped for r in expected]


def test_a_state_does_not_change_when_the_training_goes_on():
    trainer = Trainer(SHAPE, SETTINGS, NETWORKS, rows())
    trainer.run_epoch(NullContext())
    state = trainer.state()
    before = _through_json(state)
    trainer.run_epoch(NullContext())
    assert state.values == before.values
    assert all((state.tensors[name] == before.tensors[name]).all() for name in before.tensors)


def test_a_state_fits_another_division_into_groups(monkeypatch):
    expected, states = _states()
    monkeypatch.setattr(group, "_CACHE_BYTES", 1)
    found = train(SHAPE, SETTINGS, NETWORKS, rows(), NullContext(), resume_from=states[3])
    assert all(map(same_bits, expected, found))


def test_a_trainer_can_be_turned_back():
    trainer = Trainer(SHAPE, SETTINGS, NETWORKS, rows())
    trainer.run_epoch(NullContext())
    state = trainer.state()
    trainer.run_epoch(NullContext())
    expected = trainer.results()
    trainer.restore(state)
    assert trainer.epoch == 1
    trainer.run_epoch(NullContext())
    assert all(map(same_bits, expected, trainer.results()))


@pytest.mark.parametrize(
    ("settings", "networks"),
    [
        (replace(SETTINGS, batch_size=16), NETWORKS),
        (replace(SETTINGS, optimizer="sgd"), NETWORKS),
        (replace(SETTINGS, scheduler=None), NETWORKS),
        (SETTINGS, NETWORKS[:2]),
        (SETTINGS, [*NETWORKS[:2], NetworkSettings(9, 0.03)]),
    ],
)
def test_a_state_of_another_training_is_refused(settings, networks):
    _, states = _states()
    with pytest.raises(TrainingFailed, match="other settings"):
        train(SHAPE, settings, networks, rows(), NullContext(), resume_from=states[0])
