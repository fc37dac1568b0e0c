"""What it would take to find an effect: more bars, or a stronger effect."""

from __future__ import annotations

from typing import Final

POWER_QUANTILE: Final = 0.8416212335729143  # of the standard normal, for 80 % power
MOST_TIMES_LONGER: Final = 20  # beyond, the observed effect is too small to plan by


def blocks_for_power(blocks: int, statistic: float, critical: float) -> float | None:
    """How many blocks give 80 % power if the effect is the observed one.

    T grows with the root of the number of blocks: n' = n ((critical + z_0.8) / T)^2.

    Args:
        blocks: n, now.
        statistic: T, now.
        critical: what T must reach.
    Returns:
        None if the effect is not positive.
    """
    if blocks == 0 or statistic <= 0:
        return None
    return blocks * ((critical + POWER_QUANTILE) / statistic) ** 2


def detectable_accuracy(accuracy_error: float, critical: float) -> float:
    """The directional accuracy that these rows show with 80 % power, at most 1.

    Args:
        accuracy_error: standard error of the directional accuracy.
        critical: what T must reach.
    """
    return min(0.5 + (critical + POWER_QUANTILE) * accuracy_error, 1.0)
