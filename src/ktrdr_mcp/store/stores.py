"""Everything that one database keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ktrdr_mcp.store.backtests import BacktestLog
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.handles import HandleStore
from ktrdr_mcp.store.models import ModelRegistry
from ktrdr_mcp.store.research import ResearchLog
from ktrdr_mcp.store.tasks import TaskStore
from ktrdr_mcp.store.trials import TrialLog


@dataclass(frozen=True)
class Stores:
    """Tasks, models, what was tried on which test window, research log, handles, backtests."""

    tasks: TaskStore
    registry: ModelRegistry
    trial_log: TrialLog
    research: ResearchLog
    handles: HandleStore
    backtests: BacktestLog

    @classmethod
    def of(cls, database: Database) -> Self:
        """The stores of an open database."""
        return cls(
            TaskStore(database),
            ModelRegistry(database),
            TrialLog(database),
            ResearchLog(database),
            HandleStore(database),
            BacktestLog(database),
        )
