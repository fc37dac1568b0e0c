"""What makes a result doubtful: untradable prices, leaks in the file, inputs that wander.

Each alarm says what it saw. None changes the statistic; those about the data withhold
`survives_costs`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from ktrdr_mcp.evaluation.blocks import Floats
from ktrdr_mcp.evaluation.edge import student_quantile
from ktrdr_mcp.schemas.results import Alarm

BASIS_POINT: Final = 1e-4
BLOCK_BARS: Final = 50  # of the bounds of half-spreads
BOUND: Final = 0.025  # lower end of the two-sided 95 % interval
FORETELLS: Final = 0.1  # least correlation with the next move
FORETELLING_DEVIATIONS: Final = 4.0
SMOOTHED: Final = 0.3  # correlation of the close with the move after the next opening
BEST_SHARPE: Final = 8.0  # beyond what holding the bars, long or short, would have had
NEAR_MAXIMUM: Final = 0.6  # of the root of the blocks, which T cannot exceed
LEAST_SUSPICIOUS_T: Final = 4.0
FEWEST_BARS: Final = 100
UNIT_ROOT_T: Final = -2.86  # critical value of the t of a unit root with a constant, at 5 %
UNIT_ROOT_LAGS: Final = 4
MOST_ROWS: Final = 20_000
FEWEST_ROWS: Final = 50


def half_spread_bound(opening: Floats, close: Floats) -> float:
    """The lower 95 % bound of Roll's half-spread, in basis points; 0 where there is none.

    Prints that jump between bid and ask make moves from print to print alternate:
    half-spread^2 = -cov(move, next move). Positions are entered at openings, so those must
    alternate; and a signal can live on it only if the bar's own move, which it knows, is taken back
    from the next opening on. The smaller of both bounds counts.

    Args:
        opening: float64[n], opening prices.
        close: float64[n].
    Source:
        R. Roll, A Simple Implicit Measure of the Effective Bid-Ask Spread, 1984.
    """
    if len(opening) < FEWEST_BARS + 2:
        return 0.0
    moves = np.diff(np.log(opening))
    own = np.log(close) - np.log(opening)
    covariance = max(covariance_bound(moves[:-1], moves[1:]), covariance_bound(own[:-2], moves[1:]))
    return math.sqrt(-covariance) / BASIS_POINT if covariance < 0 else 0.0


def covariance_bound(one: Floats, other: Floats) -> float:
    """The upper 95 % bound of the covariance of two columns, with Student's t over blocks.

    Percentiles of a block bootstrap are too narrow for returns with heavy tails.
    """
    product = (one - one.mean()) * (other - other.mean())
    count = len(product) // BLOCK_BARS
    blocks = product[: count * BLOCK_BARS].reshape(count, BLOCK_BARS).mean(axis=1)
    error = float(blocks.std(ddof=1)) / math.sqrt(count)
    return float(blocks.mean()) + student_quantile(1 - BOUND, count - 1) * error


def correlation(one: Floats, other: Floats) -> float:
    """Of two columns; 0 where one does not vary."""
    if len(one) < FEWEST_BARS or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def ranks(values: Floats) -> Floats:
    """float64[n], the order of each value, so that a few large ones do not decide."""
    order: Floats = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    return order


def foretelling(column: Floats, opening: Floats) -> float | None:
    """The correlation of a column with the next move, where it is that of no honest column.

    Args:
        column: float64[n], known at each bar's close.
        opening: float64[n].
    Returns:
        None where it is small, or no larger than with the move that has just ended.
    """
    moves = np.diff(np.log(opening))  # moves[t]: from the opening of t to that of t + 1
    if len(moves) < FEWEST_BARS + 2:
        return None
    column = ranks(column)
    found = None
    for known in (column, np.r_[0.0, np.diff(column)]):
        ahead = correlation(known[:-2], ranks(moves[1:]))
        behind = correlation(known[1:-1], ranks(moves[1:]))
        least = max(FORETELLS, FORETELLING_DEVIATIONS / math.sqrt(len(moves)))
        if abs(ahead) > max(least, abs(behind)) and (found is None or abs(ahead) > abs(found)):
            found = ahead
    return found


def measure_smoothing(opening: Floats, close: Floats) -> float | None:
    """How closes foretell, where they hold what comes after the next opening.

    A close that is shifted or averaged over later bars lies on the side of the next opening to
    which the price then moves. Honest closes are, if anything, on the other.

    Args:
        opening: float64[n].
        close: float64[n].
    """
    beyond = np.log(close[:-2]) - np.log(opening[1:-1])
    moves = np.log(opening[2:]) - np.log(opening[1:-1])
    found = correlation(beyond, moves)
    if found > SMOOTHED:
        return found
    steps = np.diff(np.log(close))
    likeness = correlation(steps[1:], steps[:-1])
    return likeness if likeness > SMOOTHED else None


def data_alarms(
    opening: Floats, close: Floats, volume: Floats, cost_bps: float, repeated: int
) -> Iterator[Alarm]:
    """What is wrong with the bars that were used.

    Args:
        opening: float64[n], opening prices.
        close: float64[n].
        volume: float64[n].
        cost_bps: what a trade is taken to cost.
        repeated: how many tested bars move exactly as earlier ones did.
    """
    spread = half_spread_bound(opening, close)
    if spread > cost_bps:
        yield Alarm(
            name="half_spread",
            text=f"openings bounce: half-spread above {spread:.1f} bps, cost {cost_bps:g}",
            of_data=True,
        )
    if (found := foretelling(volume, opening)) is not None:
        yield Alarm(
            name="foretelling_column",
            text=f"volume foretells the next move ({found:.2f})",
            of_data=True,
        )
    if (found := measure_smoothing(opening, close)) is not None:
        yield Alarm(
            name="foretelling_close",
            text=f"closes foretell ({found:.2f}): smoothed or shifted?",
            of_data=True,
        )
    if repeated:
        yield Alarm(
            name="repeated_history",
            text=f"{repeated:,} tested bars repeat earlier ones",
            of_data=True,
        )


def result_alarms(
    statistic: float, blocks: int, sharpe: float | None, held_sharpe: float | None
) -> Iterator[Alarm]:
    """What is too good: a reason to look for a leak, and no more.

    Args:
        statistic: T.
        blocks: how many blocks were tested.
        sharpe: annualised, after costs.
        held_sharpe: of buying and holding the same bars; a strong trend has a high one.
    """
    most = math.sqrt(max(blocks, 1))
    if statistic > max(NEAR_MAXIMUM * most, LEAST_SUSPICIOUS_T):
        yield Alarm(
            name="near_maximum",
            text=f"T is near its maximum, {most:.1f} (a leak?)",
            of_data=False,
        )
    yield from sharpe_alarms(sharpe, held_sharpe)


def sharpe_alarms(sharpe: float | None, held_sharpe: float | None) -> Iterator[Alarm]:
    """Whether a result is too good; arguments as of `result_alarms`."""
    if sharpe is not None and sharpe - abs(held_sharpe or 0.0) > BEST_SHARPE:
        yield Alarm(
            name="sharpe",
            text=f"Sharpe ratio {sharpe:.1f} (a leak?)",
            of_data=False,
        )


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
    after = step[UNIT_ROOT_LAGS:]
    lagged = [step[UNIT_ROOT_LAGS - lag : len(step) - lag] for lag in range(1, UNIT_ROOT_LAGS + 1)]
    inputs = np.column_stack([values[UNIT_ROOT_LAGS:-1], np.ones(len(after)), *lagged])
    inverse = np.linalg.pinv(inputs.T @ inputs)
    weights = inverse @ (inputs.T @ after)
    left = after - inputs @ weights
    variance = float(left @ left) / max(len(after) - inputs.shape[1], 1)
    error = np.sqrt(max(variance * float(inverse[0, 0]), np.finfo(np.float64).tiny))
    return bool(weights[0] / error > UNIT_ROOT_T)
