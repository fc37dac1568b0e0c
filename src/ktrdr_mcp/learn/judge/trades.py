"""Single trades within a series of positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ktrdr_mcp.learn.judge.blocks import Floats


@dataclass(frozen=True)
class TradeFigures:
    """What the trades came to.

    Args:
        trades: how many; reversing a position ends one and begins another.
        win_rate: share of those with a return above zero; None without trades.
        profit_factor: sum of gains over sum of losses; None without losses.
    """

    trades: int
    win_rate: float | None
    profit_factor: float | None


def trade_figures(position: Floats, returns: Floats, cost: float) -> TradeFigures:
    """Counts and weighs the trades.

    Args:
        position: float64[n], held over each bar.
        returns: float64[n], of the instrument over the same bars.
        cost: fraction per unit of position change.
    """
    earned = trade_returns(position, returns, cost)
    gains, losses = float(earned[earned > 0].sum()), -float(earned[earned < 0].sum())
    return TradeFigures(
        trades=len(earned),
        win_rate=float((earned > 0).mean()) if len(earned) else None,
        profit_factor=gains / losses if losses > 0 else None,
    )


def trade_returns(position: Floats, returns: Floats, cost: float) -> Floats:
    """float64[trades]: compounded return of each trade, less the cost of entry and exit.

    A trade is a stretch of bars with the same position other than zero.

    Args:
        position: float64[n].
        returns: float64[n].
        cost: fraction per unit of position change.
    """
    if not len(position):
        return np.empty(0)
    first = np.r_[0, np.flatnonzero(np.diff(position)) + 1]
    growth = np.maximum(1 + position * returns, 0)
    compounded = np.multiply.reduceat(growth, first)
    size = np.abs(position[first])
    earned: Floats = (compounded - 1 - 2 * cost * size)[size > 0]
    return earned
