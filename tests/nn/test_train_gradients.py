"""The written-out backward pass against autograd, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ktrdr_mcp.nn.batches import Batches, DeviceRows
from ktrdr_mcp.nn.loop import TrainingRows
from ktrdr_mcp.nn.mlp import Backpropagation, DropoutMasks, Layout, initial_parameters
from ktrdr_mcp.nn.optimizers import GradientClip
from ktrdr_mcp.nn.perceptron import Mlp
from tests.support.reference_trainer import MODULES, reference_network, weighted_loss

CPU = torch.device("cpu")
DTYPE = torch.float64
RELATIVE = 1e-6
BATCH = 16


def _one_batch(shape, networks, class_weights, weighted_rows, dropout_rates):
    """Gradients and logits of K networks on one batch each, and what went into them."""
    random = np.random.default_rng(3)
    labels = random.integers(0, shape.outputs, (networks, BATCH))
    row_weights = random.uniform(0.1, 2, (networks, BATCH)) if weighted_rows else None
    features = random.normal(size=(BATCH, shape.inputs)).astype(np.float32)
    every = [np.arange(BATCH)]
    rows = TrainingRows(features, labels, every, every, row_weights)
    data = DeviceRows(rows, networks, class_weights, shape.outputs, DTYPE, CPU)
    block = Batches(data, range(networks), data.train_rows, BATCH).in_order().block(0, 1)
    dropout = DropoutMasks(list(range(networks)), dropout_rates, shape.hidden, BATCH, DTYPE, CPU)
    dropout.begin_epoch(1)
    (masks,) = dropout.draw(1)
    layout = Layout(shape, networks)
    parameters = initial_parameters(layout, range(networks), DTYPE)
    gradients = torch.full_like(parameters, torch.nan)
    weight = block.normalised_weight()
    target = block.negative_target(weight, shape.outputs)
    stored = target.new_empty(1, networks, layout.output_rows, BATCH)
    logits = stored[:, :, : shape.outputs]
    steps = Backpropagation(layout, parameters, gradients, BATCH)
    steps.run(block.features[0], masks, weight[0], target[0], stored[0], logits[0])
    return layout, gradients, logits[0], rows, masks


def _reference(shape, seed, class_weights, rows, masks):
    network = reference_network(shape, seed, DTYPE)
    features = torch.as_tensor(rows.features, dtype=DTYPE)
    labels = torch.as_tensor(rows.labels[seed])
    per_row = None if rows.row_weights is None else torch.as_tensor(rows.row_weights[seed])
    per_class = None if class_weights is None else torch.tensor(class_weights, dtype=DTYPE)
    logits = network(features, [mask[seed] for mask in masks])
    weighted_loss(logits, labels, per_class, per_row).backward()
    return logits.detach(), {name: value.grad for name, value in network.named_parameters()}


def _assert_close(found, expected):
    assert (found - expected).abs().max() <= RELATIVE * expected.abs().max()


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("weighted_rows", [False, True])
@pytest.mark.parametrize("class_weights", [None, (0.5, 2.0, 1.25)])
@pytest.mark.parametrize("activation", list(MODULES))
def test_gradients_agree_with_autograd(activation, class_weights, weighted_rows, networks):
    shape = Mlp(5, (9, 7, 4), activation)
    rates = [0.3, 0.0, 0.6][:networks]
    layout, gradients, logits, rows, masks = _one_batch(
        shape, networks, class_weights, weighted_rows, rates
    )
    for network in range(networks):
        expected_logits, expected = _reference(shape, network, class_weights, rows, masks)
        _assert_close(logits[network].T, expected_logits)
        found = layout.weights_of(gradients, network)
        assert found.keys() == expected.keys()
        for name in found:
            _assert_close(found[name], expected[name])


@pytest.mark.parametrize("outputs", [2, 4, 5])
def test_any_number_of_classes_has_the_right_gradients(outputs):
    shape = Mlp(4, (6,), "tanh", outputs=outputs)
    layout, gradients, _, rows, masks = _one_batch(shape, 2, None, False, [0.0, 0.0])
    for network in range(2):
        _, expected = _reference(shape, network, None, rows, masks)
        found = layout.weights_of(gradients, network)
        for name in found:
            _assert_close(found[name], expected[name])


@pytest.mark.parametrize("largest", [1e-3, 1e3])
def test_each_networks_gradient_is_clipped_by_its_own_norm(largest):
    layout = Layout(Mlp(3, (5,), "relu"), 3)
    random = torch.Generator().manual_seed(0)
    gradients = torch.randn(layout.length, generator=random, dtype=DTYPE)
    layout.view_stored(gradients)[-1][:, 3:] = 0  # the output layer's filling
    for block in layout.view_stored(gradients):
        block.mul_(torch.tensor([0.01, 1.0, 100.0]).view(3, 1, 1))
    expected = []
    for network in range(3):
        parts = [
            torch.nn.Parameter(block[network].clone()) for block in layout.view_stored(gradients)
        ]
        for part in parts:
            part.grad = part.detach().clone()
        torch.nn.utils.clip_grad_norm_(parts, largest)
        expected.append([part.grad for part in parts])
    GradientClip(layout, gradients, layout.owners(CPU), largest).apply()
    for network in range(3):
        for found, wanted in zip(layout.view_stored(gradients), expected[network], strict=True):
            torch.testing.assert_close(found[network], wanted)
