"""Searches on noise, which must not be called skill, and on planted signals."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, Final

import anyio

from benchmarks.honesty.run import Run
from benchmarks.honesty.series import NOISE, PLANTED, hours_series, planted_series
from benchmarks.honesty.trainings import open_service_with
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse

SAMPLERS = ("qmc", "random", "tpe")
ALONE: Final = {"default alone": "default", "clock alone": "clock"}
CANDIDATES = 64
NOISE_SERIES = 100  # over all kinds
PLANTED_SERIES = 20  # of each kind
CLOCK: Final[dict[str, Any]] = {  # a strategy that knows the time alone
    "indicators": [{"name": "hour"}, {"name": "weekday"}],
    "fuzzy_sets": {"hour": "cyclic", "weekday": "cyclic"},
}
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "dropout_rate": {"low": 0.0, "high": 0.5},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "strategy": ["default", "clock"],
}
TREND: Final = PLANTED[1]  # which the default sees
SIGNALS: Final[dict[str, Callable[[int, int], Bars]]] = {
    "trend": lambda count, seed: planted_series(count, seed, *TREND),
    "hours": lambda count, seed: hours_series(count, seed, 0.5),
}
NORMAL = 1.96  # of a 95 % interval


async def prediction(bars: Bars, seed: int, run: Run, proposed: str) -> str:
    """The verdict on one series that nothing was tried on, by a search or one strategy alone."""
    config: dict[str, object] = {"epochs": run.epochs, "seed": seed % 2**31}
    if proposed in SAMPLERS:
        search = {"trials": CANDIDATES, "vary": SPACE, "sampler": proposed, "seed": seed % 2**31}
        config["sweep"] = search
    written = parse(requests.SaveStrategy, {"name": "clock", "strategy": CLOCK})
    async with open_service_with(bars) as series:
        await series.service.save_strategy(written)
        trained = await series.train(config, ALONE.get(proposed, "default"))
        return trained.performance.verdict.prediction


def is_skill(task: tuple[str, int, Run, str]) -> bool:
    """Whether a series of a kind was called skill."""
    kind, seed, run, proposed = task
    bars = (NOISE | SIGNALS)[kind](run.bars, seed)
    return anyio.run(prediction, bars, seed, run, proposed) == "skill"


def sweep(run: Run) -> None:
    """How often a search is called skill, by sampler, with the interval of the share.

    The default strategy sees trends and next to nothing of the hour; the clock sees nothing else.
    """
    kinds = list(NOISE)
    noise = enumerate(run.seeds(NOISE_SERIES, 700))
    rows = {"noise": [(kinds[place % len(kinds)], seed) for place, seed in noise]}
    for stream, kind in enumerate(SIGNALS, 701):
        rows[kind] = [(kind, seed) for seed in run.seeds(PLANTED_SERIES, stream)]
    print(f"{'series':10}{'proposed by':>14}{'series':>8}{'skill':>7}   95 % interval")
    for name, some in rows.items():
        for proposed in (*ALONE, *SAMPLERS):
            found = list(run.in_processes(is_skill, [(*each, run, proposed) for each in some]))
            low, high = interval(sum(found), len(found))
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
