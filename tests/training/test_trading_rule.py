"""What a strategy's decisions say of trading."""

from __future__ import annotations

import pytest

from ktrdr_mcp.evaluation.backtest import trading_rule
from ktrdr_mcp.schemas.results import TradingRule
from ktrdr_mcp.strategy.parsing import parse_strategy

SETS = "name: s\nindicators: [{name: rsi, type: rsi}]\nfuzzy_sets: {rsi: auto}\n"
DECISIONS = {
    "long_only: true": {"long_only": True},
    "cost_bps: 3": {"cost_bps": 3.0},
    "max_holding_bars: 2": {"max_holding_bars": 2},
    "confidence_threshold: 0.6": {"confidence_threshold": 0.6},
    "filters: {min_signal_separation: 4}": {"min_separation_hours": 4.0},
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_every_decision_of_a_strategy_is_part_of_its_rule(decision: str) -> None:
    strategy = parse_strategy(f"{SETS}decisions: {{{decision}}}\n", "s")
    assert trading_rule(strategy, 12) == TradingRule(horizon=12, **DECISIONS[decision])


def test_without_decisions_both_sides_are_traded_as_long_as_labels_look_ahead() -> None:
    rule = trading_rule(parse_strategy(SETS, "s"), 12)
    assert rule == TradingRule(horizon=12, cost_bps=5.0, long_only=False)
    assert rule.holding_bars == 12
