"""Every table of the honesty benchmark comes about through a real service, in a small form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.honesty.series import NOISE

RULES = ("0.02 ", "0.02 / (1 + ln k) ", "0.02 / (1 + ln k)^1.25", "0.02 / (1 + ln k)^1.5")
ROWS = {
    "levels": (*RULES, "0.02 / (1.69", *RULES, "0.02 / (1.69"),
    "leaks": (
        "volume holds the next move",
        "closes smoothed",
        "closes one bar early",
        "the same bars twice",
        "bounce of 25 bps",
        "all",
    ),
    "noise": (*NOISE, "all"),
    "planted": ("q 0.5 L 24", "q 0.25 L 24", "q 0.15 L 96", "all"),
    "family": ("plain",),
    "cost": ("the model alone", "default, four folds", "folds and four surrogates"),
    "judging": (
        "training",
        "everything after it",
        "  logistic",
        "  directional test",
        "  trading",
        "  alarms",
        "  unit roots",
        "grams, sketches, seen bars",
        "the record of trials",
        "verdict of a first trial",
        "verdict of a tenth",
    ),
}
SMALL = ("--seed", "3", "--bars", "1500", "--epochs", "2", "--share", "0.02")


def test_each_table_of_the_honesty_benchmark_has_a_figure_in_every_cell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.honesty", *ROWS, *SMALL],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, rest = done.stdout.split("\n", 1)
    assert first == "seed 3, 1500 bars, at most 2 epochs"
    tables = [table.splitlines() for table in rest.strip().split("\n\n")]
    for names, (header, *rows, seconds) in zip(ROWS.values(), tables, strict=True):
        assert seconds.endswith(" s")
        for name, row in zip(names, rows, strict=True):
            assert row.startswith(name)
            assert len(row) == len(header)
