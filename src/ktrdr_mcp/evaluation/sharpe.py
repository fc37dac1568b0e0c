"""The Sharpe ratio of a series of returns, and how uncertain it is."""

from __future__ import annotations

import math

import numpy as np

from ktrdr_mcp.evaluation.blocks import Floats


def sharpe_ratio(returns: Floats) -> float | None:
    """Mean over standard deviation (n - 1) per bar, riskless rate 0; None if it is undefined.

    Args:
        returns: float64[n], per bar.
    """
    if len(returns) < 2 or np.ptp(returns) == 0:
        return None
    return float(returns.mean() / returns.std(ddof=1))


def sharpe_error(returns: Floats) -> float | None:
    """The standard error of the Sharpe ratio per bar; None where the ratio is undefined.

    sqrt((1 - g3 SR + (g4 - 1) / 4 SR^2) / (n - 1)), with skewness g3 and kurtosis g4 (3 if normal).

    Args:
        returns: float64[n], per bar.
    Source:
        A. Lo, The Statistics of Sharpe Ratios, 2002, for normal returns; E. Mertens, 2002, for any;
        n - 1 as in D. Bailey, M. Lopez de Prado, The Sharpe Ratio Efficient Frontier, 2012.
    """
    ratio = sharpe_ratio(returns)
    if ratio is None:
        return None
    return math.sqrt(variance_factor(returns, ratio) / (len(returns) - 1))


def variance_factor(returns: Floats, ratio: float) -> float:
    """1 - g3 SR + (g4 - 1) / 4 SR^2: n - 1 times the variance of the Sharpe ratio.

    Args:
        returns: float64[n], not all the same.
        ratio: their Sharpe ratio per bar.
    """
    deviation = (returns - returns.mean()) / returns.std()
    skewness = float(np.power(deviation, 3).mean())
    kurtosis = float(np.power(deviation, 4).mean())
    return max(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2, 0.0)
