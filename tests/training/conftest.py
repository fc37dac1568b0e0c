"""A training on bars that a test makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.context import Context, NullContext
from ktrdr_mcp.data.bars import Bars, LoadedBars
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.results import RunResult
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training import pipeline
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.prepare import Prepared, prepare
from ktrdr_mcp.training.spec import SeriesSpec, TrainingSpec


@dataclass
class OneSeries:
    """A source with one series."""

    bars: Bars
    notes: list[str] = field(default_factory=list)

    def load(self, symbol: str, timeframe: str, *_: object) -> LoadedBars:
        return LoadedBars(self.bars, "made by a test", self.notes)


@dataclass
class Trial:
    """Trains and prepares in a folder of its own."""

    root: Path

    def spec(
        self,
        config: dict[str, Any] | None = None,
        strategy: str = "default",
        start: str | None = None,
        end: str | None = None,
        task_id: str = "trial",
    ) -> TrainingSpec:
        chosen = StrategyCatalog(Workspace(self.root)).read(strategy)
        merged = effective(TrainingConfig.model_validate(config or {}), chosen)
        return TrainingSpec(task_id, (SeriesSpec("TEST", "1h", start, end),), chosen, merged)

    def prepare(self, bars: Bars, config: dict[str, Any] | None = None, **more: Any) -> Prepared:
        return prepare(self.spec(config, **more), OneSeries(bars))  # type: ignore[arg-type]

    def run(
        self,
        bars: Bars,
        config: dict[str, Any] | None = None,
        context: Context | None = None,
        folder: str = "bundle",
        **more: Any,
    ) -> RunResult:
        return pipeline.run(
            self.spec(config, **more).to_dict(),
            self.root / folder,
            context or NullContext(),
            OneSeries(bars),  # type: ignore[arg-type]
        )


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


@pytest.fixture(scope="session")
def noise(make_bars: Callable[..., Bars], planted_close: Callable[..., Any]) -> Bars:
    """A random walk of 900 bars."""
    return make_bars(planted_close(900, 0.0, seed=5))


def changed_from(bars: Bars, row: int) -> Bars:
    """The same bars before a row, and other prices from it on."""
    steps = np.random.default_rng(8).normal(0, 0.05, len(bars))
    factor = np.exp(np.cumsum(np.where(np.arange(len(bars)) < row, 0.0, steps)))
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    return replace(bars, **prices)
