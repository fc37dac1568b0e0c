"""(g) Memory: each figure from a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

from benchmarks.report import Report, Table, skipped

STAGES = (
    "interpreter",
    "stdio proxy",
    "service",
    "training",
    "ninety columns",
    "ninety columns, folds",
)
TITLE = "Memory"


def measure(short: bool) -> Report:
    """Every stage; in the short form the two that load little."""
    if importlib.util.find_spec("resource") is None:
        return skipped(TITLE, "This system does not tell how much memory a process holds.")
    rows = [
        [what, f"{mebibytes:.0f}"]
        for stage in (STAGES[:2] if short else STAGES)
        for what, mebibytes in resident(stage).items()
    ]
    return Report([Table(TITLE, ["process", "resident, MiB"], rows)])


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
