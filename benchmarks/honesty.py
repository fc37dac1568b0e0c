"""How honest the verdicts are, on series whose truth is known, with real trainings.

    python benchmarks/honesty.py noise     200 noise series: how often "skill", "survives_costs"
    python benchmarks/honesty.py planted   planted signals: how often they are found
    python benchmarks/honesty.py family    100 configurations on each of ten noise series
    python benchmarks/honesty.py cost      what judging costs beside training

Every table begins with the seed it was made with; --seed repeats it, --quick takes a tenth.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "judge"))

from honesty_network import Configuration, Judged, train_and_judge
from judge_series import NOISE, PLANTED, planted_series

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.jobs.executor import load_torch
from ktrdr_mcp.learn.judge.blocks import BlockSums
from ktrdr_mcp.learn.judge.family import judge_in_family
from ktrdr_mcp.learn.judge.verdict import (
    Doubts,
    leak_suspected,
    prediction_verdict,
    trading_verdict,
)
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.strategy import DEFAULT_STRATEGY, StrategyLibrary

NOISE_SERIES = 50  # of each kind
PLANTED_SERIES = 20
FAMILY_SERIES, FAMILY_TRIALS = 10, 100


@dataclass(frozen=True)
class Verdicts:
    """One series judged."""

    kind: str
    seed: int
    prediction: str
    trading: str
    statistic: float
    p: float
    positive: bool  # whether the net return is above zero
    collapsed: bool
    train_s: float
    judge_s: float


@dataclass(frozen=True)
class Run:
    """What the command line asks for."""

    seed: int
    bars: int
    workers: int
    share: float  # of the series
    epochs: int
    twins: int

    def seeds(self, count: int, stream: int) -> list[int]:
        """Seeds of their own for one table row."""
        wanted = max(round(count * self.share), 1)
        words = np.random.SeedSequence([self.seed, stream]).generate_state(wanted)
        return [int(word) for word in words]


def judged(bars: Bars, configuration: Configuration, twins: int) -> Judged:
    """One training with the default strategy."""
    with tempfile.TemporaryDirectory() as folder:
        strategy = StrategyLibrary(Workspace(Path(folder))).read(DEFAULT_STRATEGY)
    return train_and_judge(bars, strategy, configuration, twins)


def verdicts(kind: str, bars: Bars, seed: int, run: Run) -> Verdicts:
    """Trains on one series and gives both verdicts, as a family of one."""
    configuration = Configuration(epochs=run.epochs, seed=seed)
    found = judged(bars, configuration, run.twins)
    family = judge_in_family(found.test.blocks, [])
    doubts = Doubts(found.collapsed, leak_suspected(found.twin_p))
    timing = judge_in_family(found.traded.timing_blocks, [], own_p=found.traded.timing_p)
    trading = trading_verdict(
        len(found.traded.timing_blocks),
        found.traded.net.total_return,
        timing.adjusted_p,
        found.traded.mean_net_high,
        doubts.leak_suspected,
    )
    return Verdicts(
        kind,
        seed,
        prediction_verdict(found.test, family, len(bars), doubts).prediction,
        trading.trading,
        found.test.statistic,
        found.test.p,
        found.traded.net.total_return > 0,
        found.collapsed,
        found.train_s,
        found.judge_s,
    )


def noise_series(task: tuple[str, int, Run]) -> Verdicts:
    """One noise series."""
    kind, seed, run = task
    return verdicts(kind, NOISE[kind](run.bars, seed), seed, run)


def planted(task: tuple[float, float, int, Run]) -> Verdicts:
    """One series with a planted signal."""
    strength, length, seed, run = task
    bars = planted_series(run.bars, seed, strength, length)
    return verdicts(f"q {strength} L {length:.0f}", bars, seed, run)


def family(task: tuple[int, Run]) -> tuple[int, int, int, float]:
    """A hundred configurations on one noise series: seed, trials, skills in the end, best p."""
    seed, run = task
    generator = np.random.default_rng(seed)
    bars = list(NOISE.values())[seed % len(NOISE)](run.bars, seed)
    trials = []
    for _ in range(max(round(FAMILY_TRIALS * run.share), 2)):
        found = judged(bars, varied(generator, run.epochs), 0)
        trials.append(found.test)
    blocks = [trial.blocks for trial in trials]
    skills, best = 0, 1.0
    for number, trial in enumerate(trials):
        adjusted = judge_in_family(trial.blocks, without(blocks, number))
        verdict = prediction_verdict(trial, adjusted, len(bars), Doubts())
        skills += verdict.prediction == "skill"
        best = min(best, adjusted.p)
    return seed, len(trials), skills, best


def without(blocks: list[BlockSums], number: int) -> list[BlockSums]:
    """All but one."""
    return blocks[:number] + blocks[number + 1 :]


def varied(generator: np.random.Generator, epochs: int) -> Configuration:
    """A configuration as an agent would vary it."""
    return replace(
        Configuration(),
        hidden=[(8,), (32, 16), (64, 32, 16), (128, 64)][generator.integers(4)],
        learning_rate=float(10 ** generator.uniform(-4, -2)),
        dropout_rate=float(generator.choice([0.0, 0.2, 0.5])),
        horizon=int(generator.choice([4, 8, 16])),
        width=float(generator.uniform(0.5, 1.2)),
        seed=int(generator.integers(2**31)),
        epochs=epochs,
    )


def show(found: Iterable[Verdicts]) -> None:
    """A table of verdicts by kind."""
    by_kind: dict[str, list[Verdicts]] = {}
    for one in found:
        by_kind.setdefault(one.kind, []).append(one)
    columns = ("series", "skill", "no_skill", "survives", "loses", "net > 0", "mean T", "constant")
    print(f"{'kind':14}" + "".join(f"{column:>10}" for column in columns))
    rows = [*by_kind.items(), ("all", [one for some in by_kind.values() for one in some])]
    for kind, some in rows:
        counts = (
            len(some),
            sum(one.prediction == "skill" for one in some),
            sum(one.prediction == "no_skill" for one in some),
            sum(one.trading == "survives_costs" for one in some),
            sum(one.trading == "loses" for one in some),
            sum(one.positive for one in some),
            round(float(np.mean([one.statistic for one in some])), 2),
            sum(one.collapsed for one in some),
        )
        print(f"{kind:14}" + "".join(f"{count:>10}" for count in counts))


def run_noise(run: Run) -> None:
    """At most 5 % may be called skill, and at most 5 % survive costs."""
    tasks = [
        (kind, seed, run)
        for stream, kind in enumerate(NOISE)
        for seed in run.seeds(NOISE_SERIES, stream)
    ]
    show(in_processes(noise_series, tasks, run))


def run_planted(run: Run) -> None:
    """About 95, 90 and 75 % should be found."""
    tasks = [
        (strength, length, seed, run)
        for stream, (strength, length) in enumerate(PLANTED)
        for seed in run.seeds(PLANTED_SERIES, 100 + stream)
    ]
    show(in_processes(planted, tasks, run))


def run_family(run: Run) -> None:
    """At most one series in ten may have any skill in the end."""
    tasks = [(seed, run) for seed in run.seeds(FAMILY_SERIES, 200)]
    print(f"{'seed':>12}{'trials':>8}{'skill':>8}{'best p alone':>14}")
    for seed, trials, skills, best in in_processes(family, tasks, run):
        print(f"{seed:>12}{trials:>8}{skills:>8}{best:>14.4f}", flush=True)


def run_cost(run: Run) -> None:
    """Seconds of training and of judging, on one series, with and without twins."""
    bars = NOISE["garch"](run.bars, run.seed)
    for twins in (0, 4):
        found = judged(bars, Configuration(epochs=run.epochs), twins)
        share = found.judge_s / found.train_s
        print(
            f"twins {twins}: training {found.train_s:.2f} s, features, labels and judging "
            f"{found.judge_s:.2f} s ({share:.1%})"
        )


def in_processes(work: Callable[[Any], Any], tasks: list[Any], run: Run) -> Iterator[Any]:
    """The results, in order and as they come, with one torch thread per process."""
    with ProcessPoolExecutor(run.workers, initializer=load_torch) as pool:
        yield from pool.map(work, tasks)


TABLES = {"noise": run_noise, "planted": run_planted, "family": run_family, "cost": run_cost}


def main() -> None:
    """Runs one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    parser.add_argument("--bars", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=Configuration.epochs)
    parser.add_argument("--twins", type=int, default=0, help="noise twins beside each training")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tenth of the series")
    given = parser.parse_args()
    share = 0.1 if given.quick else 1.0
    run = Run(given.seed, given.bars, given.workers, share, given.epochs, given.twins)
    print(f"seed {run.seed}, {run.bars} bars, at most {run.epochs} epochs, {run.twins} twins")
    load_torch()
    began = time.perf_counter()
    TABLES[given.table](run)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
