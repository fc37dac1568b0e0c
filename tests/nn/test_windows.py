"""Windows that are gathered for each batch train as columns that were written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.features.inputs import Windows
from ktrdr_mcp.nn import loop
from ktrdr_mcp.nn.network import probabilities, windowed_probabilities
from ktrdr_mcp.nn.perceptron import Mlp

ROWS, FEATURES = 400, 3
WINDOWS = Windows(np.array([0, 0, 0, 0, 1, 2, 2]), np.array([0, 1, 2, 3, 0, 0, 5]))


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(2)
    features = generator.standard_normal((ROWS, FEATURES)).astype(np.float32)
    features[:8] = np.nan
    usable = np.arange(20, ROWS)
    return loop.TrainingRows(
        features=features,
        labels=generator.integers(0, 3, ROWS),
        train_rows=[usable[:250], usable[:180]],
        validation_rows=[usable[250:], usable[180:250]],
        windows=WINDOWS,
    )


def written_out(features):
    columns = [
        np.r_[np.full(lag, np.nan), features[: ROWS - lag, column]]
        for column, lag in zip(WINDOWS.columns, WINDOWS.lags, strict=True)
    ]
    return np.column_stack(columns).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 32, 300])
def test_windows_and_columns_give_the_same_bits(rows, batch_size):
    shape = Mlp(7, (5,), "relu")
    settings = loop.TrainerSettings(epochs=3, batch_size=batch_size)
    networks = [loop.NetworkSettings(seed, 0.01, dropout_rate=0.1) for seed in (0, 1)]
    columns = replace(rows, features=written_out(rows.features), windows=None)
    gathered, plain = (
        loop.train(shape, settings, networks, each, NullContext()) for each in (rows, columns)
    )
    for one, other in zip(gathered, plain, strict=True):
        assert one.history == other.history
        for name, weight in one.weights.items():
            assert torch.equal(weight, other.weights[name])


def test_windows_are_gathered_for_predictions_too(rows, monkeypatch):
    shape = Mlp(7, (5,), "relu")
    weights = shape.init(0)
    monkeypatch.setattr("ktrdr_mcp.nn.network.WINDOWED", 64)
    chosen = rows.validation_rows[0]
    found = windowed_probabilities(shape, weights, WINDOWS, rows.features, chosen)
    expected = probabilities(shape, weights, written_out(rows.features)[chosen])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
