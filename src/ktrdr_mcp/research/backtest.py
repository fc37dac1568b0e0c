"""Trading a saved model over any range of bars, in sample and out of it apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, bars_per_year
from ktrdr_mcp.errors import NotEnoughData
from ktrdr_mcp.features import build
from ktrdr_mcp.learn.judge.trading import Backtest, TradingRule, backtest
from ktrdr_mcp.research.judgement import signals
from ktrdr_mcp.research.predictor import Model, predict


@dataclass(frozen=True, eq=False)
class Range:
    """A range of a series, as bar indices, and the part of it that the model has seen."""

    first: int
    stop: int
    seen: npt.NDArray[np.bool_]  # (bars,) whether each bar of the series is in sample


def run(model: Model, bars: Bars, chosen: Range, rule: TradingRule) -> dict[str, Backtest]:
    """Trades the model's signals on each part of a range.

    Args:
        model: whose signals.
        bars: the series, from its first stored bar.
        chosen: the range.
        rule: how signals are traded.
    Returns:
        "in_sample" and "out_of_sample", each only where the range has three bars of it.
    Raises:
        NotEnoughData: the range has too few bars after the indicators' warm-up.
    """
    series = bars.slice(0, chosen.stop)
    warm_up = build.compute_indicators(series, model.strategy).warm_up_bars
    rows = np.arange(max(chosen.first, warm_up), chosen.stop)
    if len(rows) < 3:
        raise NotEnoughData(
            f"The range has {len(rows)} bars after the indicators' warm-up of {warm_up}; trading"
            " needs 3.",
            hint="Widen start_date and end_date.",
            field="start_date",
        )
    signal = signals(predict(model, series, rows).probabilities)
    yearly = bars_per_year(series)
    seen = chosen.seen[rows]
    parts = {"in_sample": seen, "out_of_sample": ~seen}
    return {
        name: backtest(series.time, series.open, rows[part], signal[part], rule, yearly)
        for name, part in parts.items()
        if np.count_nonzero(part) >= 3
    }


def figures(traded: Backtest) -> dict[str, Any]:
    """The numbers of one part, with when it begins and ends."""
    return traded.figures()
