"""Noise that must not be called skill, and planted signals that must be found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import anyio

from benchmarks.honesty.run import Run
from benchmarks.honesty.series import NOISE, PLANTED, planted_series
from benchmarks.honesty.trainings import open_service_with
from ktrdr_mcp.data.bars import Bars

NOISE_SERIES = 50  # of each kind
PLANTED_SERIES = 20
COLUMNS = ("series", "skill", "no_skill", "survives", "loses", "net > 0", "constant")


@dataclass(frozen=True)
class Verdicts:
    """One series judged, as the only trial on it."""

    kind: str
    prediction: str
    trading: str
    gained: bool  # whether the net return is above zero
    collapsed: bool


async def verdicts(kind: str, bars: Bars, seed: int, run: Run) -> Verdicts:
    """Trains the default configuration on one series and reads both verdicts."""
    async with open_service_with(bars) as series:
        found = (await series.train({"epochs": run.epochs, "seed": seed % 2**31})).performance
    return Verdicts(
        kind,
        found.verdict.prediction,
        found.verdict.trading,
        found.trading.net_total_return > 0,
        found.collapsed,
    )


def on_noise(task: tuple[str, int, Run]) -> Verdicts:
    """One noise series."""
    kind, seed, run = task
    return anyio.run(verdicts, kind, NOISE[kind](run.bars, seed), seed, run)


def on_planted(task: tuple[float, float, int, Run]) -> Verdicts:
    """One series with a planted signal."""
    strength, length, seed, run = task
    bars = planted_series(run.bars, seed, strength, length)
    return anyio.run(verdicts, f"q {strength} L {length:.0f}", bars, seed, run)


def noise(run: Run) -> None:
    """At most 5 % may be called skill, and at most 5 % survive costs."""
    tasks = [
        (kind, seed, run)
        for stream, kind in enumerate(NOISE)
        for seed in run.seeds(NOISE_SERIES, stream)
    ]
    show(run.in_processes(on_noise, tasks))


def planted(run: Run) -> None:
    """About 95, 90 and 75 % should be found."""
    tasks = [
        (strength, length, seed, run)
        for stream, (strength, length) in enumerate(PLANTED)
        for seed in run.seeds(PLANTED_SERIES, 100 + stream)
    ]
    show(run.in_processes(on_planted, tasks))


def show(found: Iterable[Verdicts]) -> None:
    """A table of verdicts by kind."""
    by_kind: dict[str, list[Verdicts]] = {}
    everything = list(found)
    for one in everything:
        by_kind.setdefault(one.kind, []).append(one)
    print(f"{'kind':18}" + "".join(f"{column:>10}" for column in COLUMNS))
    for kind, some in [*by_kind.items(), ("all", everything)]:
        counts = (
            len(some),
            sum(one.prediction == "skill" for one in some),
            sum(one.prediction == "no_skill" for one in some),
            sum(one.trading == "survives_costs" for one in some),
            sum(one.trading == "loses" for one in some),
            sum(one.gained for one in some),
            sum(one.collapsed for one in some),
        )
        print(f"{kind:18}" + "".join(f"{count:>10}" for count in counts))
