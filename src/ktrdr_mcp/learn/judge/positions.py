"""From signals to positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.labels.registry import HOLD
from ktrdr_mcp.learn.judge.blocks import Floats, Integers


def signals_of(classes: NDArray[np.integer]) -> Integers:
    """int64[n], +1, 0, -1 for buy, hold, sell, from class numbers [n]."""
    return HOLD - np.asarray(classes, dtype=np.int64)


def positions(signal: Integers, rows: Integers, most_bars: int, long_only: bool = False) -> Floats:
    """The position that each row's signal leads to, from the next bar's opening on.

    Buy is +1 and sell is -1; hold keeps the position, at most `most_bars` bars after the last buy
    or sell, then there is none. Repeating a signal renews it.

    Args:
        signal: int64[n], +1, 0, -1.
        rows: int64[n], ascending bar indices of the signals.
        most_bars: how long a position outlives its signal, the horizon of the labels.
        long_only: whether sell means no position.
    Returns:
        float64[n]; element i is held from the opening of bar rows[i] + 1 to that of the next.
    """
    place = np.arange(len(signal))
    latest = np.maximum.accumulate(np.where(signal != 0, place, -1))
    fresh = (latest >= 0) & (rows - rows[latest] < most_bars)
    held: Floats = np.where(fresh, signal[latest], 0).astype(np.float64)
    return np.maximum(held, 0.0) if long_only else held
