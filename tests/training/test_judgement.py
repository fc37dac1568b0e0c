"""T and the net return of real candidates, recomputed row by row from its weights alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.honesty.series import planted_series
from tests.support.trained_candidates import TrainedCandidates, trained_candidates

HORIZON_BARS = 8
BLOCK_BARS = 6 * HORIZON_BARS
LEVEL_BARS = 60 * HORIZON_BARS
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
    """What N owes to the blocks of the grid, rows that only train included.

    A short block at an end joins its neighbour.
    """
    folds = trained.of_role("fold")
    newest = folds[-1][0]
    rows = [*newest.split.train.tolist(), *newest.split.test.tolist()]
    mean_d = math.fsum(1 - newest.dataset.label[t] for t in rows) / len(rows)
    sums: dict[int, float] = {}
    counts: dict[int, set[int]] = {}

    def add(t: int, value: float) -> None:
        sums[t // BLOCK_BARS] = sums.get(t // BLOCK_BARS, 0.0) + value
        counts.setdefault(t // BLOCK_BARS, set()).add(t)

    for member, network in folds:
        label, split = member.dataset.label, member.split
        earlier = forward(network.weights, member.view.features[split.validation])
        known = [p[0] - p[2] for p in earlier]
        total = 0.0
        predicted = forward(network.weights, member.view.features[split.test])
        for t, p in zip(split.test.tolist(), predicted, strict=True):
            newest_scores = known[-LEVEL_BARS:]
            deviation = p[0] - p[2] - math.fsum(newest_scores) / len(newest_scores)
            known.append(p[0] - p[2])
            total += deviation
            add(t, deviation * (1 - label[t] - mean_d))
        for t in split.train.tolist():
            add(t, -total / len(split.train) * (1 - label[t] - mean_d))
    order = sorted(sums)
    for short, neighbour in ((order[0], order[1]), (order[-1], order[-2])):
        if 2 * len(counts[short]) < BLOCK_BARS:
            sums[neighbour] += sums.pop(short)
    return [sums[block] for block in sorted(sums)]


def test_the_statistic_is_that_of_the_folds_own_earlier_means_and_blocks_of_six_horizons(
    trained,
) -> None:
    expected = block_sums(trained)
    found = trained.judgement.direction
    assert found.width_bars == BLOCK_BARS
    assert found.blocks.sums == pytest.approx(expected, abs=1e-5)
    statistic = math.fsum(expected) / math.sqrt(math.fsum(b * b for b in expected))
    assert found.statistic == pytest.approx(statistic, abs=1e-4)
    assert len(expected) > 25
    assert 15 < found.tested_blocks < 22


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
