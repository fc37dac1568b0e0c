"""Positions against a loop over the bars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr_mcp.evaluation.backtest import (
    confident_signals,
    drop_early_signals,
    positions,
    signals_of,
)

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


def test_a_signal_less_probable_than_asked_is_a_hold() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.25, 0.25, 0.5], [0.45, 0.15, 0.4], [0, 1.0, 0]])
    expected = {0.0: [1, -1, 1, 0], 0.5: [1, -1, 0, 0], 0.51: [0, 0, 0, 0], 1.0: [0, 0, 0, 0]}
    for threshold, signal in expected.items():
        assert confident_signals(probabilities, threshold).tolist() == signal


@given(signals, st.integers(1, 9), st.integers(0, 12), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_signals_are_kept_apart_as_in_a_loop_that_holds_the_position(
    signal: list[int], most_bars: int, least: int, long_only: bool, seed: int
) -> None:
    rows = np.cumsum(np.random.default_rng(seed).choice([1, 1, 1, 2, 5], len(signal))).astype(int)
    found = drop_early_signals(
        np.array(signal, dtype=np.int64), rows, 3 * rows, least, most_bars, long_only
    )
    latest, changed, expected = None, None, []
    for row, one in zip(rows.tolist(), signal, strict=True):
        held = latest[1] if latest and row - latest[0] < most_bars else 0
        target = 0 if one == -1 and long_only else one
        too_soon = changed is not None and 3 * row - changed < least
        dropped = bool(one) and target != held and too_soon
        if one and not dropped:
            changed = 3 * row if target != held else changed
            latest = (row, target)
        expected.append(0 if dropped else one)
    assert found.tolist() == expected


def test_a_reversal_waits_until_the_separation_is_over_and_renewals_do_not_delay_it() -> None:
    signal = np.array([1, -1, 1, 1, -1, -1])
    rows = np.arange(6)
    assert drop_early_signals(signal, rows, rows, 4, most_bars=8).tolist() == [1, 0, 1, 1, -1, -1]
