"""Membership functions, and sets placed by the data they are fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ktrdr_mcp.errors import NotEnoughData
from ktrdr_mcp.features.indicator import Floats
from ktrdr_mcp.strategy.form import FuzzyKind, FuzzySetSpec

AUTO_SET_NAMES: Final = ("low", "medium", "high")
CYCLIC_NAMES: Final = ("sine", "cosine")
AUTO_QUANTILES: Final = (0.05, 0.5, 0.95)
OUTER_FOOT_WIDTHS: Final = 50  # so far out that a triangle is a shoulder in effect
SMALLEST_GAP: Final = 1e-9  # between quantiles, relative to the largest of them


def membership(kind: FuzzyKind, parameters: Sequence[float], x: Floats) -> Floats:
    """How far each value belongs to a set.

    Args:
        kind: triangular, trapezoidal or gaussian.
        parameters: as FuzzySetSpec describes them.
        x: float64[n]
    Returns:
        float64[n] in [0, 1]; NaN where x is NaN.
    """
    if kind == "gaussian":
        mean, deviation = parameters
        return np.asarray(np.exp(-0.5 * ((x - mean) / deviation) ** 2))
    left_foot, left_shoulder = parameters[0], parameters[1]
    right_shoulder, right_foot = parameters[-2], parameters[-1]
    degrees = np.minimum(rise(x, left_foot, left_shoulder), rise(-x, -right_foot, -right_shoulder))
    return np.clip(degrees, 0.0, 1.0, out=degrees)


def cyclic(x: Floats, cycle: float) -> tuple[Floats, Floats]:
    """Sine and cosine of where values stand in their cycle: its end lies beside its beginning.

    Args:
        x: float64[n]
        cycle: after how many units the values begin anew.
    """
    angle = 2 * np.pi / cycle * x
    return np.sin(angle), np.cos(angle)


def rise(x: Floats, foot: float, shoulder: float) -> Floats:
    """The line that is 0 at the foot and 1 at the shoulder; a step if they are one point."""
    if foot == shoulder:
        return np.where(np.isnan(x), np.nan, np.where(x >= shoulder, 1.0, 0.0))
    return (x - foot) / (shoulder - foot)


def auto_sets(values: Floats) -> tuple[FuzzySetSpec, ...]:
    """Three triangles whose peaks are the 5th, 50th and 95th percentile.

    Between the outer peaks, memberships sum to 1. Beyond a peak they fall so slowly that the
    outer triangles are shoulders in effect.

    Args:
        values: float64[k], finite.
    Raises:
        NotEnoughData: the values are too few or too much alike for three peaks.
    """
    if not len(values):
        raise NotEnoughData(
            "there are no values to place automatic fuzzy sets on.",
            hint="Choose a longer range.",
        )
    low, middle, high = (float(each) for each in np.quantile(values, AUTO_QUANTILES))
    gap = SMALLEST_GAP * max(abs(low), abs(high))
    if not (middle - low > gap and high - middle > gap):
        raise NotEnoughData(
            f"the 5th, 50th and 95th percentiles are {low:g}, {middle:g} and {high:g}, too close "
            "for automatic fuzzy sets.",
            hint="Give this indicator sets of its own or crisp, or choose a longer range.",
        )
    reach = OUTER_FOOT_WIDTHS * (high - low)
    feet = ((low - reach, low, middle), (low, middle, high), (middle, high, high + reach))
    return tuple(
        FuzzySetSpec(name, "triangular", corners)
        for name, corners in zip(AUTO_SET_NAMES, feet, strict=True)
    )
