"""Noise twins: bars that look like the real ones and hold nothing to foresee.

Volatility, gaps, seasons and the sizes of all moves stay; the direction of each is a coin's. What
is "foreseen" on them is a leak or luck. (Shuffled labels are no such control: leaks pass them.)
"""

from __future__ import annotations

import numpy as np

from ktrdr_mcp.data.bars import Bars


def noise_twin(bars: Bars, seed: int, number: int = 0) -> Bars:
    """Multiplies each bar's move from the previous close by a random sign, in logs.

    Opening, high, low and close are taken relative to the previous close; a flipped bar's high
    becomes its low and the reverse. The first bar, the times and the volumes stay.

    Args:
        bars: n >= 1 bars.
        seed: 0 or more.
        number: of the twin; another one gives other signs.
    """
    sign = np.random.default_rng([seed, number]).choice(np.array([-1.0, 1.0]), len(bars) - 1)
    previous = np.log(bars.close[:-1])
    opened, high, low, close = (
        sign * (np.log(price[1:]) - previous)
        for price in (bars.open, bars.high, bars.low, bars.close)
    )
    base = np.r_[np.log(bars.close[0]), np.log(bars.close[0]) + np.cumsum(close)]
    new_open, one, other = (np.exp(base[:-1] + move) for move in (opened, high, low))
    new_close = np.exp(base[1:])
    # rounding may put an extreme inside the body by one unit in the last place
    new_high = np.maximum.reduce([one, other, new_open, new_close])
    new_low = np.minimum.reduce([one, other, new_open, new_close])
    return Bars(
        bars.symbol,
        bars.timeframe,
        bars.time,
        np.r_[bars.open[:1], new_open],
        np.r_[bars.high[:1], new_high],
        np.r_[bars.low[:1], new_low],
        np.r_[bars.close[:1], new_close],
        bars.volume,
    )
