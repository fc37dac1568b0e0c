"""Trainings on given bars, through a service as any client would run them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import services
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol


@dataclass(frozen=True)
class Trained:
    """One training and what its performance reply said of it then."""

    task_id: str
    performance: responses.ModelPerformance
    wall_s: float  # from the start's call to the status that says completed


@dataclass(frozen=True)
class Series:
    """A service that has one series of bars in its workspace."""

    service: ServiceProtocol
    symbol: str
    timeframe: str

    async def train(self, config: Mapping[str, Any], strategy: str = "default") -> Trained:
        """Starts a training, waits for its end and reads what it is worth."""
        began = time.perf_counter()
        series = {"symbol": self.symbol, "timeframe": self.timeframe}
        task_id = await services.train(self.service, config, {**series, "strategy": strategy})
        wall_s = time.perf_counter() - began
        return Trained(task_id, await self.performance(task_id), wall_s)

    async def performance(self, task_id: str) -> responses.ModelPerformance:
        """What is said of a task now."""
        return await self.service.get_model_performance(
            parse(requests.TaskOnly, {"task_id": task_id})
        )


@asynccontextmanager
async def open_service_with(bars: Bars) -> AsyncIterator[Series]:
    """A service of its own, in this process, whose workspace holds these bars as a CSV file."""
    with tempfile.TemporaryDirectory() as folder:
        write_csv(bars, Path(folder) / "data")
        async with services.open_service(Path(folder)) as service:
            yield Series(service, bars.symbol, bars.timeframe)


def write_csv(bars: Bars, folder: Path) -> None:
    """The bars as a data file, with every digit of their prices."""
    folder.mkdir(parents=True)
    names = ("open", "high", "low", "close", "volume")
    table = pd.DataFrame({"time": bars.times(), **dict(zip(names, bars.columns(), strict=True))})
    table.to_csv(folder / f"{bars.symbol}_{bars.timeframe}.csv", index=False)
