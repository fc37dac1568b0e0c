"""T and the net return of real candidates, recomputed row by row from its weights alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.honesty.series import planted_series
from tests.support.trained_candidates import TrainedCandidates, trained_candidates

HORIZON_BARS = 8
BLOCK_BARS = 3 * HORIZON_BARS
COST = 5e-4
CONFIG = {"epochs": 6, "hidden_layers": [8], "seed": 3}


def forward(weights, features: np.ndarray) -> np.ndarray:
    """Probabilities of a relu network, in plain float64."""
    values = features.astype(np.float32).astype(np.float64)
    layers = len(weights) // 2
    for layer in range(layers):
        weight, bias = (weights[f"layers.{layer}.{name}"].numpy() for name in ("weight", "bias"))
        values = values @ weight.astype(np.float64).T + bias
        values = values if layer == layers - 1 else np.maximum(values, 0)
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def bars():
    return planted_series(1_500, 11, 0.4, 24.0)


@pytest.fixture
def trained(trial, bars) -> TrainedCandidates:
    return trained_candidates(trial, bars, CONFIG)


def block_sums(trained: TrainedCandidates) -> list[float]:
    """U over the grid's blocks of three horizons; a short one at an end joins its neighbour."""
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for member, network in trained.of_role("fold"):
        label, split = member.dataset.label, member.split
        earlier = forward(network.weights, member.view.features[split.validation])
        mean_s = math.fsum(p[0] - p[2] for p in earlier) / len(earlier)
        mean_d = math.fsum(1 - label[t] for t in split.train) / len(split.train)
        predicted = forward(network.weights, member.view.features[split.test])
        for t, p in zip(split.test.tolist(), predicted, strict=True):
            u = (p[0] - p[2] - mean_s) * (1 - label[t] - mean_d)
            block = t // BLOCK_BARS
            sums[block] = sums.get(block, 0.0) + u
            counts[block] = counts.get(block, 0) + 1
    first, *_, last = sums
    for short, neighbour in ((first, first + 1), (last, last - 1)):
        if 2 * counts[short] < BLOCK_BARS:
            sums[neighbour] += sums.pop(short)
    return [sums[block] for block in sorted(sums)]


def test_the_statistic_is_that_of_the_folds_own_earlier_means_and_blocks_of_three_horizons(
    trained,
) -> None:
    expected = block_sums(trained)
    found = trained.judgement.direction
    assert found.width_bars == BLOCK_BARS
    assert found.blocks.sums == pytest.approx(expected, abs=1e-5)
    statistic = math.fsum(expected) / math.sqrt(math.fsum(b * b for b in expected))
    assert found.statistic == pytest.approx(statistic, abs=1e-4)
    assert len(expected) > 30


def test_the_net_return_is_that_of_trading_the_folds_one_after_the_other(trained, bars) -> None:
    rows, signals = [], []
    for member, network in trained.of_role("fold"):
        predicted = forward(network.weights, member.view.features[member.split.test])
        rows += member.split.test.tolist()
        signals += [1 - int(p.argmax()) for p in predicted]
    usable = [(t, s) for t, s in zip(rows, signals, strict=True) if t + 2 < len(bars)]
    wealth, held, before, since = 1.0, 0, 0, -1
    for t, signal in usable:
        if signal:
            held, since = signal, t
        elif t - since >= HORIZON_BARS:
            held = 0
        traded = abs(held - before) + (abs(held) if t == usable[-1][0] else 0)
        wealth *= 1 + held * (bars.open[t + 2] / bars.open[t + 1] - 1) - COST * traded
        before = held
    assert trained.judgement.trading.bars == len(usable)
    assert trained.judgement.trading.net.total_return == pytest.approx(wealth - 1, abs=1e-9)


STRATEGY = """
name: careful
indicators:
  - {{name: rsi, type: rsi}}
fuzzy_sets:
  rsi: auto
decisions:
  confidence_threshold: {threshold}
"""


@pytest.mark.parametrize(("threshold", "trades"), [(0.0, True), (0.99, False)])
def test_the_verdict_trades_only_signals_as_sure_as_the_strategy_asks(
    trial, bars, threshold, trades
) -> None:
    folder = trial.root / "strategies"
    folder.mkdir()
    (folder / "careful.yaml").write_text(STRATEGY.format(threshold=threshold), encoding="utf-8")
    told = trial.run(bars, CONFIG, strategy="careful").metrics.trading
    assert (told.trades > 0) is trades
