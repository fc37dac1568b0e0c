"""A synthetic market for the features' tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars

HOUR_NS = 3_600 * 10**9


def market(
    bars: int, *, seed: int = 0, price_factor: float = 1.0, zero_volume_share: float = 0.0
) -> Bars:
    """A random walk with all four prices and volume; the same seed gives the same bars."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, bars)))
    opening = close * np.exp(random.normal(0, 0.003, bars))
    high = np.maximum(opening, close) * np.exp(np.abs(random.normal(0, 0.004, bars)))
    low = np.minimum(opening, close) * np.exp(-np.abs(random.normal(0, 0.004, bars)))
    volume = random.integers(100, 10_000, bars).astype(np.float64)
    volume[random.random(bars) < zero_volume_share] = 0
    prices = [price_factor * each for each in (opening, high, low, close)]
    return Bars("TEST", "1h", np.arange(bars, dtype=np.int64) * HOUR_NS, *prices, volume)


@pytest.fixture(scope="session")
def make_market() -> Callable[..., Bars]:
    """Makes random-walk bars."""
    return market
