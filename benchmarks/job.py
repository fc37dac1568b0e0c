"""The whole default job on the hourly AAPL bars, from its start to its completion."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import anyio

from benchmarks import services
from benchmarks.report import Report, Table, under

EPOCHS = 100
MOST_S = 5.0
WHOLE = "default: the model and its walk-forward folds"
JOBS: dict[str, dict[str, Any]] = {WHOLE: {}, "the model alone": {"walk_forward": None}}

Times = dict[str, list[tuple[float, float]]]  # wall and processor seconds of each job


def measure(short: bool) -> Report:
    """Starts each some times in one service; in the short form with few epochs."""
    epochs, rounds = (2, 1) if short else (EPOCHS, 5)
    found = anyio.run(measured, epochs, rounds)
    rows = []
    for name, times in found.items():
        wall, processor = zip(*times, strict=True)
        figures = (median(wall), min(wall), max(wall), median(processor))
        rows.append([name, *(f"{seconds:.2f}" for seconds in figures)])
    what = f"AAPL 1h, {epochs} epochs, no early stop"
    columns = ["job", "median, s", "fastest, s", "slowest, s", "processor time, median, s"]
    note = f"{rounds} jobs of each in turn, in a service that has just been opened."
    table = Table(f"Start to completed, {what}", columns, rows, [note])
    target = under(f"default job, {what}", median(wall for wall, _ in found[WHOLE]), MOST_S, " s")
    return Report([table], [target])


async def measured(epochs: int, rounds: int) -> Times:
    """Each job in every round; torch is in memory before the first."""
    found: Times = {name: [] for name in JOBS}
    with tempfile.TemporaryDirectory() as folder:
        async with services.open_service(Path(folder)) as service:
            for seed in range(rounds):
                for name, special in JOBS.items():
                    config = {"epochs": epochs, "early_stopping": None, "seed": seed, **special}
                    began, began_processor = time.perf_counter(), time.process_time()
                    await services.train(service, config)
                    wall = time.perf_counter() - began
                    found[name].append((wall, time.process_time() - began_processor))
    return found
