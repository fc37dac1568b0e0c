"""True nulls have no direction to foresee, whatever is known of their state; planted series do."""

from __future__ import annotations

import pytest

from benchmarks.honesty.oracle import CONTROLS, foresight
from benchmarks.honesty.series import NOISE

COUNT = 8_000


@pytest.mark.parametrize("kind", NOISE)
def test_who_knows_the_size_of_the_next_move_and_all_before_it_cannot_tell_its_sign(kind) -> None:
    assert foresight(NOISE[kind](COUNT, 20_261)).p > 0.002  # of ten kinds


@pytest.mark.parametrize("kind", ["q 0.5 L 24", "breakout momentum"])
def test_the_same_oracle_foresees_what_was_planted(kind) -> None:
    assert foresight(CONTROLS[kind](2 * COUNT, 20_261)).p < 1e-6
