"""Noise is not called skill and planted signals are, with a model that needs no training time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.honesty.series import NOISE, garch, garch_series, planted_series
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.evaluation.backtest import backtest
from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.direction import directional_test
from ktrdr_mcp.evaluation.multiple_testing import judge_in_family
from ktrdr_mcp.evaluation.verdict import (
    Caveats,
    leak_suspected,
    prediction_verdict,
    trading_verdict,
)
from ktrdr_mcp.evaluation.walk_forward import flip_signs, sign_flip_surrogate
from ktrdr_mcp.schemas.results import TradingRule
from tests.support.quick_model import HORIZON, past_moves, predict_quickly

SERIES = 20  # of each kind of noise


def judged(bars: Bars) -> tuple[str, str]:
    """The verdicts on prediction and trading, as a family of one."""
    found = predict_quickly(bars)
    test = directional_test(found.folds, bars.time, HORIZON)
    family = judge_in_family(test.blocks, [])
    prediction = prediction_verdict(test, family, len(bars), Caveats()).prediction
    rule = TradingRule(horizon=HORIZON)
    traded = backtest(bars.time, bars.open, found.rows, found.signal, rule, 6_000.0)
    timing = judge_in_family(traded.timing_blocks, [], own_p=traded.timing_p)
    trading = trading_verdict(
        len(traded.timing_blocks),
        traded.net.total_return,
        timing,
        traded.mean_net_high,
        len(bars),
    ).trading
    return prediction, trading


def test_noise_of_any_kind_is_called_skill_or_profit_in_at_most_one_of_twenty() -> None:
    verdicts = [
        judged(make(2_000, 5_000 + seed)) for make in NOISE.values() for seed in range(SERIES)
    ]
    predictions, tradings = zip(*verdicts, strict=True)
    assert len(verdicts) == 200
    assert predictions.count("skill") <= 10
    assert tradings.count("survives_costs") <= 10
    assert predictions.count("skill") < predictions.count("no_skill")


@pytest.mark.parametrize(
    ("strength", "length", "least"), [(0.5, 24.0, 19), (0.25, 24.0, 18), (0.15, 96.0, 15)]
)
def test_planted_signals_are_found(strength: float, length: float, least: int) -> None:
    found = [judged(planted_series(5_000, seed, strength, length))[0] for seed in range(20)]
    assert found.count("skill") >= least


def correlated_trial(bars: Bars, seed: int) -> BlockSums:
    """A trial with a random mixture of past moves and of its own noise as features."""
    generator = np.random.default_rng(seed)
    base = past_moves(bars)
    mixed = base @ generator.normal(size=(base.shape[1], 1))
    own = generator.normal(size=(len(bars), 3))
    folds = predict_quickly(bars, np.concatenate([mixed, own], axis=1)).folds
    return directional_test(folds, bars.time, HORIZON).blocks


def test_the_best_of_a_hundred_trials_on_noise_is_seldom_skill() -> None:
    fooled = naive = 0
    for series in range(10):
        bars = garch_series(1_200, 900 + series)
        trials = [correlated_trial(bars, seed) for seed in range(100)]
        judgements = [judge_in_family(trial, []) for trial in trials]
        best = max(range(100), key=lambda number: judgements[number].statistic)
        others = trials[:best] + trials[best + 1 :]
        family = judge_in_family(trials[best], others)
        assert family.trials == 100
        fooled += family.adjusted_p <= 0.02
        naive += judgements[best].p <= 0.02
    assert fooled <= 1
    assert naive >= 4, "without the trial log the same trials would be believed"


def test_a_real_signal_survives_being_one_of_twenty_trials() -> None:
    bars = planted_series(5_000, 3, 0.5, 24.0)
    found = directional_test(predict_quickly(bars).folds, bars.time, HORIZON)
    others = [
        directional_test(
            predict_quickly(bars, np.random.default_rng(seed).normal(size=(5_000, 3))).folds,
            bars.time,
            HORIZON,
        ).blocks
        for seed in range(19)
    ]
    assert judge_in_family(found.blocks, others).adjusted_p <= 0.02


def peeking(bars: Bars) -> np.ndarray:
    """One bar of the future."""
    ahead = np.r_[np.diff(np.log(bars.close)), 0.0]
    return np.stack([np.ones(len(bars)), 100 * ahead], axis=1)


def centred(bars: Bars) -> np.ndarray:
    """Close over a moving average that reaches ten bars ahead."""
    price = np.log(bars.close)
    average = np.convolve(price, np.ones(21) / 21, mode="same")
    return np.stack([np.ones(len(bars)), 100 * (price - average)], axis=1)


@pytest.mark.parametrize(
    ("features", "suspected"), [(peeking, True), (centred, True), (past_moves, False)]
)
def test_sign_flip_surrogates_give_leaks_away(
    features: Callable[[Bars], np.ndarray], suspected: bool
) -> None:
    bars = garch_series(2_000, 77)
    found = []
    for number in range(4):
        twin = sign_flip_surrogate(bars, flip_signs(len(bars), 1, number))
        folds = predict_quickly(twin, features(twin)).folds
        found.append(directional_test(folds, twin.time, HORIZON).p)
    assert leak_suspected(found) is suspected


def test_the_generators_make_what_they_promise() -> None:
    returns, sigma = garch(20_000, np.random.default_rng(0))
    assert returns.std() == pytest.approx(0.005, rel=0.1)
    squared = np.square(returns)
    assert np.corrcoef(squared[1:], squared[:-1])[0, 1] > 0.05
    assert sigma.min() > 0
    for make in NOISE.values():
        bars = make(500, 1)
        assert len(bars) == 500
        assert (bars.high >= np.maximum(bars.open, bars.close)).all()
        assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    drifting = np.diff(np.log(NOISE["drift"](50_000, 2).close))
    assert drifting.mean() / drifting.std() == pytest.approx(0.1, abs=0.015)
