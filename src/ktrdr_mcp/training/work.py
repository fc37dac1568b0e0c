"""What a worker process does for its server: trainings on the bars of one workspace."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ktrdr_mcp.context import Context
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.evaluation import baselines
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.training import duration, pipeline
from ktrdr_mcp.training.sent import SentBars


class TrainingWork:
    """Trains; a jobs.process.Work.

    Args:
        workspace: whose bars are read.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._sources = BarCatalog(workspace)

    def run(self, spec: dict[str, Any], workdir: Path, context: Context) -> dict[str, Any]:
        """Trains one model and publishes its bundle, or trains a part; see pipeline.run_any."""
        return pipeline.run_any(spec, workdir, context, self._sources)

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """There is nothing to call. Raises LookupError."""
        raise LookupError(name)

    def about(self) -> dict[str, Any]:
        """How fast this machine trains."""
        return {"speed": asdict(duration.measure())}


class SentWork:
    """Trains on the bars that come with each training; for workers on other machines."""

    def run(
        self, spec: dict[str, Any], workdir: Path, context: Context, bars: SentBars
    ) -> dict[str, Any]:
        """Trains one model and publishes its bundle, or trains a part; see pipeline.run_any."""
        return pipeline.run_any(spec, workdir, context, bars)

    def about(self) -> dict[str, Any]:
        """How fast this machine trains."""
        return {"speed": asdict(duration.measure())}


def open_sent_work() -> SentWork:
    """The entry of a worker on another machine. Imports as `open_work` does."""
    torch.set_num_threads(1)
    baselines.load()
    return SentWork()


def open_work(workspace: str) -> TrainingWork:
    """The entry of a worker process. Imports all that a training needs, which takes seconds.

    Args:
        workspace: the path of its folder.
    """
    torch.set_num_threads(1)
    baselines.load()
    return TrainingWork(Workspace(Path(workspace)))
