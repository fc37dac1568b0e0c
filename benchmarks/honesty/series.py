"""Series of bars whose truth is known: noise of several kinds, and noise with a planted signal.

The tests of the judge use them, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import Samples
from ktrdr_mcp.data.series import BarCache
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


def hours_series(count: int, seed: int, strength: float) -> Bars:
    """GARCH noise that rises in two hours of each day and falls in two others.

    Args:
        count: of bars.
        seed: of everything.
        strength: of each such hour's mean return, in standard deviations of a bar's.
    """
    generator = np.random.default_rng(seed)
    noise, sigma = garch(count, generator)
    hour = (FIRST_NS + np.arange(count, dtype=np.int64) * HOUR_NS) // HOUR_NS % 24
    planted = np.isin(hour, (9, 10)) * 1.0 - np.isin(hour, (16, 17))
    return bars_from(noise + strength * SIGMA * planted, sigma, generator)


def with_volatility(sigma: Floats, generator: np.random.Generator) -> Bars:
    """A Gaussian walk whose volatility is given."""
    return bars_from(sigma * generator.standard_normal(len(sigma)), sigma, generator)


def leverage_series(count: int, seed: int) -> Bars:
    """Stochastic volatility that rises after falls."""
    generator = np.random.default_rng(seed)
    shock = generator.standard_normal(count)
    own = -0.7 * shock + np.sqrt(1 - 0.7**2) * generator.standard_normal(count)
    level, log_sigma = 0.0, np.empty(count)
    for t in range(count):
        log_sigma[t] = level
        level = 0.98 * level + 0.12 * own[t]
    sigma = SIGMA * np.exp(log_sigma - log_sigma.var())
    return bars_from(sigma * shock, sigma, generator)


def session_series(count: int, seed: int) -> Bars:
    """Seven bars a day, restless at both ends, with a jump overnight."""
    generator = np.random.default_rng(seed)
    hour = np.arange(count) % 7
    sigma = SIGMA * np.array([1.8, 1.1, 0.8, 0.6, 0.7, 0.9, 1.4])[hour]
    bars = with_volatility(sigma, generator)
    night = np.where(hour == 0, 1.5 * SIGMA * generator.standard_normal(count), 0.0)
    factor = np.exp(np.cumsum(night))
    prices = (price * factor for price in (bars.open, bars.high, bars.low, bars.close))
    return Bars(bars.symbol, bars.timeframe, bars.time, *prices, bars.volume)


def long_memory_series(count: int, seed: int) -> Bars:
    """Volatility with components that last for 20, 200 and 2,000 bars."""
    generator = np.random.default_rng(seed)
    log_sigma = np.zeros(count)
    for length in (20, 200, 2_000):
        steps = np.convolve(generator.standard_normal(count), np.ones(length), "full")[:count]
        log_sigma += 0.3 * steps / np.sqrt(length)
    return with_volatility(SIGMA * np.exp(log_sigma), generator)


def jump_series(count: int, seed: int) -> Bars:
    """A walk with a jump of either sign in one bar of a hundred."""
    generator = np.random.default_rng(seed)
    jumps = 8 * generator.standard_normal(count) * (generator.random(count) < 0.01)
    returns = SIGMA * (generator.standard_normal(count) + jumps)
    return bars_from(returns, np.full(count, SIGMA), generator)


def bootstrapped_aapl(count: int, seed: int) -> Bars:
    """Daily moves of AAPL in blocks of 50 days, drawn anew, each with a sign of its own."""
    generator = np.random.default_rng(seed)
    moves = np.diff(np.log(SAMPLES.load("AAPL", "1d").bars.close))
    starts = generator.integers(0, len(moves) - 50, count // 50 + 1)
    drawn = np.concatenate([moves[start : start + 50] for start in starts])[:count]
    drawn = np.abs(drawn) * generator.choice([-1.0, 1.0], count)
    return bars_from(drawn, np.full(count, float(drawn.std())), generator)


def drifting_series(count: int, seed: int) -> Bars:
    """Volatility that goes from a third to three times as much, or back."""
    generator = np.random.default_rng(seed)
    way = np.linspace(-1, 1, count) * generator.choice([-1, 1])
    return with_volatility(SIGMA * 3.0**way, generator)


NOISE: Final[dict[str, Callable[[int, int], Bars]]] = {
    "plain": plain_series,
    "garch": garch_series,
    "drift": drift_series,
    "flipped AAPL": flipped_aapl,
    "leverage": leverage_series,
    "sessions": session_series,
    "long memory": long_memory_series,
    "jumps": jump_series,
    "bootstrapped AAPL": bootstrapped_aapl,
    "drifting": drifting_series,
}


def with_prices(bars: Bars, change: Floats) -> Bars:
    """Bars of which every print but the extremes' range is moved by log changes, float64[n]."""
    factor = np.exp(change)
    opened, close = bars.open * np.r_[1.0, factor[:-1]], bars.close * factor
    high = np.maximum.reduce([bars.high, opened, close])
    low = np.minimum.reduce([bars.low, opened, close])
    return Bars(bars.symbol, bars.timeframe, bars.time, opened, high, low, close, bars.volume)


def bounce_series(count: int, seed: int, half_spread_bps: float = 25.0) -> Bars:
    """Each bar ends at bid or ask, and the next one opens with the same print."""
    generator = np.random.default_rng(seed)
    sides = generator.choice([-1.0, 1.0], count)
    return with_prices(garch_series(count, seed), half_spread_bps * 1e-4 * sides)


def illiquid_series(count: int, seed: int) -> Bars:
    """Four bars of ten repeat the last price; what they missed comes at once."""
    generator = np.random.default_rng(seed)
    returns = SIGMA * generator.standard_normal(count)
    traded = generator.random(count) < 0.6
    total = np.cumsum(returns)
    newest = np.maximum.accumulate(np.where(traded, np.arange(count), 0))
    shown = np.diff(total[newest], prepend=0.0)
    return bars_from(shown, np.where(shown == 0, 0.0, SIGMA), generator)


def rounded_series(count: int, seed: int) -> Bars:
    """Prices in ticks of a quarter of a bar's move."""
    bars = garch_series(count, seed)
    tick = 100 * SIGMA / 4
    prices = [
        np.maximum(np.round(price / tick), 1) * tick
        for price in (bars.open, bars.high, bars.low, bars.close)
    ]
    return Bars(bars.symbol, bars.timeframe, bars.time, *prices, bars.volume)


def mean_of_volatility_series(count: int, seed: int) -> Bars:
    """GARCH whose volatility is rewarded: the mean return is a tenth of it."""
    generator = np.random.default_rng(seed)
    returns, sigma = garch(count, generator)
    return bars_from(returns + 0.1 * (sigma - sigma.mean()), sigma, generator)


ARTEFACTS: Final[dict[str, Callable[[int, int], Bars]]] = {
    "bounce": bounce_series,
    "illiquid": illiquid_series,
    "tick-rounded": rounded_series,
    "GARCH in mean": mean_of_volatility_series,
}


def reverting_series(count: int, seed: int) -> Bars:
    """The price returns to a slow walk: a tenth of the distance in each bar."""
    generator = np.random.default_rng(seed)
    own = np.empty(count)
    last = 0.0
    for t, shock in enumerate(generator.standard_normal(count).tolist()):
        last = 0.9 * last + SIGMA * shock
        own[t] = last
    slow = np.cumsum(0.5 * SIGMA * generator.standard_normal(count))
    return bars_from(np.diff(own + slow, prepend=0.0), np.full(count, SIGMA), generator)


def conditional_series(
    count: int, seed: int, signed: Callable[[Floats, int], float], first: int = 0
) -> Bars:
    """A walk that drifts by 0.3 sigma where its past says so.

    Args:
        count: of bars.
        seed: of everything.
        signed: +1, 0 or -1 from log prices so far and their number.
        first: the bar from which it does.
    """
    generator = np.random.default_rng(seed)
    price, returns = np.zeros(count + 1), np.empty(count)
    for t, shock in enumerate(generator.standard_normal(count).tolist()):
        drift = signed(price, t) if t >= max(first, 60) else 0.0
        returns[t] = SIGMA * (shock + 0.3 * drift)
        price[t + 1] = price[t] + returns[t]
    return bars_from(returns, np.full(count, SIGMA), generator)


def breakout(price: Floats, t: int) -> float:
    """Which way the last 20 bars were broken out of, lately."""
    return (
        float(np.sign(price[t] - price[t - 20]))
        if abs(price[t] - price[t - 20]) > (SIGMA * 20**0.5)
        else 0.0
    )


def opposite(price: Floats, t: int) -> float:
    """XOR of two moves: up where the short one and the long one disagree."""
    return float(-np.sign(price[t] - price[t - 5]) * np.sign(price[t] - price[t - 40]))


FOUND: Final[dict[str, Callable[[int, int], Bars]]] = {
    "mean reversion": reverting_series,
    "breakout momentum": lambda count, seed: conditional_series(count, seed, breakout),
    "XOR of two moves": lambda count, seed: conditional_series(count, seed, opposite),
    "last third only": lambda count, seed: conditional_series(
        count, seed, breakout, first=2 * count // 3
    ),
}


def with_volume(bars: Bars, volume: Floats) -> Bars:
    """Bars with another volume."""
    prices = (bars.open, bars.high, bars.low, bars.close)
    return Bars(bars.symbol, bars.timeframe, bars.time, *prices, volume)


def telling_volume(count: int, seed: int) -> Bars:
    """Volume that holds the move of the next bar."""
    generator = np.random.default_rng(seed)
    bars = garch_series(count, seed)
    ahead = np.r_[np.diff(np.log(bars.close)), 0.0]
    noise = generator.lognormal(0.0, 0.5, count)
    return with_volume(bars, 1_000 * noise * np.exp(0.5 * ahead / ahead.std()))


def with_close(bars: Bars, close: Floats) -> Bars:
    """Bars with other closes, whose extremes reach them."""
    high, low = np.maximum(bars.high, close), np.minimum(bars.low, close)
    return Bars(bars.symbol, bars.timeframe, bars.time, bars.open, high, low, close, bars.volume)


def smoothed_closes(count: int, seed: int) -> Bars:
    """Closes that are the mean of three, one of them later."""
    bars = garch_series(count, seed)
    padded = np.r_[bars.close[0], bars.close, bars.close[-1]]
    return with_close(bars, np.convolve(padded, np.ones(3) / 3, "valid"))


def early_closes(count: int, seed: int) -> Bars:
    """Closes one bar early."""
    bars = garch_series(count, seed)
    return with_close(bars, np.r_[bars.close[1:], bars.close[-1]])


def repeated_bars(count: int, seed: int) -> Bars:
    """The same bars twice, under new dates."""
    half = garch_series(count // 2, seed)
    time = FIRST_NS + np.arange(2 * len(half), dtype=np.int64) * HOUR_NS
    columns = [np.r_[column, column] for column in half.columns()]
    return Bars(half.symbol, half.timeframe, time, *columns)


LEAKS: Final[dict[str, Callable[[int, int], Bars]]] = {
    "volume holds the next move": telling_volume,
    "closes smoothed": smoothed_closes,
    "closes one bar early": early_closes,
    "the same bars twice": repeated_bars,
    "bounce of 25 bps": bounce_series,
}
PLANTED: Final = ((0.5, 24.0), (0.25, 24.0), (0.15, 96.0))  # q and L
