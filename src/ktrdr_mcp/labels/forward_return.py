"""The forward-return labeler: what holding for a fixed number of bars would have earned."""

from __future__ import annotations

from typing import Final

import numpy as np

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.labels.registry import (
    BUY,
    HOLD,
    HORIZON,
    SELL,
    Labels,
    Parameter,
    labeler,
    undefined_labels,
)

THRESHOLD: Final = Parameter(
    "threshold", 0.005, 0, 1, "of log return", exclude_minimum=True, exclude_maximum=True
)


@labeler("forward_return", HORIZON, THRESHOLD)
def forward_return(bars: Bars, horizon: int, threshold: float) -> Labels:
    """Buy if the log return from open(t+1) to close(t+horizon) is above the threshold.

    Sell if it is below minus the threshold, otherwise hold. The last `horizon` bars are undefined.

    Args:
        bars: n bars.
        horizon: bars ahead.
        threshold: a log return.
    Returns:
        n labels; `end` is t+horizon.
    """
    labels = undefined_labels(len(bars))
    count = len(bars) - horizon
    if count < 1:
        return labels
    earned = np.log(bars.close[horizon:]) - np.log(bars.open[1 : count + 1])
    sell_or_hold = np.where(earned < -threshold, SELL, HOLD)
    labels.label[:count] = np.where(earned > threshold, BUY, sell_or_hold)
    labels.end[:count] = np.arange(count) + horizon
    return labels
