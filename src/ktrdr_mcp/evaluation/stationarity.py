"""Whether a feature returns to a level, or wanders as a price does."""

from __future__ import annotations

from typing import Final

import numpy as np

from ktrdr_mcp.evaluation.blocks import Floats

CRITICAL: Final = -2.86  # of the t of a unit root with a constant, at 5 %
LAGS: Final = 4
MOST_ROWS: Final = 20_000
FEWEST_ROWS: Final = 50


def has_unit_root(values: Floats) -> bool:
    """Whether a unit root cannot be rejected at 5 %.

    dx_t = a + g x_(t-1) + four lags of dx: the t of g against the quantile of its law under g = 0.

    Args:
        values: float64[n], in the order of time; the newest 20,000 are used.
    Source:
        D. Dickey, W. Fuller, 1979; J. MacKinnon, Critical Values for Cointegration Tests, 2010.
    """
    values = values[-MOST_ROWS:]
    if len(values) < FEWEST_ROWS or float(np.ptp(values)) < 1e-12:
        return False
    step = np.diff(values)
    after = step[LAGS:]
    lagged = [step[LAGS - lag : len(step) - lag] for lag in range(1, LAGS + 1)]
    inputs = np.column_stack([values[LAGS:-1], np.ones(len(after)), *lagged])
    inverse = np.linalg.pinv(inputs.T @ inputs)
    weights = inverse @ (inputs.T @ after)
    left = after - inputs @ weights
    variance = float(left @ left) / max(len(after) - inputs.shape[1], 1)
    error = np.sqrt(max(variance * float(inverse[0, 0]), np.finfo(np.float64).tiny))
    return bool(weights[0] / error > CRITICAL)
