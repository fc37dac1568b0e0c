"""Network shapes and what they compute."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import torch

from ktrdr_mcp.nn.loop import NetworkSettings, Trainer, TrainerSettings, TrainingRows
from ktrdr_mcp.nn.mlp import Layout, initial_parameters, join
from ktrdr_mcp.nn.network import ESTIMATORS, from_bytes, from_dict, network_of, to_bytes, to_dict
from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.schemas.config import TrainingConfig
from tests.support.reference_trainer import MODULES, reference_network


@pytest.mark.parametrize("activation", list(MODULES))
def test_logits_are_those_of_torch_modules(activation):
    shape = Mlp(5, (8, 4), activation)
    network = reference_network(shape, 3, torch.float32)
    features = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(features)
    torch.testing.assert_close(shape.forward(network.state_dict(), features), expected)


def test_a_shape_knows_its_size_and_name():
    shape = Mlp(40, (64, 32, 16), "relu")
    network = reference_network(shape, 0, torch.float32)
    assert shape.parameters_count == sum(p.numel() for p in network.parameters())
    assert shape.architecture == "mlp_64_32_16"
    assert shape.layers == ((40, 64), (64, 32), (32, 16), (16, 3))


@pytest.mark.parametrize("arguments", [(0, (4,), "relu"), (3, (), "relu"), (3, (4,), "swish")])
def test_an_impossible_shape_is_refused(arguments):
    with pytest.raises(ValueError, match=r"network|activation"):
        Mlp(*arguments)


def test_initial_weights_fill_the_range_of_torch_linear():
    shape = Mlp(100, (200,), "relu")
    layout = Layout(shape, 1)
    weights = layout.weights_of(initial_parameters(layout, [0], torch.float32), 0)
    for name in ("layers.0.weight", "layers.0.bias"):
        assert weights[name].abs().max() <= 0.1
        assert weights[name].std() == pytest.approx(0.1 / 3**0.5, rel=0.1)
    assert weights["layers.0.weight"].shape == (200, 100)


def test_networks_can_be_taken_apart_and_joined():
    shape = Mlp(3, (4, 2), "relu")
    layout = Layout(shape, 5)
    flat = initial_parameters(layout, range(5), torch.float32)
    first, second = layout.select(flat, [0, 1]), layout.select(flat, [2, 3, 4])
    parts = [(Layout(shape, 2), first), (Layout(shape, 3), second)]
    assert torch.equal(join(parts), flat)
    alone = Layout(shape, 1)
    for network in range(5):
        own = alone.weights_of(initial_parameters(alone, [network], torch.float32), 0)
        shared = layout.weights_of(flat, network)
        assert all(torch.equal(own[name], shared[name]) for name in own)


CONFIG = TrainingConfig(hidden_layers=[7, 4], activation="tanh").model_dump()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_kind_keeps_what_a_network_promises(name) -> None:
    config = {**CONFIG, "model_type": name}
    network = network_of(5, config)
    weights = network.init(3)
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    assert network.input_kind == "rows"
    assert network.forward(weights, features).shape == (6, network.outputs) == (6, 3)
    assert sum(each.numel() for each in weights.values()) == network.parameters_count
    again, other = network.init(3), network.init(4)
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert not all(torch.equal(weights[key], other[key]) for key in weights)
    stored = json.loads(json.dumps(to_dict(network)))
    assert from_dict(stored) == network
    back = from_bytes(to_bytes(weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(weights[key], back[key]) for key in weights)


def test_the_first_weights_are_those_that_training_begins_with() -> None:
    network = network_of(problem_inputs := 5, CONFIG)
    rows = TrainingRows(
        np.zeros((8, problem_inputs), dtype=np.float32),
        np.arange(8) % 3,
        [np.arange(6)],
        [np.arange(6, 8)],
    )
    settings = TrainerSettings(epochs=1, batch_size=2)
    trainer = Trainer(network, settings, [NetworkSettings(9, 0.1)], rows)
    flat = trainer.state().tensors["training.parameters"]
    begun = Layout(network, 1).weights_of(flat, 0)
    assert all(torch.equal(begun[key], each) for key, each in network.init(9).items())


@pytest.mark.parametrize(
    "form",
    [
        {"type": "cnn", "inputs": 3},
        {"inputs": 3, "hidden": [2]},
        {"inputs": 3, "hidden": 2, "activation": "relu"},
        {"inputs": 3, "hidden": [2], "activation": "softplus"},
        {"inputs": 3, "hidden": [2], "activation": "relu", "kernel": 3},
    ],
)
def test_a_form_of_no_known_network_is_refused(form) -> None:
    with pytest.raises(ValueError, match=r"type|form|activation"):
        from_dict(form)


def test_every_kind_can_be_asked_for() -> None:
    asked = get_args(TrainingConfig.model_fields["model_type"].annotation)
    assert set(asked) == set(ESTIMATORS)
