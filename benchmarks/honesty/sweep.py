"""Searches on noise, which must not be called skill, and on planted signals."""

from __future__ import annotations

from math import sqrt

import anyio

from benchmarks.honesty.run import Run
from benchmarks.honesty.series import NOISE, PLANTED, planted_series
from benchmarks.honesty.trainings import open_service_with
from ktrdr_mcp.data.bars import Bars

SAMPLERS = ("qmc", "random", "tpe")
CANDIDATES = 64
NOISE_SERIES = 100  # over all kinds
PLANTED_SERIES = 20
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "dropout_rate": {"low": 0.0, "high": 0.5},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}
NORMAL = 1.96  # of a 95 % interval


async def prediction(bars: Bars, seed: int, run: Run, sampler: str | None) -> str:
    """The verdict on one series that nothing was tried on, by a search or the default alone."""
    config: dict[str, object] = {"epochs": run.epochs, "seed": seed % 2**31}
    if sampler is not None:
        search = {"trials": CANDIDATES, "vary": SPACE, "sampler": sampler, "seed": seed % 2**31}
        config["sweep"] = search
    async with open_service_with(bars) as series:
        return (await series.train(config)).performance.verdict.prediction


def judged(task: tuple[str, float, int, Run, str | None]) -> bool:
    """Whether a series was called skill; a strength above 0 has a signal planted."""
    kind, strength, seed, run, sampler = task
    made = planted_series(run.bars, seed, strength, 24.0) if strength else None
    bars = made or NOISE[kind](run.bars, seed)
    return anyio.run(prediction, bars, seed, run, sampler) == "skill"


def sweep(run: Run) -> None:
    """How often a search is called skill, by sampler, with the interval of the share."""
    kinds = list(NOISE)
    noise = [
        (kinds[place % len(kinds)], 0.0, seed)
        for place, seed in enumerate(run.seeds(NOISE_SERIES, 700))
    ]
    strength = min(each[0] for each in PLANTED)
    planted = [("planted", strength, seed) for seed in run.seeds(PLANTED_SERIES, 701)]
    print(f"{'series':10}{'proposed by':>14}{'series':>8}{'skill':>7}   95 % interval")
    for name, some in (("noise", noise), ("planted", planted)):
        for sampler in (None, *SAMPLERS):
            tasks = [(*each, run, sampler) for each in some]
            found = list(run.in_processes(judged, tasks))
            low, high = interval(sum(found), len(found))
            proposed = sampler or "default alone"
            print(
                f"{name:10}{proposed:>14}{len(found):>8}{sum(found):>7}   {low:.1%} to {high:.1%}",
                flush=True,
            )


def interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share. Source: E. B. Wilson, 1927."""
    share, square = hits / count, NORMAL**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = NORMAL * sqrt(share * (1 - share) / count + square / (4 * count**2))
    half /= 1 + square / count
    return max(0.0, middle - half), min(1.0, middle + half)
