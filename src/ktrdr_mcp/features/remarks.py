"""What whoever trains a strategy should know of it, though nothing in it is wrong."""

from __future__ import annotations

from ktrdr_mcp.features.registry import used_indicators
from ktrdr_mcp.strategy.form import Strategy


def without_effect(strategy: Strategy) -> list[str]:
    """The dotted places of a strategy that were read and change nothing.

    Args:
        strategy: one that `registry.check` has passed.
    """
    raw = [
        f"indicators.{each.spec.name}.raw"
        for each in used_indicators(strategy)
        if each.spec.raw and not each.indicator.rescaled
    ]
    return [*strategy.ignored, *raw]


def remarks(strategy: Strategy) -> list[str]:
    """Sentences on what a strategy computes, its notes before them.

    Args:
        strategy: one that `registry.check` has passed.
    """
    lines = [each.spec.name for each in used_indicators(strategy) if each.spec.type == "macd"]
    in_price_units = (
        f"The type macd (here {', '.join(lines)}) is in price units, as in KTRDR; where prices"
        " change much over the range, use talib.MACD, which is divided by the close."
    )
    return [*strategy.notes, *([in_price_units] if lines else [])]
