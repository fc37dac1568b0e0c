"""Ways to make trial n look like trial 1, each with what the reply says."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import numpy as np

from benchmarks import services
from benchmarks.honesty import levels
from benchmarks.honesty.run import Run
from benchmarks.honesty.series import plain_series
from benchmarks.honesty.trainings import Series, write_csv
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.evaluation.multiple_testing import level_of_trial
from ktrdr_mcp.paths import RECORD_VARIABLE
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

WINDOWS, STREAMS = 4, 200
SHIFT_NS: Final = 3_653 * 86_400 * 10**9  # ten years
NAME: Final = "kept"


def games(run: Run) -> None:
    """Plays each game on noise; the record of all workspaces is one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[RECORD_VARIABLE] = str(Path(folder) / "trials.db")
        anyio.run(play, run, Path(folder))
    stop_at_first(run)


async def play(run: Run, folder: Path) -> None:
    """Every game that needs trainings, in the order in which an agent might try them."""
    bars = plain_series(run.bars, run.seeds(1, 900)[0])
    later = replace(bars, symbol="LATER", time=bars.time + SHIFT_NS)
    parts = np.array_split(np.arange(len(bars)), WINDOWS)
    other = plain_series(run.bars, run.seeds(1, 901)[0])
    windows = [
        replace(other.slice(int(part[0]), int(part[-1]) + 1), symbol=f"PART{number}")
        for number, part in enumerate(parts, start=1)
    ]
    files = [bars, replace(bars, symbol="COPY"), later, *windows]
    async with services.open_service(write_all(files, folder / "one")) as service:
        first = await tell(service, "the first training", bars.symbol, "1h", run)
        await tell(service, "same file, another name", "COPY", "1h", run)
        await tell(service, "shifted dates", "LATER", "1h", run)
        await tell(service, "another timeframe of it", "LATER", "4h", run)
        saving = {"task_id": first, "model_name": NAME}
        await service.save_trained_model(parse(requests.SaveModel, saving))
        asked = {"model_name": NAME, "symbol": "LATER"}
        traded = await service.backtest_model(parse(requests.BacktestModel, asked))
        print(f"{'backtest on shifted dates':28}{traded.bars}; {traded.summary}", flush=True)
        for window in windows:
            await tell(service, f"disjoint window {window.symbol}", window.symbol, "1h", run)
    async with services.open_service(write_all([later], folder / "two")) as service:
        await tell(service, "another workspace", "LATER", "1h", run)


def write_all(files: list[Bars], folder: Path) -> Path:
    """A workspace with these series."""
    for bars in files:
        own = folder / bars.symbol
        write_csv(bars, own)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for path in own.iterdir():
            path.rename(folder / "data" / path.name)
        own.rmdir()
    return folder


async def tell(service: ServiceProtocol, game: str, symbol: str, timeframe: str, run: Run) -> str:
    """Trains, prints what the reply says of the trials before, and returns the task's id."""
    config: dict[str, Any] = {"epochs": run.epochs, "hidden_layers": [16]}
    trained = await Series(service, symbol, timeframe).train(config)
    verdict = trained.performance.verdict
    print(
        f"{game:28}trial {verdict.as_of_trial}, level {verdict.level:g}, {verdict.prediction}"
        f"{'' if verdict.holds_across is None else f', holds across {verdict.holds_across}'}:"
        f" {verdict.luck}",
        flush=True,
    )
    return trained.task_id


def stop_at_first(run: Run) -> None:
    """Streams of noise trials that stop at the first success: the family test without networks."""
    tasks = [(seed, 0.0) for seed in run.seeds(STREAMS, 902)]
    allowed = np.array([level_of_trial(k) for k in range(1, levels.TRIALS + 1)])
    noise = np.array([each[0] for each in run.in_processes(levels.stream, tasks)])
    claimed = int((noise <= allowed).any(axis=1).sum())
    flat = int((noise <= allowed[0]).any(axis=1).sum())
    print(
        f"{'stopping at the first success':28} {claimed} of {len(tasks)} streams of"
        f" {levels.TRIALS} noise trials ever claim; {flat} would at a level that stays"
    )
