"""The figures of a backtest against empyrical-reloaded and against a scalar loop."""

from __future__ import annotations

import math

import empyrical
import numpy as np
import pytest

from ktrdr_mcp.evaluation.backtest import Backtest, backtest, max_drawdown, performance
from ktrdr_mcp.evaluation.blocks import bootstrap_means
from ktrdr_mcp.evaluation.edge import sharpe_error, sharpe_ratio
from ktrdr_mcp.schemas.results import TradingRule

HOUR = 3_600 * 10**9
YEAR_BARS = 1_638.0


def market(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    opening = 100 * np.exp(np.cumsum(generator.normal(0.0005, 0.01, count)))
    rows = np.arange(20, count - 5)
    signal = generator.choice([0, 0, 0, 1, -1], len(rows)).astype(np.int64)
    return np.arange(count, dtype=np.int64) * HOUR, opening, rows, signal


def run(seed: int, rule: TradingRule) -> Backtest:
    return backtest(*market(seed), rule, YEAR_BARS)


def looped(seed: int, rule: TradingRule) -> dict[str, float | None]:
    """Everything again, bar by bar."""
    _, opening, rows, signal = market(seed)
    cost = rule.cost_bps / 10_000
    held = since = 0
    wealth, peak, drawdown = 1.0, 1.0, 0.0
    nets, earned, units, exposed, q, r = [], 0.0, 0.0, 0, [], []
    trades: list[float] = []
    growth = 1.0
    previous = 0
    for i, row in enumerate(rows.tolist()):
        if signal[i]:
            held, since = int(signal[i]), row
        elif row - since >= rule.horizon:
            held = 0
        now = max(held, 0) if rule.long_only else held
        if now != previous and previous:
            trades.append(growth - 1 - 2 * cost)
        if now != previous:
            growth = 1.0
        change = abs(now - previous) + (abs(now) if i == len(rows) - 1 else 0)
        move = opening[row + 2] / opening[row + 1] - 1
        growth *= 1 + now * move
        nets.append(now * move - cost * change)
        wealth *= 1 + nets[-1]
        peak = max(peak, wealth)
        drawdown = min(drawdown, wealth / peak - 1)
        earned, units, exposed = earned + now * move, units + change, exposed + (now != 0)
        q.append(now)
        r.append(move)
        previous = now
    if previous:
        trades.append(growth - 1 - 2 * cost)
    gains = sum(trade for trade in trades if trade > 0)
    losses = -sum(trade for trade in trades if trade < 0)
    mean = sum(nets) / len(nets)
    deviation = math.sqrt(sum((net - mean) ** 2 for net in nets) / (len(nets) - 1))
    return {
        "bars": len(nets),
        "net_total_return": wealth - 1,
        "sharpe": mean / deviation * math.sqrt(YEAR_BARS),
        "max_drawdown": drawdown,
        "trades": len(trades),
        "win_rate": sum(trade > 0 for trade in trades) / len(trades),
        "profit_factor": gains / losses,
        "exposure": exposed / len(nets),
        "turnover_per_year": units / len(nets) * YEAR_BARS,
        "break_even_cost_bps": earned / units * 10_000,
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "rule",
    [
        TradingRule(horizon=8),
        TradingRule(horizon=2, cost_bps=20.0),
        TradingRule(horizon=5, cost_bps=0.0, long_only=True),
    ],
)
def test_every_figure_equals_a_loop_over_bars(seed: int, rule: TradingRule) -> None:
    found = run(seed, rule).figures().model_dump()
    for name, expected in looped(seed, rule).items():
        assert found[name] == pytest.approx(expected, abs=1e-8), name


@pytest.mark.parametrize("seed", range(5))
def test_returns_are_measured_as_empyrical_measures_them(seed: int) -> None:
    returns = np.random.default_rng(seed).standard_t(4, 500) * 0.01
    found = performance(returns, 252)
    assert found.total_return == pytest.approx(empyrical.cum_returns_final(returns), abs=1e-8)
    assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(returns), abs=1e-8)
    assert found.max_drawdown == pytest.approx(empyrical.max_drawdown(returns), abs=1e-8)
    result = run(seed, TradingRule(horizon=8))
    assert result.buy_and_hold.sharpe == pytest.approx(
        empyrical.sharpe_ratio(held_returns(seed), annualization=YEAR_BARS), abs=1e-8
    )


def held_returns(seed: int) -> np.ndarray:
    _, opening, rows, _ = market(seed)
    held = opening[rows + 2] / opening[rows + 1] - 1
    held[[0, -1]] -= 0.0005
    return held


def test_buying_and_holding_earns_the_whole_move_less_both_costs() -> None:
    _, opening, rows, _ = market(1)
    free = run(1, TradingRule(horizon=8, cost_bps=0.0)).buy_and_hold
    assert free.total_return == pytest.approx(opening[rows[-1] + 2] / opening[rows[0] + 1] - 1)
    assert run(1, TradingRule(horizon=8)).buy_and_hold.total_return < free.total_return


def test_the_sharpe_error_is_the_spread_over_samples() -> None:
    generator = np.random.default_rng(0)
    samples = generator.gamma(2.0, 0.01, (4_000, 300)) - 0.018  # skewed, ratio about 0.14
    ratios = [sharpe_ratio(sample) for sample in samples]
    errors = [sharpe_error(sample) for sample in samples]
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.05)


def test_normal_returns_have_the_error_of_lo() -> None:
    returns = np.random.default_rng(1).normal(0.002, 0.01, 200_000)
    ratio = sharpe_ratio(returns)
    assert ratio is not None
    lo = math.sqrt((1 + ratio**2 / 2) / len(returns))
    assert sharpe_error(returns) == pytest.approx(lo, rel=0.01)


def test_the_last_rows_without_two_further_bars_are_not_traded() -> None:
    time, opening, _, _ = market(0)
    rows = np.arange(390, 400)
    result = backtest(time, opening, rows, np.ones(10, np.int64), TradingRule(horizon=8), YEAR_BARS)
    assert result.bars == 8
    assert result.time.tolist() == time[391:399].tolist()
    assert result.equity[-1] == pytest.approx(1 + result.net.total_return)


def test_nothing_to_trade_gives_empty_figures() -> None:
    time, opening, _, _ = market(0)
    none = np.empty(0, np.int64)
    found = backtest(time, opening, none, none, TradingRule(horizon=8), YEAR_BARS)
    assert (found.bars, found.net.total_return, found.net.sharpe, found.timing_p) == (0, 0, None, 1)
    idle = backtest(
        time, opening, np.arange(50), np.zeros(50, np.int64), TradingRule(horizon=8), YEAR_BARS
    )
    assert (idle.net.sharpe, idle.trades.trades, idle.break_even_cost_bps) == (None, 0, None)
    assert idle.timing_p == 1.0


def test_more_than_everything_cannot_be_lost() -> None:
    opening = np.array([1.0, 1.0, 3.0, 3.0, 3.0])
    signal = np.array([-1, 0, 0])
    time = np.arange(5, dtype=np.int64) * HOUR
    found = backtest(time, opening, np.arange(3), signal, TradingRule(horizon=8), YEAR_BARS)
    assert found.net.total_return == -1.0
    assert found.net.max_drawdown == -1.0
    assert max_drawdown(np.array([0.1, -0.5, 0.2])) == pytest.approx(-0.5)


def test_the_bootstrap_equals_a_plain_one_and_centres_on_the_mean() -> None:
    values = np.random.default_rng(3).normal(size=(2, 53))
    found = bootstrap_means(values, 10, seed=5, draws=40)
    starts = np.random.default_rng(5).integers(0, 53, (40, 6))
    for draw, drawn in enumerate(starts.tolist()):
        places = [(start + step) % 53 for start in drawn for step in range(10)]
        assert found[:, draw] == pytest.approx(values[:, places].mean(axis=1), abs=1e-12)
    many = bootstrap_means(values, 10, seed=6, draws=20_000)
    assert many.mean(axis=1) == pytest.approx(values.mean(axis=1), abs=0.005)
    assert bootstrap_means(values, 500, seed=1, draws=3) == pytest.approx(
        np.repeat(values.mean(axis=1)[:, None], 3, axis=1)
    )


def test_drift_is_not_taken_for_timing() -> None:
    generator = np.random.default_rng(0)
    opening = 100 * np.exp(np.cumsum(generator.normal(0.002, 0.01, 3_000)))
    rows = np.arange(2_990)
    mostly_long = generator.choice([1, 1, 1, 1, -1], len(rows))
    time = np.arange(3_000, dtype=np.int64) * HOUR
    found = backtest(
        time, opening, rows, mostly_long, TradingRule(horizon=8, cost_bps=0.0), YEAR_BARS
    )
    assert found.mean_net_low > 0, "the drift is earned"
    assert found.timing_p > 0.05, "and is no timing"


def test_a_longest_holding_time_leaves_the_blocks_as_wide_as_the_labels_say() -> None:
    usual, short = (
        run(2, TradingRule(horizon=8)),
        run(2, TradingRule(horizon=8, max_holding_bars=2)),
    )
    assert short.timing_blocks.start.tolist() == usual.timing_blocks.start.tolist()
    assert short.exposure < usual.exposure
    assert short.position.tolist() == run(2, TradingRule(horizon=2)).position.tolist()


def test_signals_within_the_least_separation_are_not_traded() -> None:
    time, opening, rows, _ = market(0)
    turning = np.where(rows % 2, 1, -1)  # every hour the other way
    for hours, expected in ((0.0, 1), (3.0, 3), (4.0, 5), (1e6, len(rows))):
        rule = TradingRule(horizon=8, min_separation_hours=hours)
        held = backtest(time, opening, rows, turning, rule, YEAR_BARS).position
        lengths = np.diff(np.flatnonzero(np.diff(held, prepend=0.0, append=2.0)))
        assert set(lengths[:-1].tolist()) <= {expected}
        assert lengths[0] == min(expected, len(held))


def test_each_bound_of_the_mean_net_return_leaves_one_draw_in_twenty_beyond_it() -> None:
    found = run(4, TradingRule(horizon=8))
    net = found.equity / np.r_[1.0, found.equity[:-1]] - 1
    draws = bootstrap_means(net[None], 16, seed=0)[0]
    assert np.mean(draws > found.mean_net_high) == pytest.approx(0.05, abs=0.001)
    assert np.mean(draws < found.mean_net_low) == pytest.approx(0.05, abs=0.001)
