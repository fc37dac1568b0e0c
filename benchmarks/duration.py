"""(h) How long a training is said to take, and how long it takes; the queue apart."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import Report, Table, Target
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.evaluation import baselines
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.requests import StartTraining
from ktrdr_mcp.service.training import admit
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training import duration, pipeline

FACTOR = 1.5
SHARE = 0.9  # of the jobs that must lie within the factor
NOTE = (
    "Seconds of the processor, which a busy machine does not lengthen, of whole trainings without"
    " early stopping, from the first bar read to the bundle published. This machine: {overhead:.2f}"
    " times the time of the constants for small networks, {arithmetic:.2f} times for products."
)


@dataclass(frozen=True)
class Job:
    """A training of the spread."""

    bars: int
    hidden: tuple[int, ...]
    batch: int
    epochs: int
    folds: int | None = 4
    seeds: int = 1
    control: bool = False
    dropout: float = 0.2
    strategy: str = "default"

    @property
    def config(self) -> dict[str, Any]:
        """The config of its request."""
        return {
            "hidden_layers": list(self.hidden),
            "batch_size": self.batch,
            "epochs": self.epochs,
            "seeds": self.seeds,
            "control": self.control,
            "dropout_rate": self.dropout,
            "early_stopping": None,
            "walk_forward": None if self.folds is None else {"folds": self.folds},
        }


USUAL = (64, 32, 16)
JOBS = (
    Job(800, USUAL, 32, 60),
    Job(800, (16,), 128, 100, folds=None),
    Job(3_000, USUAL, 32, 30),
    Job(3_000, USUAL, 32, 1),
    Job(3_000, USUAL, 32, 20, control=True),
    Job(3_000, (32, 16), 256, 80, seeds=5),
    Job(3_000, (128, 64), 64, 30, folds=8),
    Job(3_000, (256, 128), 64, 20, folds=2, strategy="trend_following"),
    Job(3_000, (512,), 1_024, 20, dropout=0.0),
    Job(10_000, USUAL, 32, 8),
    Job(10_000, USUAL, 64, 20, folds=None, seeds=3),
    Job(10_000, (32,), 256, 40, folds=2, dropout=0.0, strategy="mean_reversion"),
    Job(30_000, (128, 64), 256, 10, folds=None),
    Job(30_000, USUAL, 128, 6, strategy="trend_following"),
    Job(30_000, USUAL, 1_024, 20),
    Job(100_000, USUAL, 1_024, 10),
    Job(100_000, (32, 16), 256, 6, folds=None, dropout=0.0),
    Job(100_000, (16,), 64, 2, seeds=3, folds=None),
    Job(100_000, (256,), 1_024, 3, folds=2),
    Job(100_000, (512, 256), 256, 1, folds=None),
)


def measure(short: bool) -> Report:
    """Every job; in the short form the two smallest."""
    baselines.load()
    speed = duration.measure()
    jobs = (Job(800, (8,), 32, 2), Job(800, (8,), 128, 2, folds=None)) if short else JOBS
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        workspace.data.mkdir(parents=True)
        for bars in sorted({job.bars for job in jobs}):
            write_series(workspace, bars)
        sources = BarCatalog(workspace)
        took = [(job, *compare(job, workspace, sources, speed)) for job in jobs]
    return report(took, speed)


def write_series(workspace: Workspace, bars: int) -> None:
    """A random walk by the hour, under a symbol of its own."""
    generator = np.random.default_rng(bars)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.01, bars)))
    opened = np.r_[100.0, close[:-1]]
    table = {
        "time": pd.date_range("2000-01-01", periods=bars, freq="1h"),
        "open": opened,
        "high": np.maximum(opened, close) * 1.002,
        "low": np.minimum(opened, close) * 0.998,
        "close": close,
        "volume": 1_000,
    }
    pd.DataFrame(table).to_csv(workspace.data / f"WALK{bars}_1h.csv", index=False)


def compare(
    job: Job, workspace: Workspace, sources: BarCatalog, speed: duration.Speed
) -> tuple[float, float]:
    """The seconds that a job is said to take, and those that it takes."""
    request = StartTraining.model_validate(
        {
            "symbol": f"WALK{job.bars}",
            "timeframe": "1h",
            "strategy": job.strategy,
            "config": job.config,
        }
    )
    task = admit(request, StrategyCatalog(workspace), sources, speed).task
    began = time.process_time()
    pipeline.run(task.spec, workspace.bundle_directory(task.task_id), NullContext(), sources)
    return task.spec["accepted"]["duration_s"], time.process_time() - began


def report(took: list[tuple[Job, float, float]], speed: duration.Speed) -> Report:
    """The table of all jobs, and how many lie within the factor."""
    columns = ["bars", "hidden", "batch", "epochs", "folds", "seeds", "control", "strategy"]
    columns += ["said, s", "took, s", "took / said"]
    rows = [
        [
            f"{job.bars:,}",
            "-".join(map(str, job.hidden)),
            f"{job.batch:,}",
            str(job.epochs),
            str(job.folds or "none"),
            str(job.seeds),
            "yes" if job.control else "no",
            job.strategy,
            f"{said:.2f}",
            f"{seconds:.2f}",
            f"{seconds / said:.2f}",
        ]
        for job, said, seconds in took
    ]
    near = sum(1 / FACTOR <= seconds / said <= FACTOR for _, said, seconds in took)
    note = NOTE.format(overhead=speed.overhead, arithmetic=speed.arithmetic)
    target = Target(
        f"estimates within a factor of {FACTOR}",
        f"{near} of {len(took)}",
        f"at least {SHARE:.0%}",
        near >= SHARE * len(took),
    )
    return Report([Table("Estimated duration", columns, rows, [note])], [target])
