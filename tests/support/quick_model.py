"""A model that needs no network: least squares of the direction on a few past moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp import labels as _registers_the_labelers  # noqa: F401
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.evaluation.direction import (
    LEVEL_HORIZONS,
    ScoredRows,
    directions_of,
    score_levels,
)
from ktrdr_mcp.evaluation.walk_forward import Timeline, walk_forward
from ktrdr_mcp.labels.registry import make_labels

HORIZON = 8
WARM_UP = 60
LOOKBACKS = (1, 3, 8, 20)
VALIDATION_SHARE = 0.2
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QuickResult:
    """Walk-forward predictions: folds of scores, and a signal on the stronger half of them."""

    folds: list[ScoredRows]
    rows: NDArray[np.int64]
    signal: NDArray[np.int64]


def past_moves(bars: Bars) -> Floats:
    """float64[n, 1 + lookbacks]: one, and log moves over the past bars; NaN in the warm-up."""
    price = np.log(bars.close)
    columns = [np.ones(len(price))]
    for back in LOOKBACKS:
        move = np.full(len(price), np.nan)
        move[back:] = (price[back:] - price[:-back]) / np.sqrt(back)
        columns.append(100 * move)
    return np.stack(columns, axis=1)


def predict_quickly(bars: Bars, features: Floats | None = None) -> QuickResult:
    """Fits on each fold's training rows and scores its test rows.

    Args:
        bars: the series.
        features: float64[bars, f] to use instead of past moves.
    """
    made = make_labels(bars, {"method": "triple_barrier", "horizon": HORIZON, "width": 0.85})
    inputs = past_moves(bars) if features is None else features
    index = np.arange(WARM_UP, len(bars))
    direction = directions_of(made.label)
    folds, signals, timeline = [], [], Timeline.of_one_series(made.end)
    for fold in walk_forward(index[made.label[index] >= 0], timeline, VALIDATION_SHARE):
        weights = np.linalg.lstsq(inputs[fold.train], direction[fold.train], rcond=None)[0]
        score = inputs @ weights
        folds.append(
            ScoredRows(
                fold.test,
                score[fold.test],
                direction[fold.test],
                score_levels(
                    score[fold.validation],
                    fold.validation,
                    score[fold.test],
                    fold.test,
                    LEVEL_HORIZONS * HORIZON,
                ),
                fold.train,
                direction[fold.train],
            )
        )
        strong = np.abs(score[fold.test]) > np.median(np.abs(score[fold.train]))
        signals.append((np.sign(score[fold.test]) * strong).astype(np.int64))
    rows = np.concatenate([fold.at for fold in folds])
    return QuickResult(folds, rows, np.concatenate(signals))
