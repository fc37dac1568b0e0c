"""Everything that one database keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.models import ModelRegistry
from ktrdr_mcp.store.tasks import TaskStore
from ktrdr_mcp.store.trials import TrialLog


@dataclass(frozen=True)
class Stores:
    """The stored tasks, the saved models, and what was tried on which test window."""

    tasks: TaskStore
    registry: ModelRegistry
    trial_log: TrialLog

    @classmethod
    def of(cls, database: Database) -> Self:
        """The stores of an open database."""
        return cls(TaskStore(database), ModelRegistry(database), TrialLog(database))
