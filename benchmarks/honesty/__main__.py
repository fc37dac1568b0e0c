"""How honest the verdicts are, on series whose truth is known, trained through a service.

    python -m benchmarks.honesty size      the directional test and alternatives, without networks
    python -m benchmarks.honesty levels    streams of noise trials that stop at the first success
    python -m benchmarks.honesty nulls     440 series without a direction, judged in this process
    python -m benchmarks.honesty artefacts a direction that nobody can trade
    python -m benchmarks.honesty today found   planted signals of several kinds
    python -m benchmarks.honesty leaks     bars with something wrong: the alarms
    python -m benchmarks.honesty alarms    how often bars raise alarms, without networks
    python -m benchmarks.honesty oracle    what one foresees who knows a generator's state
    python -m benchmarks.honesty noise     200 noise series: how often "skill", "survives_costs"
    python -m benchmarks.honesty planted   planted signals: how often they are found
    python -m benchmarks.honesty family    100 configurations, one after the other, on ten series
    python -m benchmarks.honesty sweep     searches of 64 candidates on noise and planted series
    python -m benchmarks.honesty explained whether explanations name what was planted, and only that
    python -m benchmarks.honesty games     other names, dates, workspaces and windows: what is said
    python -m benchmarks.honesty cost      what judging costs beside training
    python -m benchmarks.honesty judging   the same by its parts, in processor time

Every table begins with the seed it was made with; --seed repeats it. --share 0.1 takes a tenth.
"""

from __future__ import annotations

import argparse
import secrets
import time

from benchmarks.honesty import (
    cost,
    explained,
    family,
    games,
    levels,
    nulls,
    oracle,
    size,
    sweep,
    verdicts,
)
from benchmarks.honesty.run import Run
from ktrdr_mcp.jobs.executors.threads import load_torch

TABLES = {
    "nulls": nulls.nulls,
    "artefacts": nulls.artefacts,
    "today": nulls.today,
    "found": nulls.found,
    "leaks": nulls.leaks,
    "alarms": nulls.alarms,
    "oracle": oracle.oracle,
    "size": size.size,
    "levels": levels.levels,
    "noise": verdicts.noise,
    "planted": verdicts.planted,
    "family": family.family,
    "sweep": sweep.sweep,
    "explained": explained.explained,
    "games": games.games,
    "cost": cost.cost,
    "judging": cost.judging,
}


def main() -> None:
    """Makes the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.honesty",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    parser.add_argument("--bars", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of the series and the trials")
    given = vars(parser.parse_args())
    tables, run = given.pop("tables"), Run(**given)
    print(f"seed {run.seed}, {run.bars} bars, at most {run.epochs} epochs", flush=True)
    load_torch()
    for table in tables:
        began = time.perf_counter()
        TABLES[table](run)
        print(f"{time.perf_counter() - began:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
