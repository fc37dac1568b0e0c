"""Network shapes and what they compute."""

from __future__ import annotations

import pytest
import torch

from ktrdr_mcp.nn.mlp import Layout, initial_parameters, join
from ktrdr_mcp.nn.network import NetworkShape, logits
from tests.support.reference_trainer import MODULES, reference_network


@pytest.mark.parametrize("activation", list(MODULES))
def test_logits_are_those_of_torch_modules(activation):
    shape = NetworkShape(5, (8, 4), activation)
    network = reference_network(shape, 3, torch.float32)
    features = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(features)
    torch.testing.assert_close(logits(shape, network.state_dict(), features), expected)


def test_a_shape_knows_its_size_and_name():
    shape = NetworkShape(40, (64, 32, 16), "relu")
    network = reference_network(shape, 0, torch.float32)
    assert shape.parameters_count == sum(p.numel() for p in network.parameters())
    assert shape.architecture == "mlp_64_32_16"
    assert shape.layers == ((40, 64), (64, 32), (32, 16), (16, 3))


@pytest.mark.parametrize("arguments", [(0, (4,), "relu"), (3, (), "relu"), (3, (4,), "swish")])
def test_an_impossible_shape_is_refused(arguments):
    with pytest.raises(ValueError, match=r"network|activation"):
        NetworkShape(*arguments)


def test_initial_weights_fill_the_range_of_torch_linear():
    shape = NetworkShape(100, (200,), "relu")
    layout = Layout(shape, 1)
    weights = layout.weights_of(initial_parameters(layout, [0], torch.float32), 0)
    for name in ("layers.0.weight", "layers.0.bias"):
        assert weights[name].abs().max() <= 0.1
        assert weights[name].std() == pytest.approx(0.1 / 3**0.5, rel=0.1)
    assert weights["layers.0.weight"].shape == (200, 100)


def test_networks_can_be_taken_apart_and_joined():
    shape = NetworkShape(3, (4, 2), "relu")
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
