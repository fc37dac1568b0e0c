"""Positions against a loop over the bars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr_mcp.learn.judge.positions import positions, signals_of

signals = st.lists(st.sampled_from([0, 0, 0, 1, -1]), max_size=60)


def plain(signal: list[int], rows: list[int], most_bars: int, long_only: bool) -> list[float]:
    held, since, result = 0, None, []
    for row, one in zip(rows, signal, strict=True):
        if one != 0:
            held, since = one, row
        elif since is not None and row - since >= most_bars:
            held = 0
        result.append(float(max(held, 0) if long_only else held))
    return result


@given(signals, st.integers(1, 9), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_positions_equal_a_loop_over_bars(
    signal: list[int], most_bars: int, long_only: bool, seed: int
) -> None:
    steps = np.random.default_rng(seed).choice([1, 1, 1, 2, 5], len(signal))
    rows = np.cumsum(steps).astype(np.int64)
    found = positions(np.array(signal, dtype=np.int64), rows, most_bars, long_only)
    assert found.tolist() == plain(signal, rows.tolist(), most_bars, long_only)


@pytest.mark.parametrize(("most_bars", "expected"), [(1, [1, 0, 0, -1]), (3, [1, 1, 1, -1])])
def test_hold_keeps_a_position_at_most_so_many_bars(most_bars: int, expected: list[int]) -> None:
    signal = np.array([1, 0, 0, -1])
    assert positions(signal, np.arange(4), most_bars).tolist() == expected


def test_classes_become_signals() -> None:
    assert signals_of(np.array([0, 1, 2], dtype=np.int8)).tolist() == [1, 0, -1]
