"""(i) A search of K candidates with four folds beside K trainings, on the hourly AAPL bars.

On one core, and by a server that spreads the search over all of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.latency import started
from benchmarks.report import Report, Table, at_least
from benchmarks.scaling import wait, with_executor
from benchmarks.server import Server
from benchmarks.services import SERIES
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.jobs.executors.processes import available_cores
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
    """Search and single trainings in alternation; in the short form four candidates, once."""
    candidates, epochs, singles, rounds = (4, 1, 2, 1) if short else (CANDIDATES, EPOCHS, 4, 3)
    alone: list[float] = []
    together: list[float] = []
    spread: list[float] = []
    with tempfile.TemporaryDirectory() as folder, on_all_cores(Path(folder), epochs) as server:
        bench = Bench(Path(folder) / "one", epochs)
        bench.seconds({})  # what is imported and read once
        for number in range(rounds):
            search = {"trials": candidates, "vary": {"learning_rate": RATES}, "seed": number}
            rates = [rate(number * singles + n, rounds * singles) for n in range(singles)]
            alone += [bench.seconds({"learning_rate": each}) for each in rates]
            together.append(bench.seconds({"sweep": search}))
            spread.append(server_seconds(server, bench.config({"sweep": search})))
    one_s, together_s, spread_s = fmean(alone), fmean(together), fmean(spread)
    ratio = one_s * candidates / together_s
    row = [str(candidates), str(epochs), f"{one_s:.2f}", f"{together_s / candidates:.2f}"]
    row += [f"{ratio:.2f}", f"{together_s / spread_s:.2f}"]
    columns = ["candidates", "epochs", "one alone, s", "one of the search, s", "search, x"]
    columns.append(f"search on {available_cores()} cores against one, x")
    title = "A search beside single trainings, each with four folds, AAPL 1h"
    targets = [] if short else [at_least("64 candidates against 64 trainings", ratio, LEAST)]
    return Report([Table(title, columns, [row])], targets)


@contextmanager
def on_all_cores(folder: Path, epochs: int) -> Iterator[Server]:
    """A server whose workers have imported what they need."""
    (folder / "all").mkdir()
    with with_executor("processes"), Server(folder / "all") as server:
        for task_id in [
            started(server, {"epochs": epochs, "seed": n}) for n in range(available_cores())
        ]:
            wait(server, task_id)
        yield server


def server_seconds(server: Server, config: dict[str, Any]) -> float:
    """How long a training takes from its start to its end."""
    began = time.perf_counter()
    wait(server, started(server, config))
    return time.perf_counter() - began


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
        folder.mkdir()
        self._workspace = Workspace(folder)
        self._sources = BarCatalog(self._workspace)
        self._strategies = StrategyCatalog(self._workspace)
        self._epochs = epochs
        self._count = 0

    def config(self, own: dict[str, Any]) -> dict[str, Any]:
        """A configuration whose networks all train to their last epoch."""
        return {"epochs": self._epochs, "early_stopping": None, **own}

    def seconds(self, config: dict[str, Any]) -> float:
        """How long a training takes."""
        self._count += 1
        began = time.perf_counter()
        task_id = f"bench_{self._count}"
        request = {**SERIES, "config": self.config(config), "task_id": task_id}
        new = admit(parse(StartTraining, request), self._strategies, self._sources, TYPICAL).task
        bundle = self._workspace.bundle_directory(task_id)
        bundle.parent.mkdir(parents=True, exist_ok=True)
        pipeline.run(new.spec, bundle, NullContext(), self._sources)
        return time.perf_counter() - began
