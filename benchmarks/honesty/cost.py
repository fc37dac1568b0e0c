"""What judging costs beside the training of the model."""

from __future__ import annotations

from statistics import median
from typing import Any

import anyio

from benchmarks.honesty.run import Run
from benchmarks.honesty.series import NOISE
from benchmarks.honesty.trainings import Series, Trained, open_service_with

ROUNDS = 5
WAYS: dict[str, dict[str, Any]] = {
    "the model alone": {"walk_forward": None},
    "default, four folds": {},
    "folds and four surrogates": {"control": True},
}


def cost(run: Run) -> None:
    """Seconds of training and of all the rest, with and without folds and sign-flip surrogates."""
    anyio.run(compared, run)


async def compared(run: Run) -> None:
    """Trains each way in turn, on one series and in one service."""
    found: dict[str, list[Trained]] = {way: [] for way in WAYS}
    async with open_service_with(NOISE["garch"](run.bars, run.seed)) as series:
        await rounds(series, found, run)
    width = max(map(len, WAYS))
    print(
        f"{'':{width}}{'whole, s':>10}{'training, s':>13}{'the rest, s':>13}{'rest / training':>17}"
    )
    for way, trials in found.items():
        training = median(training_s(trial) for trial in trials)
        rest = median(trial.wall_s - training_s(trial) for trial in trials)
        whole = median(trial.wall_s for trial in trials)
        print(f"{way:{width}}{whole:>10.2f}{training:>13.2f}{rest:>13.2f}{rest / training:>17.1%}")


async def rounds(series: Series, found: dict[str, list[Trained]], run: Run) -> None:
    """The same epochs each time, so that only what is judged differs."""
    for seed in range(run.part(ROUNDS)):
        for way, special in WAYS.items():
            config = {"epochs": run.epochs, "early_stopping": None, "seed": seed, **special}
            found[way].append(await series.train(config))


def training_s(trial: Trained) -> float:
    """Seconds inside the trainer; the rest is data, features, labels, judging and storing."""
    return trial.performance.training_metrics.training_time_minutes * 60
