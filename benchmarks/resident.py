"""One process that says how much memory it holds: `python -m benchmarks.resident STAGE`."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import cast

PAGE_BYTES = resource.getpagesize()
MEBIBYTE = 1024**2
# of ru_maxrss: macOS counts bytes, the others KiB
PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def peak_mib() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin at what the parent process held
        lines = status.read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT_BYTES / MEBIBYTE


def now_mib() -> float:
    """The memory that this process holds; where the system does not say, the most it has held."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return peak_mib()
    return int(pages.read_text(encoding="ascii").split()[1]) * PAGE_BYTES / MEBIBYTE


def interpreter() -> dict[str, float]:
    """Python alone."""
    return {"Python alone": now_mib()}


def stdio_proxy() -> dict[str, float]:
    """What answers MCP, before torch and pandas."""
    for module in ("ktrdr_mcp.daemon", "ktrdr_mcp.api.mcp.server"):
        importlib.import_module(module)
    return {"MCP server, before the service is open": now_mib()}


def service_alone() -> dict[str, float]:
    """A service that has nothing to do, and the same after a job."""
    import anyio

    from benchmarks import services

    async def opened() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            async with services.open_service(Path(folder)) as service:
                idle = now_mib()
                await services.train(service, {"epochs": 2})
                after = now_mib()
        return {
            "service, idle (torch and pandas loaded)": idle,
            "service, after a default job on AAPL 1h": after,
        }

    return anyio.run(opened)


def training() -> dict[str, float]:
    """torch, then 200k x 60 in memory, then trained, at batch 256."""
    from benchmarks import problem
    from benchmarks.ours import Ours

    torch_loaded = now_mib()
    rows = problem.make(200_000, 60)
    held = now_mib()
    Ours(rows, 256).run(1)
    return {
        "torch and the trainer": torch_loaded,
        "the same with 200,000 x 60 features": held,
        "the same while training on them, most": peak_mib(),
    }


WIDE_BARS = 1_000_000


def ninety_columns(folds: bool) -> dict[str, float]:
    """30 indicators in three timeframes with window 8 on a million bars, trained for an epoch."""
    from benchmarks.features import ninety_columns as strategy_of_ninety
    from benchmarks.features import random_walk
    from benchmarks.honesty.direct import OneSeries
    from ktrdr_mcp.context import NullContext
    from ktrdr_mcp.data.catalog import BarCatalog
    from ktrdr_mcp.schemas.config import TrainingConfig
    from ktrdr_mcp.training.checkpointer import Checkpointer
    from ktrdr_mcp.training.config import effective
    from ktrdr_mcp.training.learners import fit, make_learners
    from ktrdr_mcp.training.prepare import prepare
    from ktrdr_mcp.training.spec import SeriesSpec, TrainingSpec

    bars, strategy = random_walk(WIDE_BARS), strategy_of_ninety()
    asked = {"epochs": 1, "batch_size": 1_024, "hidden_layers": [16]}
    config = TrainingConfig.model_validate(asked if folds else {**asked, "walk_forward": None})
    series = SeriesSpec(bars.symbol, bars.timeframe, None, None)
    spec = TrainingSpec("wide", (series,), strategy, effective(config, strategy))
    prepared = prepare(spec, cast(BarCatalog, OneSeries(bars)))
    learners = make_learners(prepared, spec)
    with tempfile.TemporaryDirectory() as folder:
        fit(learners, Checkpointer(Path(folder) / "wide", spec, NullContext()))
    how = "with four folds" if folds else "the model alone"
    return {f"{WIDE_BARS:,} bars, 90 columns, window 8, {how}, most": peak_mib()}


STAGES = {
    "interpreter": interpreter,
    "stdio proxy": stdio_proxy,
    "service": service_alone,
    "training": training,
    "ninety columns": partial(ninety_columns, folds=False),
    "ninety columns, folds": partial(ninety_columns, folds=True),
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(STAGES[sys.argv[1]]()))
