"""Which bars of a range are traded in sample, out of it, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from ktrdr_mcp.training.predictor import parts_of
from ktrdr_mcp.training.seen import FRESH, TESTED, TRAINING, VALIDATION

SEEN = np.full(100, FRESH, dtype=np.int8)
SEEN[30:50], SEEN[50:60], SEEN[60:70] = TRAINING, VALIDATION, TESTED
CASES = {  # range: seen in training, seen in choosing, fresh, left out, whether it comes after
    (0, 100): (range(30, 50), range(50, 70), range(70, 100), range(30), True),
    (40, 100): (range(40, 50), range(50, 70), range(70, 100), range(0), True),
    (10, 50): (range(30, 50), range(0), range(10, 30), range(0), False),
    (10, 29): (range(0), range(0), range(10, 29), range(0), False),
    (80, 90): (range(0), range(0), range(80, 90), range(0), True),
    (35, 60): (range(35, 50), range(50, 60), range(0), range(0), False),
    (20, 71): (range(30, 50), range(50, 70), range(70, 71), range(20, 30), True),
}


@pytest.mark.parametrize("chosen", CASES)
def test_bars_before_and_after_the_training_are_never_traded_as_one(chosen) -> None:
    parts = parts_of(np.arange(*chosen), SEEN)
    fitted, chose, fresh, skipped, after = CASES[chosen]
    assert parts.in_sample.tolist() == list(fitted)
    assert parts.choosing.tolist() == list(chose)
    assert parts.out_of_sample.tolist() == list(fresh)
    assert parts.left_out.tolist() == list(skipped)
    assert parts.after is after


def test_a_series_that_the_model_has_not_seen_is_out_of_sample_as_a_whole() -> None:
    parts = parts_of(np.arange(20, 100), np.zeros(100, dtype=np.int8))
    assert parts.out_of_sample.tolist() == list(range(20, 100))
    assert not parts.after
