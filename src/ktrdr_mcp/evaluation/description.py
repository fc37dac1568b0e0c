"""What a series looks like: figures from which thresholds, barriers and hypotheses are chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import MONDAY_OFFSET_DAYS, Bars, width_ns
from ktrdr_mcp.data.timestamps import DAY_NS, MINUTE_NS
from ktrdr_mcp.schemas.responses import MeanAndError, SeriesDescription

BPS: Final = 1e4
HORIZONS_BARS: Final = (1, 4, 8, 24)
LAGS_BARS: Final = (1, 2, 4, 8, 24)
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MIN_OF_A_KIND: Final = 10  # bars of an hour or a weekday
LEVEL_Z: Final = 2.054  # one-sided 2 %
POWER_Z: Final = 0.842  # 80 %
TESTED_SHARE: Final = 0.6
DEFAULT_HORIZON_BARS: Final = 8
DEFAULT_COST_BPS: Final = 5.0

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def describe(bars: Bars, all_bars: int) -> SeriesDescription:
    """Describes bars that come before every test window.

    Args:
        bars: the rows that may be looked at, at least `MIN_BARS`.
        all_bars: how many the whole series has.
    """
    moves = np.diff(np.log(bars.close))
    days = bars.session_days()
    width = width_ns(bars.timeframe)
    steps = np.diff(bars.time)
    inside = steps[days[1:] == days[:-1]]
    local = bars.local_time()[1:]
    per_day = np.unique(days, return_counts=True)[1]
    return SeriesDescription(
        first_bar=bars.timestamp(0),
        last_bar=bars.timestamp(len(bars) - 1),
        bars=len(bars),
        of_bars=all_bars,
        bars_per_day=float(np.median(per_day)),
        gaps_within_days=int((inside > width).sum()),
        volatility_bps={str(h): volatility_bps(moves, h) for h in HORIZONS_BARS if h < len(moves)},
        up_share=round(float((moves > 0).sum() / max(1, (moves != 0).sum())), 4),
        autocorrelation={str(lag): autocorrelation(moves, lag) for lag in LAGS_BARS},
        autocorrelation_of_size={
            str(lag): autocorrelation(np.abs(moves), lag) for lag in LAGS_BARS
        },
        autocorrelation_error=round(1 / np.sqrt(len(moves)), 4),
        hour_bps=None
        if width >= DAY_NS  # each bar has every hour
        else effects(moves, local % DAY_NS // (60 * MINUTE_NS), str),
        weekday_bps=None
        if width > DAY_NS
        else effects(moves, (local // DAY_NS + MONDAY_OFFSET_DAYS) % 7, lambda day: WEEKDAYS[day]),
        half_spread_bps=half_spread_bps(moves),
        default_cost_bps=DEFAULT_COST_BPS,
        detectable_accuracy=detectable_accuracy(all_bars),
    )


MIN_BARS: Final = 50


def volatility_bps(moves: Floats, horizon: int) -> float:
    """The root of the mean squared move over so many bars, in basis points."""
    sums = np.convolve(moves, np.ones(horizon), mode="valid")
    return round(float(np.sqrt(np.mean(sums**2))) * BPS, 1)


def autocorrelation(values: Floats, lag: int) -> float:
    """The correlation of values with those so many bars before; 0 where nothing varies."""
    centred = values - values.mean()
    total = float(centred @ centred)
    if lag >= len(values) or total == 0:
        return 0.0
    return round(float(centred[lag:] @ centred[:-lag]) / total, 4)


def effects(moves: Floats, kind: Integers, name: Callable[[int], str]) -> dict[str, MeanAndError]:
    """The mean move of each kind of bar and its standard error, in basis points.

    Args:
        moves: float64[n], log returns.
        kind: int64[n], of each bar.
        name: makes a kind's name of its number.
    """
    found = {}
    for each in np.unique(kind).tolist():
        chosen = moves[kind == each] * BPS
        if len(chosen) >= MIN_OF_A_KIND:
            error = float(chosen.std(ddof=1)) / np.sqrt(len(chosen))
            found[name(each)] = [round(float(chosen.mean()), 2), round(float(error), 2)]
    return found


def half_spread_bps(moves: Floats) -> float | None:
    """Roll's estimate: the root of minus the covariance of moves that follow one another.

    None where that covariance is not negative, which says nothing of the spread.
    Source: R. Roll, A Simple Implicit Measure of the Effective Bid-Ask Spread (1984).
    """
    covariance = float(np.cov(moves[1:], moves[:-1])[0, 1])
    return None if covariance >= 0 else round(float(np.sqrt(-covariance)) * BPS, 1)


def detectable_accuracy(all_bars: int) -> float:
    """The directional accuracy that the default training finds with 80 % power at 2 %.

    As many independent signs are counted as horizons fit into the tested rows.
    """
    independent = max(1.0, all_bars * TESTED_SHARE / DEFAULT_HORIZON_BARS)
    return round(min(1.0, 0.5 + (LEVEL_Z + POWER_Z) * 0.5 / float(np.sqrt(independent))), 4)
