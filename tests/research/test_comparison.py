"""Comparing two trials block by block, whatever their horizons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.learn.judge.blocks import block_sums
from ktrdr_mcp.research.comparison import difference

HOUR_NS = 3_600 * 10**9
BARS = 2_400
TIME = np.arange(BARS, dtype=np.int64) * HOUR_NS


def scores(values: np.ndarray, width_bars: int) -> dict[str, Any]:
    """What the ledger would keep of a trial with these products."""
    blocks = block_sums(values, np.arange(BARS), TIME, width_bars)
    return {"direction": {"blocks": blocks.to_dict()}}


@pytest.mark.parametrize("widths", [(12, 96), (96, 12), (24, 24)])
def test_the_same_predictions_are_no_better_under_another_horizon(widths) -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, BARS)
    found = difference(scores(values, widths[0]), scores(values, widths[1]))
    assert found is not None
    assert (found.statistic, found.p) == pytest.approx((0.0, 1.0))
    assert found.common_blocks == BARS // max(widths)


@pytest.mark.parametrize("widths", [(12, 96), (96, 12), (24, 24)])
def test_the_better_one_is_named_whichever_comes_first(widths) -> None:
    noise = np.random.default_rng(4).normal(0.0, 1.0, BARS)
    good, poor = scores(noise + 0.5, widths[0]), scores(-noise, widths[1])
    one, other = difference(good, poor), difference(poor, good)
    assert one is not None
    assert other is not None
    assert one.statistic > 0 > other.statistic
    assert one.p == pytest.approx(other.p)
    assert one.p < 0.05
