"""Which bars made a model is known by their content."""

from __future__ import annotations

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars, LoadedBars, aggregate
from ktrdr_mcp.data.content import grams_of
from ktrdr_mcp.training.seen import FRESH, TENSORS, TESTED, TRAINING, VALIDATION, SeenGrams

HOUR = 3_600 * 10**9


def series(close: np.ndarray, shift: int = 0, symbol: str = "TEST") -> Bars:
    time = shift + np.arange(len(close), dtype=np.int64) * HOUR
    return Bars(symbol, "1h", time, *(np.array(close, dtype=float) for _ in range(5)))


@pytest.fixture
def close() -> np.ndarray:
    return 100 * np.exp(np.cumsum(0.003 * np.random.default_rng(8).standard_normal(1_000)))


@pytest.fixture
def seen(close: np.ndarray) -> SeenGrams:
    """Trained on bars 100 to 599, chosen by 600 to 699, tested on 700 to 799."""
    times = (100 * HOUR, 600 * HOUR, 700 * HOUR, 800 * HOUR)
    return SeenGrams.of(grams_of(series(close)), times)


def level_of(number: int) -> int:
    if 100 <= number < 600:
        return TRAINING
    return VALIDATION if 600 <= number < 700 else TESTED if 700 <= number < 800 else FRESH


def test_every_bar_has_the_level_of_its_row(close: np.ndarray, seen: SeenGrams) -> None:
    levels = seen.levels(LoadedBars(series(close), "", []))
    assert levels.tolist() == [level_of(number) for number in range(1_000)]


def test_bars_under_another_name_and_other_dates_have_been_seen(
    close: np.ndarray, seen: SeenGrams
) -> None:
    copy = series(close[300:] * 7, shift=10**18, symbol="OTHER")
    levels = seen.levels(LoadedBars(copy, "", []))
    assert levels.tolist() == [level_of(number) for number in range(300, 1_000)]


def test_one_other_bar_makes_no_fresh_ones(close: np.ndarray, seen: SeenGrams) -> None:
    other = np.r_[close[:400], close[400:] / 2]  # a split, not adjusted
    levels = seen.levels(LoadedBars(series(other), "", []))
    assert (levels[100:600] == TRAINING).all()


def test_wider_bars_are_looked_up_by_what_they_were_made_from(
    close: np.ndarray, seen: SeenGrams
) -> None:
    stored = series(close, symbol="OTHER")
    wide = aggregate(stored, "4h")
    levels = seen.levels(LoadedBars(wide, "", [], stored=stored))
    expected = [
        max(level_of(4 * number + hour) for hour in range(4)) for number in range(len(wide))
    ]
    assert levels.tolist() == expected


def test_other_bars_are_fresh_and_bars_that_rest_tell_nothing(seen: SeenGrams) -> None:
    other = 100 * np.exp(np.cumsum(0.003 * np.random.default_rng(9).standard_normal(500)))
    assert (seen.levels(LoadedBars(series(other), "", [])) == FRESH).all()
    assert seen.levels(LoadedBars(series(np.full(100, 5.0)), "", [])) is None


def test_grams_are_read_as_they_were_written(seen: SeenGrams) -> None:
    again = SeenGrams.from_bytes(seen.to_bytes())
    for name in TENSORS:
        assert np.array_equal(getattr(again, name), getattr(seen, name))
    assert again.to_bytes() == seen.to_bytes()
