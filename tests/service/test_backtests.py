"""What a backtest of a saved model counts as seen, and the rule it trades by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.api.operations import BACKTEST_MODEL
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.results import Alarm, Blocks, FreshBacktest, TradingScores
from ktrdr_mcp.service import backtesting
from ktrdr_mcp.training.bundle import read_manifest
from tests.support import sample_replies
from tests.support.service_calls import history_of

pytestmark = pytest.mark.asyncio

STRATEGY = (
    "name: ruled\nindicators:\n  - {name: rsi, type: rsi, params: {period: 14}}\n"
    "fuzzy_sets:\n  rsi: auto\n"
)


async def backtest(bench, **more: Any) -> responses.ModelBacktest:
    return await bench.service.backtest_model(
        parse(requests.BacktestModel, {"model_name": "traded", **more})
    )


async def saved(bench, decisions: str = "{}", **more: Any) -> str:
    """A model called "traded" of a strategy with these decisions."""
    bench.workspace.strategies.mkdir(parents=True, exist_ok=True)
    path = bench.workspace.strategies / "ruled.yaml"
    path.write_text(f"{STRATEGY}decisions: {decisions}\n", encoding="utf-8")
    task_id = await bench.trained(strategy="ruled", **more)
    await bench.save(task_id, "traded")
    return task_id


def times(bench) -> list[str]:
    return BarCatalog(bench.workspace).load("AAPL", "1h").bars.times()


def bars_between(bench, first: str, until: str) -> int:
    return sum(first <= time < until for time in times(bench))


def end_of_tests(bench, task_id: str) -> str:
    """The close of the last bar that a tested label depends on."""
    return read_manifest(bench.workspace.bundle_directory(task_id)).tested_window[1]


EARLIER = {"end_date": "2026-03-31"}  # leaves bars that no training has touched


async def test_only_bars_that_neither_trained_nor_chose_a_model_are_fresh(bench) -> None:
    task_id = await saved(bench, **EARLIER)
    history = await history_of(bench.service, task_id)
    told = await backtest(bench)
    validated = read_manifest(bench.workspace.bundle_directory(task_id)).periods.validation
    until = end_of_tests(bench, task_id)
    assert told.bars.choosing == bars_between(bench, validated[0], until)
    assert told.bars.out_of_sample == bars_between(bench, until, "9")
    assert history["performance"]["test_period"][1] < until
    assert told.out_of_sample is not None
    assert told.out_of_sample.bars == told.bars.out_of_sample - 2  # the last two have no return
    assert told.choosing is not None
    assert told.in_sample is not None
    assert told.summary.startswith("Fresh bars (after the training)")


async def test_bars_that_tested_a_model_say_nothing_of_the_future(bench) -> None:
    await saved(bench)
    told = await backtest(bench)
    assert told.choosing is not None
    assert (told.out_of_sample, told.timing) == (None, None)
    assert told.summary.startswith("Every bar of the range was seen")


async def test_a_conversation_gets_figures_of_fresh_bars_and_the_resource_those_of_all(
    bench,
) -> None:
    await saved(bench, **EARLIER)
    whole = await backtest(bench)
    brief = BACKTEST_MODEL.brief(whole)
    assert (brief.in_sample, brief.choosing) == (None, None)
    assert brief.out_of_sample == whole.out_of_sample
    asked = parse(requests.ReadEquityCurve, {"model_name": "traded"})
    document = (await bench.service.equity_curve(asked)).document
    assert document["figures"]["choosing"] == whole.choosing.model_dump(mode="json")
    assert {*document} == {"figures", *document["figures"]}


async def test_a_backtest_is_adjusted_for_those_before_it_on_the_same_bars(bench) -> None:
    await saved(bench, **EARLIER)
    first = await backtest(bench)
    assert first.timing.earlier == 0
    assert first.timing.adjusted_p == first.timing.p
    costs = [0.0, 1.0, 40.0]
    later = [await backtest(bench, cost_bps=cost) for cost in costs]
    assert [each.timing.earlier for each in later] == [1, 2, 3]
    assert all(each.timing.adjusted_p >= each.timing.p for each in later)
    assert later[0].timing.adjusted_p > later[0].timing.p
    levels = [each.timing.level for each in (first, *later)]
    assert levels == sorted(levels, reverse=True)
    assert "3 backtests made before on these bars" in later[-1].summary


async def test_the_same_backtest_again_is_none_more_however_it_is_asked_for(bench) -> None:
    await saved(bench, **EARLIER)
    first = await backtest(bench)
    await backtest(bench, cost_bps=1.0)
    await bench.service.model_report(parse(requests.BacktestModel, {"model_name": "traded"}))
    again = await backtest(bench, start_date="2025-01-01")  # more bars that are seen
    assert again.timing == first.timing
    assert (await backtest(bench, cost_bps=2.0)).timing.earlier == 2


async def test_backtests_on_other_bars_and_on_seen_ones_do_not_count(bench) -> None:
    await saved(bench, **EARLIER)
    await backtest(bench, end_date="2026-03-01")
    await backtest(bench, start_date="2026-07-01")
    one = await backtest(bench, start_date="2026-05-01", end_date="2026-06-30")
    assert one.timing.earlier == 0
    assert (await backtest(bench)).timing.earlier == 2


async def test_bars_before_a_training_are_not_joined_with_those_after_it(bench) -> None:
    await saved(bench, start_date="2025-08-01", end_date="2026-03-31")
    whole, after = await backtest(bench), await backtest(bench, start_date="2025-08-01")
    assert whole.out_of_sample == after.out_of_sample
    assert "bars before the training are left out" in whole.summary
    assert "left out" not in after.summary
    before = await backtest(bench, end_date="2025-07-31")
    assert before.in_sample is None
    assert before.out_of_sample is not None
    assert before.summary.startswith("Fresh bars: ")


async def test_too_few_fresh_bars_are_not_called_seen(bench) -> None:
    task_id = await saved(bench, **EARLIER)
    until = end_of_tests(bench, task_id)
    told = await backtest(bench, end_date=[time for time in times(bench) if time >= until][1])
    assert told.out_of_sample is None
    assert told.bars.out_of_sample == 2
    assert told.summary.startswith("There are 2 fresh bars, and trading needs 3")


@pytest.mark.parametrize("by", ["strategy", "request"])
async def test_long_only_takes_no_short_position_whoever_asks_for_it(bench, by) -> None:
    await saved(bench, "{long_only: true}" if by == "strategy" else "{}")
    asked = {"long_only": True} if by == "request" else {}
    told, both = await backtest(bench, **asked), await backtest(bench, long_only=False)
    assert (told.long_only, both.long_only) == (True, False)
    assert told.in_sample is not None
    assert both.in_sample is not None
    assert 0 < told.in_sample.exposure < both.in_sample.exposure


async def test_costs_of_the_strategy_are_those_of_the_backtest(bench) -> None:
    await saved(bench, "{cost_bps: 17}")
    assert (await backtest(bench)).cost_bps == 17.0


async def test_a_threshold_of_confidence_is_heeded_and_told(bench) -> None:
    await saved(bench, "{confidence_threshold: 0.99}")
    told = await backtest(bench)
    assert told.in_sample is not None
    assert (told.in_sample.trades, told.in_sample.exposure) == (0, 0.0)
    assert "A signal less probable than 0.99 is a hold." in told.summary


async def test_signals_are_kept_as_far_apart_as_the_strategy_says(bench) -> None:
    await saved(bench, "{filters: {min_signal_separation: 1000000}}")
    told = await backtest(bench)
    assert told.in_sample is not None
    assert told.in_sample.trades == 1
    assert "Signals within 1e+06 h of the last that was traded" in told.summary


@pytest.mark.parametrize("rule", ["{}", "{confidence_threshold: 0.99}", "{long_only: true}"])
async def test_a_signal_is_what_the_rule_trades_beside_the_most_probable_class(bench, rule) -> None:
    await saved(bench, rule)
    signals = set()
    for date in ("2025-06-09", "2025-06-10", "2025-06-11", "2025-06-12", "2025-06-13"):
        predicted = await bench.predict("traded", test_date=date)
        one, probabilities = predicted.prediction, predicted.prediction.probabilities
        assert one.most_probable == max(probabilities, key=lambda name: probabilities[name])
        assert np.isclose(one.confidence, max(probabilities.values()))
        held = "0.99" in rule and one.most_probable != "hold"
        assert one.signal == ("hold" if "0.99" in rule else one.most_probable)
        assert any("confidence_threshold" in each for each in predicted.warnings) == held
        signals.add(one.most_probable)
    assert signals - {"hold"}, "no day of these shows what the rule does"


@pytest.mark.parametrize("threshold", [0.0, 0.99])
async def test_a_training_is_traded_by_the_same_threshold_as_its_model(bench, threshold) -> None:
    task_id = await saved(bench, f"{{confidence_threshold: {threshold}}}")
    told = await backtest(bench)
    assert told.in_sample is not None
    trades = (await bench.performance(task_id)).trading.trades
    assert (trades > 0, told.in_sample.trades > 0) == (threshold == 0.0, threshold == 0.0)


def judged_with(gain: float, cost_bps: float = 5.0, *alarms: Alarm) -> responses.ModelBacktest:
    """A reply whose fresh bars have so clear a timing that luck is ruled out; gain is net."""
    sums = [0.01 + 0.001 * (number % 5) for number in range(60)]
    starts = [number * 16 * 3_600_000_000_000 for number in range(60)]
    blocks = Blocks(start=starts, stop=[each + 1 for each in starts], sums=sums)
    scores = TradingScores(
        timing_p=0.0002,
        timing_blocks=blocks,
        net_sums=[gain / 60] * 60,
        mean_net_high=0.001,
        net_total_return=gain,
        cost_bps=cost_bps,
    )
    fresh = FreshBacktest(
        bars=1_000, after=True, what="one", symbol="AAPL", first_bar="2026-01-01T00:00:00Z",
        last_bar="2026-03-01T00:00:00Z", seen_until="2026-01-01T00:00:00Z", scores=scores,
        alarms=list(alarms),
    )  # fmt: skip
    return backtesting.judge_fresh(sample_replies.BACKTEST, fresh, [], recorded=True)


BOUNCE = Alarm(name="half_spread", text="openings bounce: half-spread above 9 bps", of_data=True)
RATIO = Alarm(name="sharpe", text="Sharpe ratio 9.1 (a leak?)", of_data=False)


@pytest.mark.parametrize(
    ("gain", "cost_bps", "alarms", "verdict"),
    [
        (0.2, 5.0, (), "survives_costs"),
        (0.2, 5.0, (RATIO,), "survives_costs"),
        (0.2, 5.0, (BOUNCE,), "inconclusive"),
        (0.2, 0.0, (), "inconclusive"),
        (-0.03, 5.0, (), "inconclusive"),
    ],
)
async def test_fresh_bars_are_judged_as_the_trading_of_a_training_is(
    gain: float, cost_bps: float, alarms: tuple[Alarm, ...], verdict: str
) -> None:
    reply = judged_with(gain, cost_bps, *alarms)
    assert reply.timing.verdict == verdict
    assert ("the timing earned its costs" in reply.summary) == (verdict == "survives_costs")
    assert reply.timing.suspect == ([alarm.name for alarm in alarms] or None)
    assert all(alarm.text[1:] in reply.summary for alarm in alarms)
