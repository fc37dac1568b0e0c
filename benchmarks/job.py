"""The whole default job on the hourly AAPL bars, from its start to its completion."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import anyio

from benchmarks import labs
from benchmarks.report import Report, Table, under

EPOCHS = 100
MOST_S = 5.0


def measure(short: bool) -> Report:
    """Starts it some times in one laboratory; in the short form with few epochs."""
    return anyio.run(measured, *((2, 1) if short else (EPOCHS, 5)))


async def measured(epochs: int, rounds: int) -> Report:
    """The wall time of each job; torch is in memory before the first."""
    seconds, processor_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with labs.laboratory(Path(folder)) as lab:
            for seed in range(rounds):
                began, began_processor = time.perf_counter(), time.process_time()
                config = {"epochs": epochs, "early_stopping": None, "seed": seed}
                await labs.trained(lab, config)
                seconds.append(time.perf_counter() - began)
                processor_s.append(time.process_time() - began_processor)
    what = f"default job, AAPL 1h, {epochs} epochs, no early stop"
    figures = [seconds[0], median(seconds), max(seconds), median(processor_s)]
    table = Table(
        "The default job, start to completed",
        ["what", "first, s", "median, s", "slowest, s", "processor time, median, s"],
        [[what, *(f"{one:.2f}" for one in figures)]],
        [f"{rounds} jobs one after another, in a laboratory that has just been opened."],
    )
    return Report([table], [under(what, median(seconds), MOST_S, " s")])
