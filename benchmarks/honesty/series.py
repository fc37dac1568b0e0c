"""Series of bars whose truth is known: noise of several kinds, and noise with a planted signal.

The tests of the judge use them, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.cache import BarCache
from ktrdr_mcp.data.samples import Samples
from ktrdr_mcp.evaluation.walk_forward import flip_signs, sign_flip_surrogate

Floats = NDArray[np.float64]

SIGMA: Final = 0.005  # of a bar's log return
HOUR_NS: Final = 3_600 * 10**9
FIRST_NS: Final = 1_600_000_000 * 10**9
STEPS_PER_BAR: Final = 8  # of the path within a bar, from which its high and low come
SAMPLES: Final = Samples(BarCache())
ALPHA, BETA, FREEDOM = 0.10, 0.88, 5  # of the GARCH(1, 1) with Student's t


def bars_from(returns: Floats, sigma: Floats, generator: np.random.Generator) -> Bars:
    """Hourly bars with given close-to-close log returns, each opening at the last close.

    Args:
        returns: float64[n], log returns.
        sigma: float64[n], how much a price moves about its way within each bar.
        generator: of the path within bars, a Brownian bridge.
    """
    count = len(returns)
    walk = np.cumsum(generator.standard_normal((count, STEPS_PER_BAR)), axis=1)
    walk = walk / np.sqrt(STEPS_PER_BAR) * sigma[:, None]
    share = np.arange(1, STEPS_PER_BAR + 1) / STEPS_PER_BAR
    path = walk + share * (returns - walk[:, -1])[:, None]
    before = np.log(100.0) + np.r_[0.0, np.cumsum(returns)[:-1]]
    high = np.exp(before + np.maximum(path.max(axis=1), 0))
    low = np.exp(before + np.minimum(path.min(axis=1), 0))
    opened = np.exp(before)
    close = np.exp(before + returns)
    time = FIRST_NS + np.arange(count, dtype=np.int64) * HOUR_NS
    extremes = np.maximum.reduce([high, opened, close]), np.minimum.reduce([low, opened, close])
    return Bars("NOISE", "1h", time, opened, *extremes, close, np.full(count, 1_000.0))


def garch(count: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """float64[count] returns of GARCH(0.10, 0.88) with t5 shocks, and their volatilities."""
    shock = generator.standard_t(FREEDOM, count) * np.sqrt((FREEDOM - 2) / FREEDOM)
    variance, last = SIGMA**2, 0.0
    constant = SIGMA**2 * (1 - ALPHA - BETA)
    returns, sigma = np.empty(count), np.empty(count)
    for t in range(count):
        variance = constant + ALPHA * last**2 + BETA * variance
        sigma[t] = np.sqrt(variance)
        last = sigma[t] * shock[t]
        returns[t] = last
    return returns, sigma


def plain_series(count: int, seed: int) -> Bars:
    """A Gaussian random walk."""
    generator = np.random.default_rng(seed)
    returns = SIGMA * generator.standard_normal(count)
    return bars_from(returns, np.full(count, SIGMA), generator)


def garch_series(count: int, seed: int) -> Bars:
    """A random walk whose volatility clusters."""
    generator = np.random.default_rng(seed)
    return bars_from(*garch(count, generator), generator)


def drift_series(count: int, seed: int) -> Bars:
    """A Gaussian random walk with a drift of 0.1 sigma."""
    generator = np.random.default_rng(seed)
    returns = SIGMA * (0.1 + generator.standard_normal(count))
    return bars_from(returns, np.full(count, SIGMA), generator)


def flipped_aapl(count: int, seed: int) -> Bars:
    """The newest daily bars of the AAPL sample, the sign of every move drawn anew."""
    bars = SAMPLES.load("AAPL", "1d").bars
    newest = bars.slice(max(len(bars) - count, 0), len(bars))
    return sign_flip_surrogate(newest, flip_signs(len(newest), seed))


def planted_series(count: int, seed: int, strength: float, length: float) -> Bars:
    """GARCH noise plus q sigma m, where m = +-1 flips with probability 1 / L at each bar.

    Args:
        count: of bars.
        seed: of everything.
        strength: q.
        length: L, bars.
    """
    generator = np.random.default_rng(seed)
    noise, sigma = garch(count, generator)
    flips = np.cumsum(generator.random(count) < 1 / length)
    returns = noise + strength * SIGMA * np.where(flips % 2 == 0, 1.0, -1.0)
    return bars_from(returns, sigma, generator)


NOISE: Final[dict[str, Callable[[int, int], Bars]]] = {
    "plain": plain_series,
    "garch": garch_series,
    "drift": drift_series,
    "flipped AAPL": flipped_aapl,
}
PLANTED: Final = ((0.5, 24.0), (0.25, 24.0), (0.15, 96.0))  # q and L
