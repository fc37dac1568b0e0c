"""(k) Bars: importing millions while the server answers, opening a stored series, listing many."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from threading import Thread

from benchmarks.features import random_walk
from benchmarks.report import Report, Table, skipped, under
from benchmarks.server import Server
from benchmarks.timing import Cost, Latencies, seconds_of
from ktrdr_mcp.data import stored, versions
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.files import make_private_folder
from ktrdr_mcp.paths import Workspace

TITLE = "Bars"
IMPORTED = 5_000_000
OPENED = 1_000_000
LISTED = 1_000
SHORT_BARS = 10_000
ROUNDS = 7
PAUSE_S = 0.005  # between two questions to the server
MOST_IMPORT_S = 15.0
MOST_IMPORT_MIB = 1_500.0
MOST_ANSWER_MS = 20.0
MOST_OPEN_S = 0.3
MOST_LIST_MS = 50.0

# A process of its own, whose only child is the one that imports.
IMPORT = """
import json, resource, sys, time
from pathlib import Path
from ktrdr_mcp.data.importing import understand
source, folder = map(Path, sys.argv[1:])
wanted = {"symbol": "BIG", "timeframe": "1m", "timezone": None, "dialect": None}
began = time.perf_counter()
understand([(source, source.name)], wanted, folder)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 1024**2 if sys.platform == "darwin" else 1024
print(json.dumps({"wall_s": time.perf_counter() - began, "cpu_s": used.ru_utime + used.ru_stime,
                  "mib": used.ru_maxrss / unit}))
"""


def measure(short: bool) -> Report:
    """Each in a workspace of its own."""
    if importlib.util.find_spec("resource") is None:
        return skipped(TITLE, "This system does not tell how much memory a process holds.")
    imported, opened, listed = (SHORT_BARS, SHORT_BARS, 20) if short else (IMPORTED, OPENED, LISTED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_csv(imported, folder / "export.csv")
        alone = import_alone(source, folder / "staged")
        answers = answers_during_import(source, folder / "server")
        whole = opening(opened, folder / "opening")
        names, manifests = listing(listed, folder / "listing")
    rows = [
        [f"import {imported:,} bars of CSV", *milliseconds(Cost(alone["wall_s"], alone["cpu_s"]))],
        ["a list of tasks meanwhile, p50", f"{answers.p50:.1f}", ""],
        ["a list of tasks meanwhile, p99", f"{answers.p99:.1f}", ""],
        [f"open a stored series of {opened:,} bars", *milliseconds(whole)],
        [f"the names of {listed:,} series", *milliseconds(names)],
        [f"the manifests of {listed:,} series", *milliseconds(manifests)],
    ]
    table = Table(
        TITLE,
        ["what", "ms", "processor time, ms"],
        rows,
        [f"The import held {alone['mib']:.0f} MiB at most."],
    )
    return Report(
        [table],
        [
            under("import of 5 million bars", alone["wall_s"], MOST_IMPORT_S, " s"),
            under("memory of the import", alone["mib"], MOST_IMPORT_MIB, " MiB"),
            under("an answer meanwhile, p99", answers.p99, MOST_ANSWER_MS, " ms"),
            under("opening a million stored bars", whole.wall_s, MOST_OPEN_S, " s"),
            under("names of 1,000 series", 1e3 * names.wall_s, MOST_LIST_MS, " ms"),
        ],
    )


def write_csv(count: int, path: Path) -> Path:
    """A table of bars as other tools write it, with epochs in seconds."""
    import polars as pl

    bars = random_walk(count)
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    pl.DataFrame({"timestamp": bars.time // 10**9, **columns}).write_csv(path, float_precision=5)
    return path


def import_alone(source: Path, folder: Path) -> dict[str, float]:
    """Time and memory of the process that imports."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(source), str(folder)],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def answers_during_import(source: Path, folder: Path) -> Latencies:
    """How long the server takes to answer while it imports."""
    seconds = list[float]()
    with Server(folder) as server:
        command = ["data", "import", str(source), "--symbol", "BIG", "--json"]
        words = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(folder), *command]
        importing = Thread(
            target=lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        )
        server.get("/training")  # connects
        importing.start()
        while importing.is_alive():
            seconds.append(seconds_of(lambda: server.get("/training")))
            time.sleep(PAUSE_S)
        importing.join()
        found = server.get("/data/stored")["series"]
    if len(found) != 1:
        raise RuntimeError("the import stored nothing")
    return Latencies.of(seconds)


def committed(bars: Bars, workspace: Workspace, staging: Path) -> None:
    """Stores a series as its first version."""
    staged = versions.Staged(**stored.stage(bars, staging))
    facts = versions.Manifest(
        bars.symbol, bars.timeframe, "import", {}, "benchmark", versions.now(), "raw", "UTC"
    )
    versions.commit(workspace, staged, facts, "made")


def made_workspace(folder: Path) -> Workspace:
    """An empty one."""
    workspace = Workspace(folder)
    make_private_folder(workspace.internal)
    workspace.data.mkdir()
    return workspace


def opening(count: int, folder: Path) -> Cost:
    """What it takes until a stored series is there, in a catalog that has read nothing yet."""
    workspace = made_workspace(folder)
    bars = random_walk(count)
    committed(bars, workspace, folder / "staged")
    return middle(lambda: BarCatalog(workspace).load(bars.symbol, bars.timeframe))


def listing(count: int, folder: Path) -> tuple[Cost, Cost]:
    """What it takes to list the names of so many stored series, and to read their manifests."""
    workspace = made_workspace(folder)
    bars = random_walk(100)
    for number in range(count):
        one = Bars(f"S{number}", bars.timeframe, bars.time, *bars.columns())
        committed(one, workspace, folder / "staged" / str(number))
    catalog = BarCatalog(workspace)
    return middle(catalog.series), middle(lambda: versions.manifests(workspace))


def middle(work: Callable[[], object]) -> Cost:
    """The median of a few runs, each figure by itself."""
    work()  # imports what it needs
    costs = list[Cost]()
    for _ in range(ROUNDS):
        began, computed = time.perf_counter(), time.process_time()
        work()
        costs.append(Cost(time.perf_counter() - began, time.process_time() - computed))
    return Cost(median(one.wall_s for one in costs), median(one.cpu_s for one in costs))


def milliseconds(cost: Cost) -> list[str]:
    """Both figures as a table shows them."""
    return [f"{1e3 * cost.wall_s:.1f}", f"{1e3 * cost.cpu_s:.1f}"]
