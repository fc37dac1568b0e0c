"""Stopping at the first success: how often a stream of noise trials on one family ever claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.honesty.run import Run
from ktrdr_mcp.evaluation.direction import flipped_statistics, share_reaching, sign_vectors
from ktrdr_mcp.evaluation.multiple_testing import FAMILY_LEVEL, level_of_trial

Floats = NDArray[np.float64]

STREAMS, TRIALS, BLOCKS = 2_000, 100, 60
EFFECT: Final = 3.0  # T that a real trial has on average
AT: Final = (1, 3, 10, 30, 100)
REAL_AT: Final = (1, 3, 10)
CORRELATIONS: Final = (0.0, 0.5)
RULES: Final[dict[str, Callable[[int], float]]] = {
    "0.02": lambda _: FAMILY_LEVEL,
    "0.02 / (1 + ln k)": level_of_trial,
    "0.02 / (1 + ln k)^1.25": lambda k: FAMILY_LEVEL / (1 + np.log(k)) ** 1.25,
    "0.02 / (1 + ln k)^1.5": lambda k: FAMILY_LEVEL / (1 + np.log(k)) ** 1.5,
    "0.02 / (1.69 (1 + ln k)^2)": lambda k: FAMILY_LEVEL / (1.69 * (1 + np.log(k)) ** 2),
}


def levels(run: Run) -> None:
    """Streams that ever claimed by 1, 3, 10, 30 and 100 trials, and power at trials 1, 3, 10."""
    ever = "".join(f"{f'ever by {k}':>14}" for k in AT)
    found = "".join(f"{f'found at {k}':>14}" for k in REAL_AT)
    print(f"{'level of trial k':30}{'correlation':>12}{ever}{found}")
    for correlation in CORRELATIONS:
        tasks = [(seed, correlation) for seed in run.seeds(STREAMS, 400)]
        results = list(run.in_processes(stream, tasks))
        noise, real = (np.array([each[n] for each in results]) for n in (0, 1))
        for name, rule in RULES.items():
            spent = np.array([rule(k) for k in range(1, TRIALS + 1)])
            claimed = np.logical_or.accumulate(noise <= spent, axis=1).mean(axis=0)
            power = [(real[:, n] <= rule(k)).mean() for n, k in enumerate(REAL_AT)]
            figures = [claimed[k - 1] for k in AT] + power
            print(
                f"{name:30}{correlation:>12}" + "".join(f"{figure:>14.1%}" for figure in figures),
                flush=True,
            )


def stream(task: tuple[int, float]) -> tuple[list[float], list[float]]:
    """Adjusted p of each of a hundred noise trials, and of a real one in place of some of them."""
    seed, correlation = task
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal(BLOCKS)

    def trials(count: int) -> Floats:
        own = generator.standard_normal((count, BLOCKS))
        mixed: Floats = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        return mixed

    signs = sign_vectors(BLOCKS, seed % 2**31)
    noise = trials(TRIALS)
    best = np.maximum.accumulate(flipped_statistics(noise, signs), axis=0)
    observed = noise.sum(axis=1) / np.sqrt(np.square(noise).sum(axis=1))
    adjusted = [
        share_reaching(one, t, False) for one, t in zip(best, observed.tolist(), strict=True)
    ]
    real = trials(len(REAL_AT)) + EFFECT / np.sqrt(BLOCKS)
    flipped = flipped_statistics(real, signs)
    found = []
    for one, own, k in zip(real, flipped, REAL_AT, strict=True):
        joint = own if k == 1 else np.maximum(own, best[k - 2])
        found.append(share_reaching(joint, float(one.sum() / np.sqrt(one @ one)), False))
    return adjusted, found
