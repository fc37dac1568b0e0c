"""The checks that every labeler must pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.labels.registry import BUY, SELL, UNDEFINED, Labels, complete, make_labels

CUTS = 12


def check_labeler(bars: Bars, config: Mapping[str, Any], seed: int = 0) -> None:
    """Checks one labeler on one series.

    It is deterministic and well formed, and the label at t depends on no bar after end[t]: when
    everything behind some bar is replaced by other bars, each label that ended before stays.

    Args:
        bars: any bars, at least one; some hundred tell more.
        config: the method and its parameters.
        seed: of the replacing bars and of where they begin.
    Raises:
        AssertionError: it breaks one of these promises.
    """
    effective = complete(config)
    labels = make_labels(bars, effective)
    check_form(labels, len(bars))
    require(agree(labels, make_labels(bars, effective), slice(None)), "it is not deterministic")
    random = np.random.default_rng(seed)
    for last_kept in random.integers(0, len(bars), CUTS).tolist():
        changed = make_labels(replace_after(bars, last_kept, random), effective)
        settled = (labels.label != UNDEFINED) & (labels.end <= last_kept)
        require(agree(labels, changed, settled), f"it looks beyond its end at bar {last_kept}")


def check_form(labels: Labels, count: int) -> None:
    """Checks shapes, types and that each end lies at or after its bar. Raises AssertionError."""
    require(labels.label.shape == (count,) and labels.end.shape == (count,), "its length differs")
    require(labels.label.dtype == np.int8, "its labels are not int8")
    require(labels.end.dtype == np.int64, "its ends are not int64")
    defined = labels.label != UNDEFINED
    known = (labels.label >= BUY) & (labels.label <= SELL)
    require(bool((known | ~defined).all()), "it has another class")
    require(bool((labels.end[~defined] == -1).all()), "an undefined label has an end")
    inside = (labels.end >= np.arange(count)) & (labels.end < count)
    require(bool(inside[defined].all()), "an end lies before its bar or beyond the data")


def agree(one: Labels, other: Labels, rows: Any) -> bool:
    """Whether two results agree on some rows."""
    labels_agree = np.array_equal(one.label[rows], other.label[rows])
    return labels_agree and np.array_equal(one.end[rows], other.end[rows])


def replace_after(bars: Bars, last_kept: int, random: np.random.Generator) -> Bars:
    """The same bars up to one of them, and a wild random walk behind it."""
    kept = last_kept + 1
    steps = random.normal(0, 0.05, len(bars) - kept)
    close = np.r_[bars.close[:kept], bars.close[last_kept] * np.exp(np.cumsum(steps))]
    opened = np.r_[bars.open[:kept], close[last_kept:-1]]
    high = np.r_[bars.high[:kept], (1.01 * np.maximum(opened, close))[kept:]]
    low = np.r_[bars.low[:kept], (0.99 * np.minimum(opened, close))[kept:]]
    volume = np.r_[bars.volume[:kept], np.zeros(len(bars) - kept)]
    return Bars(bars.symbol, bars.timeframe, bars.time, opened, high, low, close, volume)


def require(condition: bool, otherwise: str) -> None:
    """Raises AssertionError with the given words unless the condition holds."""
    if not condition:
        raise AssertionError(f"This labeler is not sound: {otherwise}.")
