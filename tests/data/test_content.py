"""Bars are known by their content, and what that finds is what a plain comparison finds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.content import (
    Sketch,
    are_related,
    grams_of,
    share_in_common,
    sketch_of,
)

HOUR = 3_600 * 10**9


def bars_of(close: np.ndarray, start: int = 0, symbol: str = "TEST", step: int = HOUR) -> Bars:
    time = start + np.arange(len(close), dtype=np.int64) * step
    return Bars(symbol, "1h", time, *(np.array(close, dtype=float) for _ in range(5)))


def walk(bars: int, seed: int, size: float = 0.003) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.round(100 * np.exp(np.cumsum(size * generator.standard_normal(bars))), 4)


def windows_of(close: np.ndarray) -> list[tuple[int, ...]]:
    """Every eight moves in a row with six different ones, by a plain loop."""
    found = []
    for last in range(8, len(close)):
        moves = [
            round(math.log(close[at] / close[at - 1]) * 1e6) for at in range(last - 7, last + 1)
        ]
        if len(set(moves) - {0}) >= 6:
            found.append(tuple(moves))
    return found


def sketch(close: np.ndarray) -> Sketch | None:
    return sketch_of(grams_of(bars_of(close)).hashes)


@pytest.mark.parametrize("kind", ["walk", "ticks", "rests"])
def test_grams_are_the_windows_that_a_plain_loop_finds(kind: str) -> None:
    close = walk(600, 3)
    if kind == "ticks":
        close = np.round(close, 0)
    if kind == "rests":
        close = np.repeat(close, 3)
    bars = bars_of(close)
    grams, windows = grams_of(bars), windows_of(close)
    assert len(grams.hashes) == len(windows)
    assert len(set(grams.hashes.tolist())) == len(set(windows))
    assert np.isin(grams.time, bars.time[8:]).all()


@pytest.mark.parametrize("overlap", [0, 20, 40, 60, 80, 400, 1_000])
def test_what_is_related_is_what_raw_bars_say(overlap: int) -> None:
    series = walk(4_000, 11)
    one, other = series[:1_000], np.concatenate([series[1_000 - overlap : 1_000], walk(900, 12)])
    first, second = set(windows_of(one)), set(windows_of(other))
    share = len(first & second) / min(len(first), len(second))
    sketches = sketch(one), sketch(other)
    assert all(sketches)
    assert share_in_common(*sketches) == pytest.approx(share)
    assert are_related(*sketches) == (share > 0.05)


def test_long_series_are_sketched_by_a_halved_rate_and_found_all_the_same() -> None:
    series = walk(70_000, 5)
    whole, part, strange = sketch(series), sketch(series[30_000:60_000]), sketch(walk(60_000, 6))
    assert (whole.halvings, part.halvings) == (5, 3)
    assert 1_500 < len(whole.hashes) < 4_096
    assert share_in_common(whole, part) == pytest.approx(1, abs=0.02)
    assert not are_related(whole, strange)


@pytest.mark.parametrize(
    "change",
    [
        lambda close: bars_of(close, start=10**18, symbol="OTHER"),
        lambda close: bars_of(close / 4, step=HOUR * 24),
        lambda close: bars_of(np.r_[close[:500], 250.0, close[501:]]),
    ],
    ids=["another name and other dates", "another scale and width", "one other bar"],
)
def test_bars_are_the_same_under(change: Callable[[np.ndarray], Bars]) -> None:
    close = walk(1_500, 21)
    other = grams_of(change(close)).hashes
    assert are_related(sketch(close), sketch_of(other))


def test_bars_that_rest_tell_nothing() -> None:
    assert sketch(np.full(2_000, 10.0)) is None
    assert sketch(walk(20, 1)) is None
    assert len(grams_of(bars_of(walk(8, 1))).hashes) == 0


def test_a_sketch_is_read_as_it_was_written_and_nothing_else() -> None:
    written = sketch(walk(9_000, 4))
    read = Sketch.from_bytes(written.halvings, written.to_bytes())
    assert read.key == written.key
    with pytest.raises(ValueError, match="sketch"):
        Sketch.from_bytes(0, written.to_bytes()[::-1])
