"""Size and power of the directional test beside its alternatives, on scores without a network.

Each replication draws returns, labels of eight bars and scores whose truth is known, cuts them into
folds as a training does, and asks every statistic for its p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.honesty.run import Run
from ktrdr_mcp.evaluation.blocks import block_sums
from ktrdr_mcp.evaluation.direction import (
    LEVEL_HORIZONS,
    TIE,
    ScoredRows,
    contributions,
    flipped_statistics,
    score_levels,
    sign_vectors,
    studentised,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

REPLICATIONS: Final = 1_000
HORIZON, WIDTH, VALIDATION_SHARE = 8, 0.85, 0.15
LEVEL: Final = 0.02
FLIPS: Final = 1_999
PERSISTENCE: Final = 0.95  # of a score from bar to bar
STRENGTH: Final = 0.11  # of what a planted score knows of its label
SPANS: Final = ((4, 0.6), (1, 0.85), (2, 0.9), (8, 0.8), (4, 0.3))  # folds, span
ALL_EARLIER: Final = 10**9


class Cut(NamedTuple):
    """The rows of one fold."""

    train: Integers
    validation: Integers
    test: Integers


class World(NamedTuple):
    """Directions of all rows, and each fold's scores on validation and test rows."""

    direction: Floats
    scores: list[tuple[Floats, Floats]]


def cuts(rows: int, folds: int, span: float) -> list[Cut]:
    """Folds as `evaluation.walk_forward` cuts them, expanding."""
    first = rows - int(rows * span)
    bounds = np.linspace(first, rows, folds + 1).astype(np.int64)
    found = []
    for start, stop in pairwise(bounds):
        cut = start - int(start * VALIDATION_SHARE / (1 - VALIDATION_SHARE))
        found.append(
            Cut(
                np.arange(cut - HORIZON),
                np.arange(cut, start - HORIZON),
                np.arange(start, stop),
            )
        )
    return found


def directions(returns: Floats, rows: int) -> Floats:
    """float64[rows], +1, 0, -1 by where the price is eight bars after the next opening."""
    total = np.r_[0.0, np.cumsum(returns)]
    moved = total[HORIZON + 1 : rows + HORIZON + 1] - total[1 : rows + 1]
    far = WIDTH * moved.std()
    return (moved > far).astype(np.float64) - (moved < -far)


def persistent(generator: np.random.Generator, rows: int) -> Floats:
    """A score that knows nothing and changes slowly: autoregressive, of unit variance."""
    shocks = np.sqrt(1 - PERSISTENCE**2) * generator.standard_normal(rows)
    score = np.empty(rows)
    last = generator.standard_normal()
    for t, shock in enumerate(shocks.tolist()):
        last = PERSISTENCE * last + shock
        score[t] = last
    return score


def shifted(jump: float, ramp: float, strength: float = 0.0) -> Callable[..., World]:
    """Scores whose level has moved since validation, by a jump or steadily.

    Args:
        jump: standard deviations, up or down, from a fold's first row on.
        ramp: likewise, reached in the middle of the fold, and twice that at its end.
        strength: of what the scores know of their labels.
    """

    def make(generator: np.random.Generator, rows: int, folds: list[Cut]) -> World:
        direction = directions(generator.standard_normal(rows + HORIZON + 1), rows)
        score = persistent(generator, rows) + strength * direction
        scores = []
        for fold in folds:
            moved = jump * generator.choice([-1.0, 1.0]) + np.linspace(0, 2 * ramp, len(fold.test))
            scores.append((score[fold.validation], score[fold.test] + moved))
        return World(direction, scores)

    return make


def fitted(features: Callable[[Floats], Floats]) -> Callable[..., World]:
    """Scores of a least-squares fit on each fold's training rows.

    Args:
        features: float64[rows, f] of log prices, float64[rows].
    """

    def make(generator: np.random.Generator, rows: int, folds: list[Cut]) -> World:
        returns = generator.standard_normal(rows + HORIZON + 1)
        direction = directions(returns, rows)
        inputs = features(np.cumsum(returns)[:rows])
        scores = []
        for fold in folds:
            mean, spread = inputs[fold.train].mean(axis=0), inputs[fold.train].std(axis=0) + 1e-9
            scaled = np.c_[np.ones(rows), (inputs - mean) / spread]
            weights = np.linalg.lstsq(scaled[fold.train], direction[fold.train], rcond=None)[0]
            score = np.tanh(scaled @ weights)
            scores.append((score[fold.validation], score[fold.test]))
        return World(direction, scores)

    return make


def moves(*lengths: int) -> Callable[[Floats], Floats]:
    """Moves over the last bars."""

    def features(price: Floats) -> Floats:
        return np.stack([price - np.r_[np.zeros(n), price[:-n]] for n in lengths], axis=1)

    return features


def level_features(price: Floats) -> Floats:
    """The price itself and how far it is below and above what it was at first."""
    low, middle, high = np.quantile(price[: len(price) // 3], [0.05, 0.5, 0.95])
    below = np.clip((middle - price) / (middle - low), 0, 1)
    above = np.clip((price - middle) / (high - middle), 0, 1)
    return np.stack([below, above, price], axis=1)


NULLS: Final[dict[str, Callable[..., World]]] = {
    "persistent": shifted(0, 0),
    "jump of 1 s.d.": shifted(1, 0),
    "jump of 2 s.d.": shifted(2, 0),
    "ramp to 4 s.d.": shifted(0, 2),
    "fitted on moves": fitted(moves(3, 14, 50)),
    "fitted on slow moves": fitted(moves(200, 500)),
    "fitted on price levels": fitted(level_features),
}
PLANTED: Final[dict[str, Callable[..., World]]] = {
    "no shift": shifted(0, 0, STRENGTH),
    "jump of 1 s.d.": shifted(1, 0, STRENGTH),
    "jump of 2 s.d.": shifted(2, 0, STRENGTH),
}


@dataclass(frozen=True)
class Statistic:
    """A way to test the same predictions.

    Args:
        name: of the column.
        timestamps: of how many earlier scores the level is the mean; None for the validation rows.
        training_blocks: whether the training rows take part in the flips.
        horizons: of a block, where they do not.
    """

    name: str
    timestamps: int | None
    training_blocks: bool = True
    horizons: int = 6

    def sums(self, world: World, folds: list[Cut]) -> Floats:
        """float64[b], the sums over blocks whose signs are flipped."""
        pairs = zip(folds, world.scores, strict=True)
        scored = [self._scored(world, fold, *pair) for fold, pair in pairs]
        time = np.arange(len(world.direction), dtype=np.int64)
        if self.training_blocks:
            place, values = contributions(scored)
            return block_sums(values, place, time, self.horizons * HORIZON).sums
        products = [one.deviation() * (one.direction - one.mean_direction) for one in scored]
        at = np.concatenate([one.at for one in scored])
        return block_sums(np.concatenate(products), at, time, self.horizons * HORIZON).sums

    def _scored(self, world: World, fold: Cut, validation: Floats, score: Floats) -> ScoredRows:
        if self.timestamps is None:
            level = np.full(len(score), validation.mean())
        else:
            level = score_levels(validation, fold.validation, score, fold.test, self.timestamps)
        return ScoredRows(
            fold.test,
            score,
            world.direction[fold.test],
            level,
            fold.train,
            world.direction[fold.train],
        )


CHOSEN: Final = Statistic("chosen", LEVEL_HORIZONS * HORIZON)
STATISTICS: Final = (
    Statistic("before", None, training_blocks=False, horizons=3),
    Statistic("remedy", None),
    Statistic("all earlier", ALL_EARLIER),
    Statistic("30 horizons", 30 * HORIZON),
    CHOSEN,
    Statistic("120 horizons", 120 * HORIZON),
    Statistic("no training", LEVEL_HORIZONS * HORIZON, training_blocks=False),
)


def size(run: Run) -> None:
    """How often p <= 2 % without a direction to foresee, and with one."""
    tasks = [
        (title, name, span, run)
        for title, worlds in (("size", NULLS), ("power", PLANTED))
        for name in worlds
        for span in (SPANS if title == "size" else SPANS[:2])
    ]
    header = "".join(f"{each.name:>14}" for each in STATISTICS)
    print(f"{'share with p <= 2 %':30}{'folds, span':>12}{header}")
    for (title, name, span, _), shares in zip(
        tasks, run.in_processes(measured, tasks), strict=True
    ):
        figures = "".join(f"{share:>14.1%}" for share in shares)
        where = f"{span[0]}, {span[1]}"
        print(f"{title + ': ' + name:30}{where:>12}{figures}", flush=True)


def measured(task: tuple[str, str, tuple[int, float], Run]) -> list[float]:
    """One row: the share of replications that each statistic calls skill."""
    title, name, span, run = task
    make, folds = (NULLS if title == "size" else PLANTED)[name], cuts(run.bars, *span)
    generators = [np.random.default_rng(seed) for seed in run.seeds(REPLICATIONS, 300)]
    worlds = [make(generator, run.bars, folds) for generator in generators]
    return [share_reached([each.sums(world, folds) for world in worlds]) for each in STATISTICS]


def share_reached(sums: list[Floats]) -> float:
    """How many of some trials have p <= 2 %, by signs that they share."""
    stacked = np.stack(sums)
    signs = sign_vectors(stacked.shape[1], 0, FLIPS)
    observed = studentised(stacked).sum(axis=1)[:, None]
    p = (1 + (flipped_statistics(stacked, signs) >= observed - TIE).sum(axis=1)) / (1 + FLIPS)
    return float((p <= LEVEL).mean())
