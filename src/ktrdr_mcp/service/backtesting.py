"""Backtesting a saved model over any range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog, select_range
from ktrdr_mcp.data.series import Reach
from ktrdr_mcp.data.timestamps import format_timestamp, parse_timestamp
from ktrdr_mcp.evaluation.backtest import (
    BASIS_POINT,
    Backtest,
    trade_returns,
    trading_rule,
)
from ktrdr_mcp.features.registry import check
from ktrdr_mcp.features.timeframes import warm_up_of
from ktrdr_mcp.labels.registry import horizon_bars
from ktrdr_mcp.paths import symbol_in_file_name
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.requests import BacktestModel
from ktrdr_mcp.schemas.results import EquityPoint, TradingRule
from ktrdr_mcp.service.evaluation import MEASURED_DIGITS, round_figure
from ktrdr_mcp.service.model_cache import Loaded, day_rule, warnings
from ktrdr_mcp.training import predictor
from ktrdr_mcp.training.judgement import equity_curve

TIMING_LEVEL: Final = 0.05  # of a single test


@dataclass(frozen=True, eq=False)
class Traded:
    """A backtest and what it was made on."""

    bars: Bars
    chosen: predictor.Range
    rule: TradingRule
    run: predictor.Run
    warnings: list[str]  # of the range and the series

    @property
    def parts(self) -> dict[str, Backtest]:
        """The backtest of each part that has enough bars."""
        return self.run.backtests


def trade(loaded: Loaded, request: BacktestModel, sources: BarCatalog) -> Traded:
    """Trades a model as a request asks. Blocks.

    Args:
        loaded: the model.
        request: range, costs and rule.
        sources: where bars come from.
    Raises:
        DataError: the range has no or too few bars.
    """
    symbol = request.symbol or loaded.row.symbol
    timeframe = loaded.row.timeframe
    needed = max((warm_up_of(each, timeframe) for each in check(loaded.model.strategy)), default=0)
    reach = Reach(request.start_date, request.end_date, needed)
    series = sources.load(symbol, loaded.row.timeframe, day_rule(loaded, symbol), reach)
    bars = series.bars
    first, stop, beyond = select_range(
        bars,
        bound(bars, request.start_date, "start_date"),
        bound(bars, request.end_date, "end_date"),
    )
    chosen = predictor.Range(first, stop, find_seen(loaded, bars))
    rule = rule_of(loaded, request)
    run = predictor.run(loaded.model, bars, chosen, rule)
    return Traded(bars, chosen, rule, run, [*beyond, *series.notes])


def bound(bars: Bars, text: str | None, field: str) -> int | None:
    """A date of the request; an end date means its last nanosecond."""
    return None if text is None else bars.bound(text, field, end_of_day=field == "end_date")


def find_seen(loaded: Loaded, bars: Bars) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(bars,) whether the weights were fitted or selected on a bar, or on a label that saw it."""
    if bars.symbol != loaded.row.symbol:
        return np.zeros(len(bars), dtype=np.bool_)
    model = loaded.model
    before = bars.time < parse_timestamp(model.seen_before, "seen_before", end_of_day=False)
    if model.seen_from is None:
        return before
    first = parse_timestamp(model.seen_from, "seen_from", end_of_day=False)
    return before & (bars.time >= first)


def rule_of(loaded: Loaded, request: BacktestModel) -> TradingRule:
    """The strategy's rule, with what the request changes.

    The horizon is the one that the training measured; without one, that of the default labels.
    """
    manifest = loaded.model.manifest
    horizon = horizon_bars({}) if manifest is None else manifest.metrics.trading_rule.horizon
    chosen = {"cost_bps": request.cost_bps, "long_only": request.long_only}
    return trading_rule(loaded.model.strategy, horizon).model_copy(
        update={name: value for name, value in chosen.items() if value is not None}
    )


def reply(loaded: Loaded, request: BacktestModel, traded: Traded) -> responses.ModelBacktest:
    """The reply."""
    bars, chosen = traded.bars, traded.chosen
    return responses.ModelBacktest(
        model_name=loaded.row.model_name,
        version=loaded.row.version,
        symbol=bars.symbol,
        timeframe=bars.timeframe,
        first_bar=format_timestamp(int(bars.time[chosen.first])),
        last_bar=format_timestamp(int(bars.time[chosen.stop - 1])),
        cost_bps=traded.rule.cost_bps,
        long_only=traded.rule.long_only,
        out_of_sample=part(traded, "out_of_sample"),
        in_sample=part(traded, "in_sample"),
        summary=summary(loaded, traded),
        equity=address(request),
        warnings=traded.warnings,
    )


def part(traded: Traded, name: str) -> responses.BacktestFigures | None:
    """The figures of one part, if the range has any of it."""
    one = traded.parts.get(name)
    return None if one is None else round_figure(one.figures(), MEASURED_DIGITS)


def summary(loaded: Loaded, traded: Traded) -> str:
    """What the part out of sample says, and what a reader must know to take it rightly."""
    bars = traded.bars
    caveats = warnings(loaded, bars.symbol, bars.timestamp(traded.chosen.first))
    skipped = left_out(traded.run.parts)
    return " ".join([outcome(traded.run), *skipped, *caveats, *rules(loaded, traded.rule)])


def outcome(run: predictor.Run) -> str:
    """What the part out of sample came to."""
    unseen, bars = run.backtests.get("out_of_sample"), len(run.parts.out_of_sample)
    if unseen is None and bars:
        return (
            f"Out of sample there are {bars} bars, and trading needs {predictor.MIN_BARS}: this"
            " says nothing of the future."
        )
    if unseen is None:
        return "Every bar of the range is in sample: this says nothing of the future."
    net, held = unseen.net.total_return, unseen.buy_and_hold.total_return
    better = "more" if net > held else "less"
    earned = unseen.timing_p <= TIMING_LEVEL
    timing = "the timing earned its costs" if earned else "no evidence that timing earns its costs"
    p = f"{unseen.timing_p:.2f}" if unseen.timing_p >= 0.01 else "below 0.01"
    return (
        f"Out of sample{' (after the training)' if run.parts.after else ''}: net {net:+.1%} on"
        f" {unseen.bars} bars, {better} than holding ({held:+.1%}); {timing} (p {p},"
        " not adjusted for other trials)."
    )


def left_out(parts: predictor.Parts) -> list[str]:
    """What was not traded."""
    count = len(parts.left_out)
    return [f"{count} bars before the training are left out."] if count else []


def rules(loaded: Loaded, rule: TradingRule) -> list[str]:
    """What of the rule is not in the reply's fields and not the usual."""
    unusual = []
    if loaded.model.program and rule.max_holding_bars is None:
        unusual.append(
            f"{loaded.model.program} does not say how long a position is held: at most"
            f" {rule.holding_bars} bars after its signal here."
        )
    if rule.confidence_threshold > 0:
        unusual.append(f"A signal less probable than {rule.confidence_threshold:g} is a hold.")
    if rule.min_separation_hours > 0:
        hours = f"{rule.min_separation_hours:g}"
        unusual.append(f"Signals within {hours} h of the last that was traded are not traded.")
    return unusual


def address(request: BacktestModel) -> str:
    """The resource with the equity curve."""
    sides = {None: "-", True: "long", False: "both"}[request.long_only]
    symbol = None if request.symbol is None else symbol_in_file_name(request.symbol)
    chosen = (request.start_date, request.end_date, symbol, request.cost_bps)
    parts = ["-" if part is None else str(part) for part in chosen]
    return "/".join([f"equity://{request.model_name}", *parts, sides])


def equity(traded: Traded, points: int) -> dict[str, list[EquityPoint]]:
    """The equity curve of each part, thinned out to so many points."""
    return {name: equity_curve(one, points) for name, one in traded.parts.items()}


def trades(traded: Traded) -> dict[str, list[responses.Trade]]:
    """The trades of each part, as `trade_returns` counts them."""
    return {
        name: list(list_trades(traded.bars, one, traded.rule.cost_bps * BASIS_POINT))
        for name, one in traded.parts.items()
    }


def list_trades(bars: Bars, one: Backtest, cost: float) -> Iterator[responses.Trade]:
    """The trades of one part, oldest first.

    Args:
        bars: the series.
        one: the backtest of the part.
        cost: fraction per unit of position change.
    """
    entered = np.searchsorted(bars.time, one.time)  # the bar at whose opening a position begins
    moves = bars.open[entered + 1] / bars.open[entered] - 1
    first = np.flatnonzero(np.diff(one.position, prepend=np.nan) != 0)
    last = np.r_[first[1:], one.bars]
    held = one.position[first] != 0
    earned = trade_returns(one.position, moves, cost)
    for start, stop, net in zip(first[held], last[held], earned, strict=True):
        entry, leaving = int(entered[start]), int(entered[stop - 1]) + 1
        yield responses.Trade(
            side="long" if one.position[start] > 0 else "short",
            entry_time=bars.timestamp(entry),
            entry_price=float(bars.open[entry]),
            exit_time=bars.timestamp(leaving),
            exit_price=float(bars.open[leaving]),
            bars=int(stop - start),
            net_return=float(net),
        )
