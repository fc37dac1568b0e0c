"""The same seed gives the same bits, whatever else happens in the process."""

from __future__ import annotations

import threading

import numpy as np
import torch

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn import group
from ktrdr_mcp.nn.loop import NetworkSettings, TrainerSettings, train
from tests.support.training_problems import SHAPE, rows, same_bits

SETTINGS = TrainerSettings(epochs=4, batch_size=32, device="cpu")


def _network(seed=7):
    return NetworkSettings(seed=seed, learning_rate=0.01, dropout_rate=0.3)


def _run(seed=7):
    (result,) = train(SHAPE, SETTINGS, [_network(seed)], rows(), NullContext())
    return result


def test_the_same_seed_gives_the_same_bits():
    assert same_bits(_run(), _run())


def test_another_seed_gives_another_network():
    assert not same_bits(_run(0), _run(1))


def test_a_seed_may_be_as_large_as_json_keeps_exact():
    assert same_bits(_run(2**53 - 1), _run(2**53 - 1))


def test_trainings_in_other_threads_change_nothing():
    alone = [_run(seed) for seed in range(3)]
    beside: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: beside.update({seed: _run(seed)}))
        for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_bits(alone[seed], beside[seed]) for seed in range(3))


def test_the_process_wide_generators_are_neither_read_nor_moved():
    torch.manual_seed(1)
    np.random.seed(1)
    first = _run()
    torch.manual_seed(2)
    np.random.seed(2)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert same_bits(first, _run())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_how_many_steps_are_prepared_at_once_changes_nothing(monkeypatch):
    expected = _run()
    monkeypatch.setattr(group, "_BLOCK_ELEMENTS", 1)
    assert same_bits(_run(), expected)
