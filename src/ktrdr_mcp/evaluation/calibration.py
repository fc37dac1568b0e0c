"""Whether predicted probabilities come true as often as they say."""

from __future__ import annotations

from typing import Final

import numpy as np

from ktrdr_mcp.evaluation.blocks import Floats, Integers, block_sums
from ktrdr_mcp.schemas.results import CalibrationBin

BINS: Final = 8
LEAST_ROWS: Final = 20  # of a bin


def calibrate(
    probabilities: Floats, labels: Integers, at: Integers, time: Integers, width_bars: int
) -> list[CalibrationBin]:
    """The most probable class beside how often it came, in bins of as many rows each.

    The error of a bin is the root of the sum over blocks of time of squared sums of
    (hit - mean hit), over its rows: rows of one block are not independent.

    Args:
        probabilities: float64[n, 3], each row sums to 1.
        labels: int64[n], class numbers of what came.
        at: int64[n], the place of each row's timestamp in `time`, never falling.
        time: int64[t], every timestamp, UTC nanoseconds.
        width_bars: of a block, in timestamps.
    Returns:
        at most 8 bins, from the least sure to the surest; fewer where rows are few or tied.
    Source:
        C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural Networks, 2017,
        with bins of equal size.
    """
    sure = probabilities.max(axis=1)
    hit = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    count = min(BINS, len(sure) // LEAST_ROWS)
    if count < 1:
        return []
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, count + 1)[1:-1]))
    number = np.searchsorted(edges, sure, side="right")
    bins = []
    for each in np.unique(number):
        chosen = number == each
        mean = float(hit[chosen].mean())
        sums = block_sums(hit[chosen] - mean, at[chosen], time, width_bars).sums
        bins.append(
            CalibrationBin(
                predicted=float(sure[chosen].mean()),
                observed=mean,
                error=float(np.sqrt(np.square(sums).sum())) / int(chosen.sum()),
                rows=int(chosen.sum()),
            )
        )
    return bins
