"""What a backtest of a saved model counts as seen, and the rule it trades by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
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


def bars_since(bench, timestamp: str) -> int:
    times = BarCatalog(bench.workspace).load("AAPL", "1h").bars.times()
    return sum(time >= timestamp for time in times)


async def test_the_rows_that_tested_a_model_are_out_of_sample(bench) -> None:
    task_id = await saved(bench)
    history = await history_of(bench.service, task_id)
    first_tested = history["performance"]["test_period"][0]
    told = await backtest(bench)
    assert told.out_of_sample is not None
    assert told.out_of_sample.bars == bars_since(bench, first_tested) - 2
    assert told.summary.startswith("Out of sample (after the training)")


async def test_bars_before_a_training_are_not_joined_with_those_after_it(bench) -> None:
    await saved(bench, start_date="2025-08-01", end_date="2026-03-31")
    whole, after = await backtest(bench), await backtest(bench, start_date="2025-08-01")
    assert whole.out_of_sample == after.out_of_sample
    assert "bars before the training are left out" in whole.summary
    assert "left out" not in after.summary
    before = await backtest(bench, end_date="2025-07-31")
    assert before.in_sample is None
    assert before.out_of_sample is not None
    assert before.summary.startswith("Out of sample: ")


async def test_too_few_bars_out_of_sample_are_not_called_in_sample(bench) -> None:
    task_id = await saved(bench)
    period = (await history_of(bench.service, task_id))["performance"]["test_period"]
    times = BarCatalog(bench.workspace).load("AAPL", "1h").bars.times()
    second = times[times.index(period[0]) + 1]
    told = await backtest(bench, end_date=second)
    assert told.out_of_sample is None
    assert told.summary.startswith("Out of sample there are 2 bars, and trading needs 3")


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
