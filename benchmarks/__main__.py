"""Runs the benchmark: `python -m benchmarks [--short] [--output FILE] [PART...]`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

# each is a module of this package with `measure(short) -> Report`
PARTS = (
    "trainer",
    "networks",
    "sweep",
    "floor",
    "features",
    "job",
    "latency",
    "predict",
    "memory",
    "bars",
    "duration",
    "cuda",
)
BY_NAME = ("scaling", "pages")  # dozens of processes, a browser: only where it is asked for


def main() -> None:
    """Measures the parts one after another and prints their tables, then the targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS + BY_NAME))
    parser.add_argument("--short", action="store_true", help="see that it runs, not how fast")
    parser.add_argument("--output", type=Path, help="write the tables to a file, too")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS + BY_NAME):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PARTS + BY_NAME)}")
    one_thread()
    text = measured(chosen.parts or list(PARTS), chosen.short)
    if chosen.output is not None:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(text, encoding="utf-8")


def one_thread() -> None:
    """One thread for all arithmetic, ours and others'; before anything that computes is imported.

    With two, small products on a busy machine measure the scheduler.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    from ktrdr_mcp.jobs.executors.threads import load_torch

    load_torch()


def measured(parts: list[str], short: bool) -> str:
    """The whole text; each table is printed as soon as it is there."""
    from benchmarks import machine
    from benchmarks.report import targets_table

    texts: list[str] = []

    def show(text: str) -> None:
        texts.append(text)
        print(text, flush=True)

    show(f"{machine.in_words()}\n")
    began, targets = time.monotonic(), []
    for part in parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        report = importlib.import_module(f"benchmarks.{part}").measure(short)
        targets += report.targets
        for table in report.tables:
            show(table.markdown())
    if targets:
        show(targets_table(targets).markdown())
    show(f"{time.monotonic() - began:.0f} s in all; load at the end {machine.load()}.")
    return "\n".join([*texts, ""])


if __name__ == "__main__":
    main()
