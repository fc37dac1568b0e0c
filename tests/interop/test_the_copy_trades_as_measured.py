"""The strategy file beside a saved model trades by the rule that its backtest measured."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from ktrdr_mcp.evaluation.backtest import TradingRule, trading_rule
from ktrdr_mcp.labels.registry import horizon_bars
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.predictor import Range, model_of, run
from tests.support.ktrdr_reader import backtest_probabilities, passed_signals
from tests.support.saved_models import hourly_bars, table_of

DECIDED = """
indicators: [{name: rsi, type: rsi, params: {period: 7}}]
fuzzy_sets: {rsi: auto}
decisions:
  confidence_threshold: 0.45
  filters: {min_signal_separation: 30}
  cost_bps: 3
  max_holding_bars: 12
"""
STRATEGIES = {"default": None, "decided": DECIDED}


def model_in(saver, row):
    return model_of(bundle.read(saver.root / row.path, row.bundle_sha256))


def rule_of(strategy: Strategy) -> TradingRule:
    return trading_rule(strategy, horizon_bars(effective(TrainingConfig(), strategy).labels))


def traded(model, rule: TradingRule):
    bars = hourly_bars()
    seen = np.zeros(len(bars), dtype=np.int8)
    return run(model, bars, Range(0, len(bars), seen), rule).backtests["out_of_sample"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_written_strategy_makes_exactly_the_trades_of_the_models_backtest(saver, name) -> None:
    row = saver.saved("model", name, STRATEGIES[name])
    model = model_in(saver, row)
    written = StrategyCatalog(saver.workspace).read("model")
    measured, again = traded(model, rule_of(model.strategy)), traded(model, rule_of(written))
    assert again.figures() == measured.figures()
    np.testing.assert_array_equal(again.position, measured.position)
    with_ktrdrs_defaults = rule_of(model.strategy).model_copy(
        update={"confidence_threshold": 0.5, "min_separation_hours": 4.0}
    )
    assert 0 < measured.trades.trades != traded(model, with_ktrdrs_defaults).trades.trades


def test_ktrdr_holds_no_signal_back_that_the_measured_rule_trades(saver) -> None:
    row = saver.saved("model")
    path = saver.workspace.strategy_file("model")
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    bars = hourly_bars()
    theirs = backtest_probabilities(saver.root, "model", "AAPL_1h", table_of(bars))[100:]
    signals = passed_signals(written, theirs, bars.time[100:])
    ours = saver.our_probabilities(row, np.arange(100, len(bars)))
    np.testing.assert_array_equal(signals, 1 - ours.argmax(axis=1))
    assert (ours.max(axis=1)[signals != 0] < 0.5).any()


def test_a_second_threshold_for_ktrdrs_backtest_alone_is_not_written(saver) -> None:
    modes = "{backtest: {confidence_threshold: 0.9}, live: {confidence_threshold: 0.7}}"
    saver.saved("model", "decided", f"{DECIDED}orchestrator: {{modes: {modes}}}\n")
    text = saver.workspace.strategy_file("model").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["orchestrator"]["modes"] == {
        "backtest": {},
        "live": {"confidence_threshold": 0.7},
    }
