"""Backtesting a saved model over any range."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ktrdr_mcp.data.bars import Bars, LoadedBars, width_ns
from ktrdr_mcp.data.catalog import BarCatalog, select_range
from ktrdr_mcp.data.content import sketch_of
from ktrdr_mcp.data.series import Reach
from ktrdr_mcp.data.timestamps import format_timestamp, parse_timestamp
from ktrdr_mcp.evaluation.alarms import sharpe_alarms
from ktrdr_mcp.evaluation.backtest import (
    BASIS_POINT,
    Backtest,
    trade_returns,
    trading_rule,
)
from ktrdr_mcp.evaluation.blocks import BlockSums
from ktrdr_mcp.evaluation.multiple_testing import (
    FamilyJudgement,
    judge_in_family,
    level_of_trial,
)
from ktrdr_mcp.evaluation.verdict import (
    Caveats,
    TradingVerdict,
    level_text,
    p_text,
    trading_verdict,
)
from ktrdr_mcp.features.registry import check
from ktrdr_mcp.features.timeframes import warm_up_of
from ktrdr_mcp.labels.registry import horizon_bars
from ktrdr_mcp.paths import symbol_in_file_name
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.requests import BacktestModel
from ktrdr_mcp.schemas.results import Alarm, EquityPoint, FreshBacktest, TradingRule, TradingScores
from ktrdr_mcp.service.evaluation import MEASURED_DIGITS, round_figure
from ktrdr_mcp.service.model_cache import Loaded, day_rule, warnings
from ktrdr_mcp.training import predictor
from ktrdr_mcp.training.judgement import alarms_of_bars, equity_curve
from ktrdr_mcp.training.prepare import grams_until
from ktrdr_mcp.training.seen import FRESH, TESTED, TRAINING, VALIDATION, Levels

P_DIGITS: Final = 4  # as many as the draws behind it


@dataclass(frozen=True, eq=False)
class Traded:
    """A backtest and what it was made on."""

    series: LoadedBars
    chosen: predictor.Range
    rule: TradingRule
    run: predictor.Run
    warnings: list[str]  # of the range and the series

    @property
    def bars(self) -> Bars:
        """The series."""
        return self.series.bars

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
    named, known = find_seen_by_name(loaded, bars), find_seen_by_content(loaded, series)
    chosen = predictor.Range(first, stop, np.maximum(named, known))
    otherwise = (known > named) & ((named == FRESH) | (known == TRAINING))  # in another part
    beyond += warn_if_seen(int(otherwise[first:stop].sum()), stop - first)
    rule = rule_of(loaded, request)
    run = predictor.run(loaded.model, bars, chosen, rule)
    return Traded(series, chosen, rule, run, [*beyond, *series.notes])


def bound(bars: Bars, text: str | None, field: str) -> int | None:
    """A date of the request; an end date means its last nanosecond."""
    return None if text is None else bars.bound(text, field, end_of_day=field == "end_date")


def find_seen_by_content(loaded: Loaded, series: LoadedBars) -> Levels:
    """How the model has seen each bar, whatever its name and time; older models do not say."""
    levels = None if loaded.model.seen is None else loaded.model.seen.levels(series)
    return np.full(len(series.bars), FRESH, np.int8) if levels is None else levels


def warn_if_seen(count: int, bars: int) -> list[str]:
    """A sentence if bars made the model under another name or at another time.

    Args:
        count: how many of the range that symbol and time do not tell.
        bars: of the range.
    """
    if not count:
        return []
    known = f"The model has seen {count:,} of these {bars:,} bars"
    return [f"{known} under another name or at another time."]


def find_seen_by_name(loaded: Loaded, bars: Bars) -> Levels:
    """How the model has seen each bar, or a label that looks at it: by symbol and time."""
    seen = np.full(len(bars), FRESH, np.int8)
    if bars.symbol != loaded.row.symbol:
        return seen
    model = loaded.model
    first = 0 if model.seen_from is None else place_of(bars, model.seen_from)
    fitted = place_of(bars, model.fitted_before or model.seen_before)
    chosen = place_of(bars, model.seen_before)
    seen[first : place_of(bars, find_fresh_start(model))] = TESTED
    seen[first:chosen] = VALIDATION
    seen[first:fitted] = TRAINING
    return seen


def place_of(bars: Bars, moment: str) -> int:
    """How many bars open before a stored moment."""
    return int(np.searchsorted(bars.time, parse_timestamp(moment, "moment", end_of_day=False)))


def find_fresh_start(model: predictor.Model) -> str:
    """Where fresh bars of a model's own series begin."""
    return max(model.seen_before, model.chosen_before or "")


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
    """The reply, but for what the fresh bars say, which others' backtests decide."""
    bars, chosen, parts = traded.bars, traded.chosen, traded.run.parts
    return responses.ModelBacktest(
        model_name=loaded.row.model_name,
        version=loaded.row.version,
        symbol=bars.symbol,
        timeframe=bars.timeframe,
        first_bar=format_timestamp(int(bars.time[chosen.first])),
        last_bar=format_timestamp(int(bars.time[chosen.stop - 1])),
        cost_bps=traded.rule.cost_bps,
        long_only=traded.rule.long_only,
        bars=responses.SeenBars(**{name: len(rows) for name, rows in parts.named.items()}),
        out_of_sample=part(traded, "out_of_sample"),
        timing=None,
        choosing=part(traded, "choosing"),
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
    """What a reader must know to take the figures rightly."""
    bars = traded.bars
    caveats = warnings(loaded, bars.symbol, bars.timestamp(traded.chosen.first))
    skipped = describe_left_out(traded.run.parts)
    return " ".join([*skipped, *caveats, *rules(loaded, traded.rule)])


def fresh_of(loaded: Loaded, traded: Traded) -> FreshBacktest:
    """What the fresh bars came to, and what names this backtest among others."""
    rows, bars, rule = traded.run.parts.out_of_sample, traded.bars, traded.rule
    first, last = (bars.timestamp(int(rows[at])) if len(rows) else None for at in (0, -1))
    bounds = [bars.symbol, bars.timeframe, first, last]
    found = traded.parts.get("out_of_sample")
    return FreshBacktest(
        bars=len(rows),
        after=traded.run.parts.after,
        what=json.dumps([loaded.row.model_id, *bounds, rule.cost_bps, rule.long_only]),
        symbol=bars.symbol,
        first_bar=first,
        last_bar=last,
        seen_until=find_fresh_start(loaded.model),
        scores=None if found is None else found.scores(),
        sketch=None if found is None else sketch_text(traded.series, rows),
        alarms=[] if found is None else list(alarms_of(bars, rows, found)),
    )


def alarms_of(bars: Bars, rows: predictor.Rows, fresh: Backtest) -> Iterator[Alarm]:
    """What makes fresh bars, or what was earned on them, too good to be true.

    Args:
        bars: the series.
        rows: int64[n], indices of the fresh bars.
        fresh: the backtest on them.
    """
    yield from alarms_of_bars(bars, rows, rows, fresh.cost_bps)
    yield from sharpe_alarms(fresh.net.sharpe, fresh.buy_and_hold.sharpe)


def sketch_text(series: LoadedBars, rows: predictor.Rows) -> str | None:
    """The sketch of the stored bars that some bars in a row are made of.

    Args:
        series: whose bars.
        rows: int64[n], their indices, at least one.
    """
    shown = series.bars.slice(int(rows[0]), int(rows[-1]) + 1)
    first, until = int(shown.time[0]), int(shown.time[-1]) + width_ns(shown.timeframe)
    sketch = sketch_of(grams_until(series, shown).between(first, until))
    return None if sketch is None else sketch.to_text()


def judge_fresh(
    reply: responses.ModelBacktest,
    fresh: FreshBacktest,
    earlier: Sequence[TradingScores],
    recorded: bool,
) -> responses.ModelBacktest:
    """The reply with what its fresh bars say beside the backtests that were made on them before.

    Args:
        reply: without it.
        fresh: what they came to.
        earlier: scores of the others, oldest first.
        recorded: whether those of other workspaces are among them.
    """
    if reply.out_of_sample is None or fresh.scores is None:
        return reply.model_copy(
            update={"summary": f"{explain_unjudged(fresh)} {reply.summary}".strip()}
        )
    level = level_of_trial(1 + len(earlier))
    own, *others = (BlockSums.of(each.timing_blocks) for each in (fresh.scores, *earlier))
    family = judge_in_family(own, others, own_p=fresh.scores.timing_p, level=level)
    caveats = Caveats(alarms=tuple(fresh.alarms), free=fresh.scores.cost_bps == 0)
    found = trading_verdict(
        blocks=len(fresh.scores.timing_blocks.sums),
        net_total_return=fresh.scores.net_total_return,
        timing=family,
        upper_mean_net_return=fresh.scores.mean_net_high,
        bars=reply.out_of_sample.bars,
        caveats=caveats,
    )
    said = outcome(reply.out_of_sample, fresh, found, family)
    if not recorded:
        said += " Backtests of other workspaces could not be counted; see the program's log."
    timing = responses.TimingEvidence(
        verdict=found.trading,
        suspect=[alarm.name for alarm in fresh.alarms] or None,
        earlier=len(earlier),
        p=round(family.p, P_DIGITS),
        adjusted_p=round(family.adjusted_p if earlier else family.p, P_DIGITS),
        level=float(level_text(level)),
    )
    return reply.model_copy(update={"timing": timing, "summary": f"{said} {reply.summary}".strip()})


def explain_unjudged(fresh: FreshBacktest) -> str:
    """Why a range has no fresh bars that could be judged."""
    nothing = "this says nothing of the future"
    if fresh.bars:
        return (
            f"There are {fresh.bars} fresh bars, and trading needs {predictor.MIN_BARS}: {nothing}."
        )
    return (
        "Every bar of the range was seen, in training or in choosing (validation,"
        f" walk-forward): {nothing}. Fresh bars begin at {fresh.seen_until}."
    )


def outcome(
    figures: responses.BacktestFigures,
    fresh: FreshBacktest,
    found: TradingVerdict,
    family: FamilyJudgement,
) -> str:
    """What the fresh bars came to, in one sentence, and in another what is too good.

    Args:
        figures: of the fresh bars.
        fresh: the same with what names them.
        found: the verdict on them.
        family: of the timing, among the backtests before it.
    """
    net, held, earlier = figures.net_total_return, figures.buy_and_hold_return, family.trials - 1
    p = f"p {p_text(family.p)}"
    if earlier:
        s = "s" if earlier > 1 else ""
        p += f"; {p_text(family.adjusted_p)} beside {earlier} backtest{s} made before on these bars"
    said = (
        f"Fresh bars{' (after the training)' if fresh.after else ''}: net {net:+.1%} on"
        f" {figures.bars} bars, {'more' if net > held else 'less'} than holding ({held:+.1%});"
        f" {in_words(found)} ({p}; level {level_text(family.level)})."
    )
    alarms = (f"{alarm.text[:1].upper()}{alarm.text[1:]}." for alarm in fresh.alarms)
    return " ".join([said, *alarms])


def in_words(found: TradingVerdict) -> str:
    """What a verdict on trading says of the timing."""
    if found.objection is not None:
        return f"the timing would earn its costs, {found.objection}"
    if found.is_short:
        return "too few bars to judge the timing by"
    return {
        "survives_costs": "the timing earned its costs",
        "loses": "it loses: the upper 95 % bound of its mean is below zero",
        "no_timing": "no timing: what it came to is drift and costs",
        "inconclusive": "no evidence that timing earns its costs",
    }[found.trading]


def describe_left_out(parts: predictor.Parts) -> list[str]:
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


def compute_held_growth(traded: Traded, points: int) -> dict[str, list[EquityPoint]]:
    """The growth of one unit bought and held over each part, at the same points."""
    return {
        name: equity_curve(replace(one, equity=one.held), points)
        for name, one in traded.parts.items()
    }


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
