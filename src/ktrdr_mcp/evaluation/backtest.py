"""Trading on signals: positions, trades and returns after costs, beside buying and holding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.evaluation.blocks import (
    BlockSums,
    Floats,
    Integers,
    block_sums,
    block_width,
    bootstrap_means,
)
from ktrdr_mcp.evaluation.edge import Interval, ratio_interval, sharpe_error, sharpe_ratio
from ktrdr_mcp.labels.registry import HOLD
from ktrdr_mcp.schemas.responses import BacktestFigures
from ktrdr_mcp.schemas.results import MonthReturn, TradingRule, TradingScores
from ktrdr_mcp.strategy.form import Strategy


def signals_of(classes: NDArray[np.integer]) -> Integers:
    """int64[n], +1, 0, -1 for buy, hold, sell, from class numbers [n]."""
    return HOLD - np.asarray(classes, dtype=np.int64)


def confident_signals(probabilities: Floats, threshold: float) -> Integers:
    """int64[n], +1, 0, -1 by the most probable class; hold where it is less probable than asked.

    Args:
        probabilities: float64[n, 3], of buy, hold and sell.
        threshold: the least probability of a buy or sell; 0 takes every one.
    Source:
        KTRDR's decision engine, `decisions.confidence_threshold`.
    """
    sure = probabilities.max(axis=1) >= threshold
    signal: Integers = np.where(sure, signals_of(probabilities.argmax(axis=1)), 0)
    return signal


def drop_early_signals(
    signal: Integers,
    rows: Integers,
    time: Integers,
    least_ns: int,
    most_bars: int | Integers,
    long_only: bool = False,
) -> Integers:
    """Signals without those that would change the position too soon after the last that did.

    A signal that leaves the position as it is neither counts nor is dropped.

    Args:
        signal: int64[n], +1, 0, -1.
        rows: int64[n], ascending bar indices of the signals.
        time: int64[n], the opening of their bars, UTC nanoseconds.
        least_ns: from one signal that changes the position to the next, nanoseconds.
        most_bars: as in `positions`.
        long_only: as in `positions`.
    Returns:
        int64[n], with 0 for what is dropped.
    Source:
        KTRDR's decision engine, `decisions.filters.min_signal_separation`.
    """
    kept = signal.copy()
    lasting = np.broadcast_to(most_bars, len(signal))
    held, renewed, least, changed = 0, -1, 0, None
    for place in np.flatnonzero(signal).tolist():
        row, now_ns, wanted = int(rows[place]), int(time[place]), int(signal[place])
        now = held if row - renewed < least else 0
        wanted = max(wanted, 0) if long_only else wanted
        if wanted != now:
            if changed is not None and now_ns - changed < least_ns:
                kept[place] = 0
                continue
            changed = now_ns
        held, renewed, least = wanted, row, int(lasting[place])
    return kept


def positions(
    signal: Integers, rows: Integers, most_bars: int | Integers, long_only: bool = False
) -> Floats:
    """The position that each row's signal leads to, from the next bar's opening on.

    Buy is +1 and sell is -1; hold keeps the position, at most `most_bars` bars after the last buy
    or sell, then there is none. Repeating a signal renews it.

    Args:
        signal: int64[n], +1, 0, -1.
        rows: int64[n], ascending bar indices of the signals.
        most_bars: how long a position outlives its signal, the horizon of the labels; int64[n]
            where signals differ in it.
        long_only: whether sell means no position.
    Returns:
        float64[n]; element i is held from the opening of bar rows[i] + 1 to that of the next.
    """
    place = np.arange(len(signal))
    latest = np.maximum.accumulate(np.where(signal != 0, place, -1))
    lasting = np.broadcast_to(most_bars, len(signal))
    fresh = (latest >= 0) & (rows - rows[latest] < lasting[latest])
    held: Floats = np.where(fresh, signal[latest], 0).astype(np.float64)
    return np.maximum(held, 0.0) if long_only else held


@dataclass(frozen=True)
class TradeFigures:
    """What the trades came to.

    Args:
        trades: how many; reversing a position ends one and begins another.
        win_rate: share of those with a return above zero; None without trades.
        profit_factor: sum of gains over sum of losses; None without losses.
    """

    trades: int
    win_rate: float | None
    profit_factor: float | None


def trade_figures(legs: Sequence[TradedLeg], cost: float) -> TradeFigures:
    """Counts and weighs the trades of all series; `cost` is a fraction per unit of change."""
    earned = np.concatenate([trade_returns(leg.position, leg.returns, cost) for leg in legs])
    gains, losses = float(earned[earned > 0].sum()), -float(earned[earned < 0].sum())
    return TradeFigures(
        trades=len(earned),
        win_rate=float((earned > 0).mean()) if len(earned) else None,
        profit_factor=gains / losses if losses > 0 else None,
    )


def trade_returns(position: Floats, returns: Floats, cost: float) -> Floats:
    """float64[trades]: compounded return of each trade, less the cost of entry and exit.

    A trade is a stretch of bars with the same position other than zero.

    Args:
        position: float64[n].
        returns: float64[n].
        cost: fraction per unit of position change.
    """
    if not len(position):
        return np.empty(0)
    first = np.r_[0, np.flatnonzero(np.diff(position)) + 1]
    growth = np.maximum(1 + position * returns, 0)
    compounded = np.multiply.reduceat(growth, first)
    size = np.abs(position[first])
    earned: Floats = (compounded - 1 - 2 * cost * size)[size > 0]
    return earned


HORIZONS_PER_BLOCK: Final = 2
BASIS_POINT: Final = 1e-4
HOUR_NS: Final = 3_600 * 10**9


@dataclass(frozen=True)
class Performance:
    """A series of returns in figures. Fractions, not percent.

    Args:
        total_return: compounded.
        sharpe: annualised; None if returns do not vary.
        sharpe_error: its standard error.
        max_drawdown: the deepest fall from a peak, 0 or negative.
    """

    total_return: float
    sharpe: float | None
    sharpe_error: float | None
    max_drawdown: float


@dataclass(frozen=True, eq=False)
class Backtest:
    """Trading over one stretch of bars.

    Args:
        bars: how many bars were traded; fewer than 1 leaves every figure empty.
        net: after costs.
        buy_and_hold: on the same bars, after the same costs.
        trades: figures of single trades.
        exposure: share of bars with a position.
        turnover_per_year: units of position change per year.
        break_even_cost_bps: the cost per unit at which the mean net return is zero; negative if it
            is below zero without costs; None without trades.
        timing_p: bootstrap p that timing earns no more than its costs (mean z <= 0).
        timing_blocks: sums of z over blocks of two horizons; what the trial log stores.
        net_blocks: sums of net returns over the same blocks; likewise.
        mean_net_low, mean_net_high: lower and upper 95 % confidence bound, each one-sided, of the
            mean net return per bar.
        time: int64[bars], when each position is entered or kept, UTC nanoseconds.
        position: float64[bars].
        equity: float64[bars], growth of one unit after each bar, after costs.
        held: float64[bars], that of one unit bought and held, after the same costs.
        cost_bps: per unit of position change.
        gross_per_trade: basis points, before costs; None with too few trades.
        net_per_trade: the same after costs.
    """

    bars: int
    net: Performance
    buy_and_hold: Performance
    trades: TradeFigures
    exposure: float
    turnover_per_year: float
    break_even_cost_bps: float | None
    timing_p: float
    timing_blocks: BlockSums
    net_blocks: BlockSums
    mean_net_low: float
    mean_net_high: float
    time: Integers
    position: Floats
    equity: Floats
    held: Floats
    cost_bps: float
    gross_per_trade: Interval | None
    net_per_trade: Interval | None

    def scores(self) -> TradingScores:
        """What a log keeps, to judge this beside others."""
        return TradingScores(
            timing_p=self.timing_p,
            timing_blocks=self.timing_blocks.to_stored(),
            net_sums=self.net_blocks.sums.tolist(),
            mean_net_high=self.mean_net_high,
            net_total_return=self.net.total_return,
            cost_bps=self.cost_bps,
        )

    def figures(self) -> BacktestFigures:
        """The numbers of a reply; None where there is none."""
        return BacktestFigures(
            bars=self.bars,
            net_total_return=self.net.total_return,
            sharpe=self.net.sharpe,
            sharpe_error=self.net.sharpe_error,
            max_drawdown=self.net.max_drawdown,
            trades=self.trades.trades,
            win_rate=self.trades.win_rate,
            profit_factor=self.trades.profit_factor,
            exposure=self.exposure,
            turnover_per_year=self.turnover_per_year,
            break_even_cost_bps=self.break_even_cost_bps,
            buy_and_hold_return=self.buy_and_hold.total_return,
            buy_and_hold_sharpe=self.buy_and_hold.sharpe,
            buy_and_hold_max_drawdown=self.buy_and_hold.max_drawdown,
            cost_bps=self.cost_bps,
            gross_bps=None if self.gross_per_trade is None else list(self.gross_per_trade),
            net_bps=None if self.net_per_trade is None else list(self.net_per_trade),
            first_bar=format_timestamp(int(self.time[0])) if self.bars else None,
            last_bar=format_timestamp(int(self.time[-1])) if self.bars else None,
        )


@dataclass(frozen=True, eq=False)
class Leg:
    """The signals on one series.

    Args:
        time: int64[m], the opening of every bar, UTC nanoseconds.
        opening: float64[m], opening prices of all bars.
        rows: int64[n], ascending bar indices of the signals; those without two bars after them are
            not traded.
        signal: int64[n], +1 buy, 0 hold, -1 sell; the confidence threshold is already in it.
        at: int64[m], the place of each bar in the timestamps of all series.
        holding_bars: int64[n], the most bars that a position outlives its signal, where signals
            differ in it; None takes the rule's.
    """

    time: Integers
    opening: Floats
    rows: Integers
    signal: Integers
    at: Integers
    holding_bars: Integers | None = None


@dataclass(frozen=True, eq=False)
class TradedLeg:
    """One series, traded; everything is float64[n], one for each signal that is traded."""

    rows: Integers
    at: Integers
    returns: Floats
    position: Floats
    change: Floats
    net: Floats
    timing: Floats
    held: Floats

    @property
    def gross(self) -> Floats:
        """Returns before costs."""
        gross: Floats = self.position * self.returns
        return gross

    @property
    def entries(self) -> Floats:
        """1 where a trade begins, else 0."""
        begins = np.diff(self.position, prepend=0.0) != 0
        entries: Floats = (begins & (self.position != 0)).astype(np.float64)
        return entries


def backtest(
    time: Integers,
    opening: Floats,
    rows: Integers,
    signal: Integers,
    rule: TradingRule,
    bars_per_year: float,
    seed: int = 0,
) -> Backtest:
    """Trades signals on one series; see `backtest_legs`, and `Leg` for the first arguments."""
    leg = Leg(time, opening, rows, signal, np.arange(len(time)))
    return backtest_legs([leg], time, rule, bars_per_year, seed)


def backtest_legs(
    legs: Sequence[Leg],
    timestamps: Integers,
    rule: TradingRule,
    per_year: float,
    seed: int = 0,
) -> Backtest:
    """Trades each series for itself, with an equal share of the capital.

    The last position is closed, and paid for, at the last opening.

    Args:
        legs: at least one.
        timestamps: int64[t], every opening of a bar of any of them, UTC nanoseconds, ascending.
        rule: how signals are traded.
        per_year: timestamps of a year, counted from the data.
        seed: of the bootstrap.
    """
    traded = [trade(leg, rule) for leg in legs]
    place = np.unique(np.concatenate([leg.at for leg in traded]))
    net, timing, held, position, gross, entries = (
        average_series([getattr(leg, name) for leg in traded], traded, place)
        for name in ("net", "timing", "held", "position", "gross", "entries")
    )
    width = block_width(len(place), HORIZONS_PER_BLOCK * rule.horizon)
    timing_p, low, high = bootstrap_bounds(timing, net, width, seed)
    rows = sum(len(leg.rows) for leg in traded)
    in_market = sum(np.count_nonzero(leg.position) for leg in traded)
    units = sum(float(leg.change.sum()) for leg in traded) / len(traded)
    return Backtest(
        bars=len(place),
        net=performance(net, per_year),
        buy_and_hold=performance(held, per_year),
        trades=trade_figures(traded, rule.cost_bps * BASIS_POINT),
        exposure=float(in_market / rows) if rows else 0.0,
        turnover_per_year=units * per_year / max(len(place), 1),
        break_even_cost_bps=break_even_cost_bps(traded),
        timing_p=timing_p,
        timing_blocks=block_sums(timing, place, timestamps, width),
        net_blocks=block_sums(net, place, timestamps, width),
        mean_net_low=low,
        mean_net_high=high,
        time=timestamps[place + 1],
        position=position,
        equity=np.cumprod(1 + net, dtype=np.float64),
        held=np.cumprod(1 + held, dtype=np.float64),
        cost_bps=rule.cost_bps,
        gross_per_trade=in_basis_points(ratio_interval(gross, entries, place, timestamps, width)),
        net_per_trade=in_basis_points(ratio_interval(net, entries, place, timestamps, width)),
    )


def in_basis_points(found: Interval | None) -> Interval | None:
    """A fraction with its interval, in basis points."""
    return None if found is None else Interval(*(end / BASIS_POINT for end in found))


def trade(leg: Leg, rule: TradingRule) -> TradedLeg:
    """Trades one series."""
    tradable = leg.rows + 2 < len(leg.opening)
    rows, signal = leg.rows[tradable], leg.signal[tradable]
    returns = leg.opening[rows + 2] / leg.opening[rows + 1] - 1
    lasting = rule.holding_bars if leg.holding_bars is None else leg.holding_bars[tradable]
    position = positions_by(rule, signal, rows, leg.time, lasting)
    change = position_changes(position)
    cost = rule.cost_bps * BASIS_POINT
    return TradedLeg(
        rows=rows,
        at=leg.at[rows],
        returns=returns,
        position=position,
        change=change,
        net=net_returns(position, returns, change, cost),
        timing=timing_returns(position, returns, change, cost),
        held=held_returns(returns, cost),
    )


def average_series(values: Sequence[Floats], legs: Sequence[TradedLeg], place: Integers) -> Floats:
    """float64[p], the mean over all series at each place; a series without a bar there adds 0."""
    if len(legs) == 1:
        return values[0]
    total = np.zeros(len(place))
    for each, leg in zip(values, legs, strict=True):
        total[np.searchsorted(place, leg.at)] += each
    return total / len(legs)


def positions_by(
    rule: TradingRule, signal: Integers, rows: Integers, time: Integers, bars: int | Integers
) -> Floats:
    """float64[n], the position that each signal leads to.

    Args:
        rule: the rest of how signals are traded.
        signal, rows, time: as in `backtest`.
        bars: as in `positions`, its most_bars.
    """
    long_only = rule.long_only
    if rule.min_separation_hours > 0:
        least_ns = round(rule.min_separation_hours * HOUR_NS)
        signal = drop_early_signals(signal, rows, time[rows], least_ns, bars, long_only)
    return positions(signal, rows, bars, long_only)


def held_returns(returns: Floats, cost: float) -> Floats:
    """float64[n], net returns of buying at the first bar and selling at the end."""
    held = np.ones(len(returns))
    return net_returns(held, returns, position_changes(held), cost)


def position_changes(position: Floats) -> Floats:
    """float64[n], units bought or sold at each bar; the last also has the closing of it all."""
    change: Floats = np.abs(np.diff(position, prepend=0.0))
    if len(change):
        change[-1] += abs(position[-1])
    return change


def net_returns(position: Floats, returns: Floats, change: Floats, cost: float) -> Floats:
    """float64[n], q r - c |dq|, never below -1: more than everything cannot be lost."""
    net: Floats = np.maximum(position * returns - cost * change, -1.0)
    return net


def timing_returns(position: Floats, returns: Floats, change: Floats, cost: float) -> Floats:
    """float64[n], z = (q - mean q)(r - mean r) - c |dq|: earned by when, not by how much.

    Being long of something that drifts up earns nothing here, so drift does not look like skill.
    """
    if not len(position):
        return np.empty(0)
    timing: Floats = (position - position.mean()) * (returns - returns.mean()) - cost * change
    return timing


def break_even_cost_bps(legs: Sequence[TradedLeg]) -> float | None:
    """The cost per unit of position change at which the mean net return is zero."""
    units = sum(float(leg.change.sum()) for leg in legs)
    gross = sum(float((leg.position * leg.returns).sum()) for leg in legs)
    return gross / units / BASIS_POINT if units else None


def bootstrap_bounds(
    timing: Floats, net: Floats, width_bars: int, seed: int
) -> tuple[float, float, float]:
    """p(mean z <= 0), and the 5 % and 95 % quantiles of the mean net return per bar.

    Each bound is one-sided, as the test of z is: "loses" errs as rarely as "survives costs".

    Args:
        timing: float64[n], z.
        net: float64[n].
        width_bars: of the blocks.
        seed: of the draws.
    """
    if not len(net):
        return 1.0, 0.0, 0.0
    z_mean, net_mean = bootstrap_means(np.stack([timing, net]), width_bars, seed)
    p = (1 + int(np.count_nonzero(z_mean <= 0))) / (1 + len(z_mean))
    low, high = np.quantile(net_mean, [0.05, 0.95]).tolist()
    return p, low, high


def monthly_returns(time: Integers, equity: Floats) -> list[MonthReturn]:
    """The net return of each month that has bars, UTC.

    Args:
        time: int64[n], ascending, UTC nanoseconds.
        equity: float64[n], growth of one unit after each.
    """
    month = time.astype("datetime64[ns]").astype("datetime64[M]")
    before, found = 1.0, []
    for place in np.flatnonzero(np.append(month[1:] != month[:-1], len(month) > 0)).tolist():
        after = float(equity[place])
        earned = after / before - 1 if before > 0 else 0.0
        found.append(MonthReturn(month=str(month[place]), net_return=earned))
        before = after
    return found


def performance(returns: Floats, bars_per_year: float) -> Performance:
    """Figures of a series of returns.

    Args:
        returns: float64[n], per bar, at least -1.
        bars_per_year: to annualise the Sharpe ratio by its root.
    """
    ratio, error = sharpe_ratio(returns), sharpe_error(returns)
    year = math.sqrt(bars_per_year)
    return Performance(
        total_return=float(np.prod(1 + returns)) - 1,
        sharpe=None if ratio is None else ratio * year,
        sharpe_error=None if error is None else error * year,
        max_drawdown=max_drawdown(returns),
    )


def max_drawdown(returns: Floats) -> float:
    """The deepest fall of compounded wealth from a peak, the start included; 0 or negative."""
    wealth = np.cumprod(np.r_[1.0, 1 + returns])
    return float((wealth / np.maximum.accumulate(wealth) - 1).min())


def trading_rule(strategy: Strategy, horizon: int) -> TradingRule:
    """The rule of a strategy's `decisions`, else long and short at 5 basis points.

    Args:
        strategy: its `decisions` may set long_only, cost_bps, max_holding_bars,
            confidence_threshold and filters.min_signal_separation (hours).
        horizon: how far its labels look ahead, in bars.
    """
    decisions = strategy.decisions
    longest = decisions.get("max_holding_bars")
    separation = decisions.get("filters", {}).get("min_signal_separation", 0.0)
    return TradingRule(
        horizon=horizon,
        cost_bps=float(decisions.get("cost_bps", TradingRule.model_fields["cost_bps"].default)),
        long_only=bool(decisions.get("long_only", False)),
        max_holding_bars=None if longest is None else int(longest),
        confidence_threshold=float(decisions.get("confidence_threshold", 0.0)),
        min_separation_hours=float(separation),
    )
