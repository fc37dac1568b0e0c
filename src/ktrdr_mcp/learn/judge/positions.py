"""From signals to positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.labels.registry import HOLD
from ktrdr_mcp.learn.judge.blocks import Floats, Integers


def signals_of(classes: NDArray[np.integer]) -> Integers:
    """int64[n], +1, 0, -1 for buy, hold, sell, from class numbers [n]."""
    return HOLD - np.asarray(classes, dtype=np.int64)


def confident_signals(probabilities: Floats, threshold: float) -> Integers:
    """int64[n], +1, 0, -1 by the most probable class; hold where it is less probable than asked.

    Args:
        probabilities: float64[n, 3], of buy, hold and sell.
        threshold: the least probability of a buy or sell; 0 takes every one.
    Source:
        KTRDR's decision engine, `decisions.confidence_threshold`.
    """
    sure = probabilities.max(axis=1) >= threshold
    signal: Integers = np.where(sure, signals_of(probabilities.argmax(axis=1)), 0)
    return signal


def separated(
    signal: Integers,
    rows: Integers,
    time: Integers,
    least_ns: int,
    most_bars: int,
    long_only: bool = False,
) -> Integers:
    """Signals without those that would change the position too soon after the last that did.

    A signal that leaves the position as it is neither counts nor is dropped.

    Args:
        signal: int64[n], +1, 0, -1.
        rows: int64[n], ascending bar indices of the signals.
        time: int64[n], the opening of their bars, UTC nanoseconds.
        least_ns: from one signal that changes the position to the next, nanoseconds.
        most_bars: as in `positions`.
        long_only: as in `positions`.
    Returns:
        int64[n], with 0 for what is dropped.
    Source:
        KTRDR's decision engine, `decisions.filters.min_signal_separation`.
    """
    kept = signal.copy()
    held, renewed, changed = 0, -1, None
    for place in np.flatnonzero(signal).tolist():
        row, moment, wanted = int(rows[place]), int(time[place]), int(signal[place])
        now = held if row - renewed < most_bars else 0
        wanted = max(wanted, 0) if long_only else wanted
        if wanted != now:
            if changed is not None and moment - changed < least_ns:
                kept[place] = 0
                continue
            changed = moment
        held, renewed = wanted, row
    return kept


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
