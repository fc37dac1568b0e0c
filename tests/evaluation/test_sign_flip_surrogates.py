"""Noise twins: valid bars with the moves' sizes kept and their signs drawn."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.honesty.series import SAMPLES, garch_series
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.evaluation.walk_forward import flip_signs, sign_flip_surrogate


@pytest.fixture(scope="module", params=["1d", "1h"])
def bars(request: pytest.FixtureRequest) -> Bars:
    return SAMPLES.load("AAPL", request.param).bars


def moves(bars: Bars) -> np.ndarray:
    previous = np.log(bars.close[:-1])
    prices = (bars.open, bars.high, bars.low, bars.close)
    return np.stack([np.log(price[1:]) - previous for price in prices])


def test_a_twin_is_valid_and_each_move_is_kept_or_flipped(bars: Bars) -> None:
    twin = sign_flip_surrogate(bars, flip_signs(len(bars), 3))
    assert (twin.high >= np.maximum(twin.open, twin.close)).all()
    assert (twin.low <= np.minimum(twin.open, twin.close)).all()
    assert (twin.low > 0).all()
    opened, high, low, close = moves(bars)
    found = moves(twin)
    kept = np.abs(found - np.stack([opened, high, low, close])).max(axis=0) < 1e-10
    flipped = np.abs(found - np.stack([-opened, -low, -high, -close])).max(axis=0) < 1e-10
    assert (kept | flipped).all()
    assert 0.45 < kept[close != 0].mean() < 0.55
    assert np.array_equal(twin.time, bars.time)
    assert np.array_equal(twin.volume, bars.volume)
    assert twin.close[0] == bars.close[0]


def test_twins_are_the_same_for_a_seed_and_differ_by_number() -> None:
    signs = flip_signs(500, 5, 2)
    assert np.array_equal(signs, flip_signs(500, 5, 2))
    assert not np.array_equal(signs, flip_signs(500, 5, 3))
    assert not np.array_equal(signs, flip_signs(500, 6, 2))


def test_a_single_bar_is_its_own_twin() -> None:
    bars = garch_series(1, 0)
    assert sign_flip_surrogate(bars, flip_signs(1, 0)).close == bars.close
