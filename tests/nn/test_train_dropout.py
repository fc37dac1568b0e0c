"""Dropout masks: right in the mean, and the same however they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ktrdr_mcp.nn.mlp import DropoutMasks

CPU = torch.device("cpu")


def _masks(rates=(0.2,), seeds=(1,), units=(64, 30), batch_rows=32):
    masks = DropoutMasks(seeds, rates, units, batch_rows, torch.float32, CPU)
    masks.begin_epoch(1)
    return masks


def _copy(steps):
    return [[mask.clone() for mask in step] for step in steps]


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_the_share_of_dropped_units_is_the_rate_and_the_mean_is_one(rate):
    values = np.concatenate(
        [mask.numpy().ravel() for step in _masks([rate]).draw(60) for mask in step]
    )
    error = np.sqrt(rate * (1 - rate) / len(values))
    assert abs((values == 0).mean() - rate) < 5 * error
    assert abs(values.mean() - 1) < 5 * error / (1 - rate)
    assert len(np.unique(values)) == 2


def test_masks_do_not_depend_on_how_many_are_drawn_at_once():
    at_once = _copy(_masks().draw(6))
    masks = _masks()
    in_parts = _copy(masks.draw(1)) + _copy(masks.draw(4)) + _copy(masks.draw(1))
    for first, second in zip(at_once, in_parts, strict=True):
        assert all(map(torch.equal, first, second))


def test_a_networks_masks_do_not_depend_on_its_neighbours():
    together = _masks((0.2, 0.5, 0.0), (1, 2, 3)).draw(2)
    for place, (seed, rate) in enumerate([(1, 0.2), (2, 0.5), (3, 0.0)]):
        alone = _masks((rate,), (seed,)).draw(2)
        for step in range(2):
            for layer in range(2):
                assert torch.equal(together[step][layer][place], alone[step][layer][0])


def test_epochs_and_seeds_have_masks_of_their_own():
    masks = _masks()
    (first,) = _copy(masks.draw(1))
    masks.begin_epoch(2)
    (second,) = _copy(masks.draw(1))
    masks.begin_epoch(1)
    (again,) = masks.draw(1)
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[0], again[0])


def test_without_dropout_every_mask_is_one():
    (step,) = _masks([0.0]).draw(1)
    assert all((mask == 1).all() for mask in step)


def test_a_rate_next_to_one_keeps_something():
    (step,) = _masks([0.9999999]).draw(1)
    assert torch.isfinite(step[0]).all()
