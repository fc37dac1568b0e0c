"""An agent that tries a hundred configurations on one series of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import numpy as np

from benchmarks.honesty.run import Run
from benchmarks.honesty.series import NOISE
from benchmarks.honesty.trainings import open_service_with
from ktrdr_mcp.data.bars import Bars

SERIES, TRIALS = 10, 100
STRATEGIES = ("default", "mean_reversion", "trend_following", "volatility_breakout")


@dataclass(frozen=True)
class Family:
    """What an agent reads of its trials on one series.

    Args:
        kind: of noise.
        trials: how many the trial log counted at the last one.
        skill_at_once: how many were called skill when they had just ended.
        skill: how many are called skill in the end.
        survives: how many survive costs in the end.
        gained: how many have a net return above zero.
    """

    kind: str
    trials: int
    skill_at_once: int
    skill: int
    survives: int
    gained: int


def family(run: Run) -> None:
    """At most one series in ten may have any skill in the end."""
    kinds = list(NOISE)
    tasks = [
        (kinds[number % len(kinds)], seed, run)
        for number, seed in enumerate(run.seeds(SERIES, 200))
    ]
    columns = ("trials", "skill at once", "skill in the end", "survives", "net > 0")
    print(f"{'kind':18}{'seed':>12}" + "".join(f"{column:>18}" for column in columns))
    for (kind, seed, _), found in zip(tasks, run.in_processes(tried, tasks), strict=True):
        figures = (found.trials, found.skill_at_once, found.skill, found.survives, found.gained)
        print(f"{kind:18}{seed:>12}" + "".join(f"{figure:>18}" for figure in figures), flush=True)


def tried(task: tuple[str, int, Run]) -> Family:
    """One series and all its trials."""
    kind, seed, run = task
    return anyio.run(try_all, kind, NOISE[kind](run.bars, seed), seed, run)


async def try_all(kind: str, bars: Bars, seed: int, run: Run) -> Family:
    """Trains one configuration after the other and reads all verdicts again in the end."""
    generator = np.random.default_rng(seed)
    async with open_service_with(bars) as series:
        trials = [
            await series.train(varied(generator, run.epochs), str(generator.choice(STRATEGIES)))
            for _ in range(run.part(TRIALS))
        ]
        last = [await series.performance(trial.task_id) for trial in trials]
    counted = [(each.verdict.as_of_trial, each.verdict.trials_since) for each in last]
    at_once = [trial.performance.verdict.as_of_trial for trial in trials]
    numbers = list(range(1, len(trials) + 1))
    if at_once != numbers or counted != [(each, len(trials) - each) for each in numbers]:
        raise AssertionError(f"the trial log lost count: {at_once}, then {counted}")
    return Family(
        kind,
        len(trials),
        sum(trial.performance.verdict.prediction == "skill" for trial in trials),
        sum(each.verdict.prediction == "skill" for each in last),
        sum(each.verdict.trading == "survives_costs" for each in last),
        sum(each.trading.net_total_return > 0 for each in last),
    )


def varied(generator: np.random.Generator, epochs: int) -> dict[str, Any]:
    """A configuration as an agent would vary it."""
    return {
        "hidden_layers": [[8], [32, 16], [64, 32, 16], [128, 64]][generator.integers(4)],
        "learning_rate": float(10 ** generator.uniform(-4, -2)),
        "dropout_rate": float(generator.choice([0.0, 0.2, 0.5])),
        "labels": {
            "horizon": int(generator.choice([4, 8, 16])),
            "width": float(generator.uniform(0.5, 1.2)),
        },
        "seed": int(generator.integers(2**31)),
        "epochs": epochs,
    }
