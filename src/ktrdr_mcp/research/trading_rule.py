"""How a strategy's signals are traded."""

from __future__ import annotations

from ktrdr_mcp.learn.judge.trading import DEFAULT_COST_BPS, TradingRule
from ktrdr_mcp.strategy import Strategy


def trading_rule(strategy: Strategy, horizon: int) -> TradingRule:
    """The rule of a strategy's `decisions`, else long and short at 5 basis points.

    Args:
        strategy: its `decisions` may set long_only, cost_bps and max_holding_bars.
        horizon: how far its labels look ahead, in bars.
    """
    decisions = strategy.decisions
    return TradingRule(
        horizon=int(decisions.get("max_holding_bars", horizon)),
        cost_bps=float(decisions.get("cost_bps", DEFAULT_COST_BPS)),
        long_only=bool(decisions.get("long_only", False)),
    )
