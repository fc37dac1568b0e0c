"""How a strategy's signals are traded."""

from __future__ import annotations

from ktrdr_mcp.learn.judge.trading import DEFAULT_COST_BPS, TradingRule
from ktrdr_mcp.strategy import Strategy


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
        cost_bps=float(decisions.get("cost_bps", DEFAULT_COST_BPS)),
        long_only=bool(decisions.get("long_only", False)),
        max_holding_bars=None if longest is None else int(longest),
        confidence_threshold=float(decisions.get("confidence_threshold", 0.0)),
        min_separation_hours=float(separation),
    )
