"""K networks at once are the K networks alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.nn import group
from ktrdr_mcp.nn.loop import NetworkSettings, TrainerSettings, train
from ktrdr_mcp.nn.perceptron import Mlp
from tests.support.training_problems import SHAPE, rows, same_bits

SETTINGS = TrainerSettings(epochs=5, batch_size=32, device="cpu")
NETWORKS = [
    NetworkSettings(seed=0, learning_rate=0.01, dropout_rate=0.2),
    NetworkSettings(seed=1, learning_rate=0.001, weight_decay=0.01),
    NetworkSettings(seed=2, learning_rate=0.03, dropout_rate=0.5),
    NetworkSettings(seed=2, learning_rate=0.03),
]


def _part(values, network):
    return [values[network]] if len(values) > 1 else values


def _alone(shape, settings, networks, data, network):
    """One of the networks, with its own part of the data."""
    own = replace(
        data,
        labels=data.labels if data.labels.ndim == 1 else data.labels[network],
        train_rows=_part(data.train_rows, network),
        validation_rows=_part(data.validation_rows, network),
        row_weights=None if data.row_weights is None else data.row_weights[network],
    )
    (result,) = train(shape, settings, [networks[network]], own, NullContext())
    return result


def _assert_same(shape, settings, networks, data):
    together = train(shape, settings, networks, data, NullContext())
    for number, result in enumerate(together):
        assert same_bits(result, _alone(shape, settings, networks, data, number)), number
    return together


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_networks_that_differ_in_everything_equal_themselves_alone(optimizer):
    settings = replace(SETTINGS, optimizer=optimizer, gradient_clip=1.0)
    results = _assert_same(SHAPE, settings, NETWORKS, rows())
    assert len({result.history for result in results}) == len(NETWORKS)


def test_each_network_may_have_its_own_labels_weights_and_rows():
    data = rows()
    random = np.random.default_rng(1)
    data = replace(
        data,
        labels=np.stack([data.labels, random.permutation(data.labels), data.labels, data.labels]),
        row_weights=random.uniform(0, 2, (4, len(data.labels))),
        train_rows=[np.arange(200), np.arange(40), np.arange(60, 190), np.arange(33)],
        validation_rows=[np.arange(200, 300), np.arange(40, 50), np.arange(290, 300), [250]],
    )
    _assert_same(SHAPE, replace(SETTINGS, class_weights=(1.0, 0.5, 2.0)), NETWORKS, data)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_network_with_fewer_steps_waits_without_moving(optimizer):
    settings = replace(SETTINGS, optimizer=optimizer, momentum=0.0 if optimizer == "adam" else 0.9)
    networks = [replace(network, weight_decay=0.01) for network in NETWORKS[:3]]
    data = rows(train_rows=[np.arange(200), np.arange(70), np.arange(10)])
    _assert_same(SHAPE, settings, networks, data)


def test_networks_that_stop_early_leave_the_others_unchanged():
    settings = replace(SETTINGS, epochs=30, patience=2)
    results = _assert_same(SHAPE, settings, NETWORKS, rows())
    assert len({result.epochs_completed for result in results}) > 1


def test_the_division_into_groups_changes_no_bit(monkeypatch):
    data = rows()
    together = train(SHAPE, SETTINGS, NETWORKS, data, NullContext())
    monkeypatch.setattr(group, "_CACHE_BYTES", 1)
    one_by_one = train(SHAPE, SETTINGS, NETWORKS, data, NullContext())
    assert all(map(same_bits, together, one_by_one))


@pytest.mark.parametrize("hidden", [(33, 17, 7), (5,), (64, 32, 16)])
def test_layers_of_odd_width_agree_within_rounding(hidden):
    shape = Mlp(6, hidden, "relu")
    settings = replace(SETTINGS, epochs=1, batch_size=20)
    together = train(shape, settings, NETWORKS, rows(), NullContext())
    for number, result in enumerate(together):
        alone = _alone(shape, settings, NETWORKS, rows(), number)
        for name, tensor in result.weights.items():
            torch.testing.assert_close(tensor, alone.weights[name], rtol=0, atol=1e-6)


def test_unequal_row_weights_teach_what_repeated_rows_teach():
    data = rows()
    doubled = np.concatenate([np.arange(200), np.arange(100)])
    weights = np.ones(300)
    weights[:100] = 2
    settings = replace(SETTINGS, batch_size=300, optimizer="sgd")
    network = [NetworkSettings(seed=0, learning_rate=0.1)]
    (weighted,) = train(SHAPE, settings, network, replace(data, row_weights=weights), NullContext())
    repeated_rows = replace(data, train_rows=[doubled])
    (repeated,) = train(SHAPE, settings, network, repeated_rows, NullContext())
    for name, tensor in weighted.weights.items():
        torch.testing.assert_close(tensor, repeated.weights[name], rtol=0, atol=1e-5)


def test_batches_whose_rows_all_weigh_nothing_teach_nothing():
    weights = np.zeros(300)
    weights[200:] = 1
    settings = replace(SETTINGS, optimizer="sgd")
    data = rows(row_weights=weights, train_rows=[np.arange(190, 205)])
    (small,) = train(SHAPE, replace(settings, batch_size=1), NETWORKS[3:], data, NullContext())
    only = replace(data, train_rows=[np.arange(200, 205)])
    (expected,) = train(SHAPE, replace(settings, batch_size=5), NETWORKS[3:], only, NullContext())
    assert np.isfinite([epoch.train_loss for epoch in small.history]).all()
    assert all(torch.isfinite(tensor).all() for tensor in small.weights.values())
    assert small.history[0].train_loss == pytest.approx(expected.history[0].train_loss, rel=0.1)
