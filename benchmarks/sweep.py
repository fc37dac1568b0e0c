"""(i) A search of K candidates with four folds beside K trainings, on the hourly AAPL bars."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Table, at_least
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.requests import StartTraining
from ktrdr_mcp.service.training import admit
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training import pipeline
from ktrdr_mcp.training.duration import TYPICAL

CANDIDATES = 64
EPOCHS = 20
LEAST = 2.0
RATES = {"low": 1e-4, "high": 1e-2, "log": True}


def measure(short: bool) -> Report:
    """The search, and single trainings before and after it; in the short form four candidates."""
    candidates, epochs, singles = (4, 1, 2) if short else (CANDIDATES, EPOCHS, 8)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), epochs)
        bench.seconds({})  # what is imported and read once
        alone = [bench.seconds({"learning_rate": rate(n, singles)}) for n in range(singles // 2)]
        search = {"trials": candidates, "vary": {"learning_rate": RATES}}
        together_s = bench.seconds({"sweep": search})
        alone += [
            bench.seconds({"learning_rate": rate(n, singles)}) for n in range(singles // 2, singles)
        ]
    one_s = sum(alone) / len(alone)
    ratio = one_s * candidates / together_s
    row = [str(candidates), str(epochs), f"{one_s:.2f}", f"{together_s / candidates:.2f}"]
    columns = ["candidates", "epochs", "one alone, s", "one of the search, s", "search, x"]
    title = "A search beside single trainings, each with four folds, AAPL 1h"
    targets = [] if short else [at_least("64 candidates against 64 trainings", ratio, LEAST)]
    return Report([Table(title, columns, [[*row, f"{ratio:.2f}"]])], targets)


def rate(number: int, count: int) -> float:
    """A learning rate of the searched range."""
    share = (number + 0.5) / count
    return float(RATES["low"] * (RATES["high"] / RATES["low"]) ** share)


class Bench:
    """Trainings in a workspace of their own, from submission to bundle.

    Args:
        folder: of the workspace.
        epochs: of each network; all are trained.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self._workspace = Workspace(folder)
        self._sources = BarCatalog(self._workspace)
        self._strategies = StrategyCatalog(self._workspace)
        self._epochs = epochs
        self._count = 0

    def seconds(self, config: dict[str, Any]) -> float:
        """How long a training takes."""
        self._count += 1
        began = time.perf_counter()
        settings = {"epochs": self._epochs, "early_stopping": None, **config}
        task_id = f"bench_{self._count}"
        request = {"symbol": "AAPL", "timeframe": "1h", "config": settings, "task_id": task_id}
        new = admit(parse(StartTraining, request), self._strategies, self._sources, TYPICAL).task
        bundle = self._workspace.bundle_directory(task_id)
        bundle.parent.mkdir(parents=True, exist_ok=True)
        pipeline.run(new.spec, bundle, NullContext(), self._sources)
        return time.perf_counter() - began
