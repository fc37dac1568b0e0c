"""An oracle that knows a generator's state: on a true null it cannot foresee the next sign."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import stats

from benchmarks.honesty.run import Run
from benchmarks.honesty.series import FOUND, NOISE, PLANTED, planted_series
from ktrdr_mcp.data.bars import Bars

Floats = NDArray[np.float64]

LAGS: Final = 24  # moves that the oracle sees
LONG: Final = (50, 200)  # bars of averages that it sees, too
TREES: Final = 60
BARS: Final = 20_000
CONTROLS: Final = {
    **{
        f"q {strength} L {length:.0f}": partial(planted_series, strength=strength, length=length)
        for strength, length in PLANTED
    },
    **{kind: FOUND[kind] for kind in ("mean reversion", "breakout momentum", "XOR of two moves")},
}


@dataclass(frozen=True)
class Foresight:
    """What an oracle foresees of the second half of a series, beside the sign that is more usual.

    Args:
        right: the share of signs that it foresees.
        usual: the share that has the more usual sign of the first half.
        differ: on how many bars it answers otherwise than that.
        p: that a coin is right on these as often as it is.
    """

    right: float
    usual: float
    differ: int
    p: float


def known_before(moves: Floats) -> Floats:
    """float64[n - 200, features], what decides each move but its sign.

    A generator's state, such as its volatility, an hour or a jump that is due, decides how large
    the next move will be. The oracle is told the very size of it, and every move before it.

    Args:
        moves: float64[n], log returns.
    """
    longest = max(LONG)
    rows = np.arange(longest, len(moves))
    lagged = sliding_window_view(moves, LAGS)[rows - LAGS]
    total = np.r_[0.0, np.cumsum(moves)]
    square = np.r_[0.0, np.cumsum(np.square(moves))]
    averages = [(total[rows] - total[rows - bars]) / bars for bars in LONG]
    sizes = [np.sqrt((square[rows] - square[rows - bars]) / bars) for bars in (*LONG, LAGS)]
    steps = [total[rows] - total[rows - bars] for bars in (2, 5, 10, 20, 40)]
    return np.column_stack([np.abs(moves[rows]), rows % 7, lagged, *averages, *sizes, *steps])


def foresight(bars: Bars) -> Foresight:
    """Fits boosted trees to the first half of a series and asks them for the second."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    moves = np.diff(np.log(bars.close))
    known, up = known_before(moves), moves[max(LONG) :] > 0
    came = moves[max(LONG) :] != 0
    half = len(up) // 2
    oracle = HistGradientBoostingClassifier(max_iter=TREES, random_state=0)
    oracle.fit(known[:half][came[:half]], up[:half][came[:half]])
    after = np.flatnonzero(came[half:]) + half
    said, usual = oracle.predict(known[after]), bool(up[:half][came[:half]].mean() >= 0.5)
    right, differs = said == up[after], said != usual
    hits, count = int(right[differs].sum()), int(differs.sum())
    p = float(stats.binomtest(hits, count, alternative="greater").pvalue) if count else 1.0
    return Foresight(float(right.mean()), float((up[after] == usual).mean()), count, p)


def oracle(run: Run) -> None:
    """How often the next sign is foreseen by one who knows its size and all before it."""
    count = max(round(BARS * run.share), 2_000)
    print(f"{'kind':20}{'right':>8}{'usual':>8}{'differ':>8}{'p':>10}")
    for stream, (kind, make) in enumerate({**NOISE, **CONTROLS}.items()):
        seed = int(np.random.SeedSequence([run.seed, 900 + stream]).generate_state(1)[0])
        found = foresight(make(count, seed))
        print(
            f"{kind:20}{found.right:>8.1%}{found.usual:>8.1%}{found.differ:>8}{found.p:>10.2g}",
            flush=True,
        )
