"""(g) Memory: each figure from a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

from benchmarks.report import Report, Table, skipped, under

WIDE = ("ninety columns", "ninety columns, folds")
WIDE_MOST_MIB = 2e9 / 2**20
STAGES = ("interpreter", "stdio proxy", "service", "training", *WIDE)
TITLE = "Memory"


def measure(short: bool) -> Report:
    """Every stage; in the short form the two that load little."""
    if importlib.util.find_spec("resource") is None:
        return skipped(TITLE, "This system does not tell how much memory a process holds.")
    figures = {stage: resident(stage) for stage in (STAGES[:2] if short else STAGES)}
    rows = [[what, f"{mebibytes:.0f}"] for of in figures.values() for what, mebibytes in of.items()]
    targets = [
        under(what, mebibytes, WIDE_MOST_MIB, " MiB")
        for stage in WIDE
        for what, mebibytes in figures.get(stage, {}).items()
    ]
    return Report([Table(TITLE, ["process", "resident, MiB"], rows)], targets)


def resident(stage: str) -> dict[str, float]:
    """What a process at this stage holds."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.resident", stage],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
