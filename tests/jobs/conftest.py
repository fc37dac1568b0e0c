"""A job manager on a temporary database, and tasks to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp.jobs.executors.threads import ThreadExecutor
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore
from tests.support.gated_runner import BOUND_S, GatedRunner


@pytest.fixture
def runner() -> GatedRunner:
    return GatedRunner()


@pytest_asyncio.fixture
async def tasks(tmp_path: Path) -> AsyncIterator[TaskStore]:
    async with await Database.open(tmp_path / "ktrdr.db") as database:
        yield TaskStore(database)


@pytest.fixture
def make_manager(tasks: TaskStore, tmp_path: Path) -> Callable[..., JobManager]:
    def make(run: Any, capacity: int = 2, **settings: Any) -> JobManager:
        settings = {"drain_s": BOUND_S, "retry_s": 0.0, **settings}
        return JobManager(tasks, ThreadExecutor(run, capacity), tmp_path.joinpath, **settings)

    return make


@pytest.fixture
def new_task() -> Callable[..., NewTask]:
    def make(task_id: str, **changes: Any) -> NewTask:
        values: dict[str, Any] = {
            "task_id": task_id,
            "symbol": "AAPL",
            "timeframe": "1h",
            "strategy": "default",
            "config": {},
            "spec": {"id": task_id},
            "total_epochs": 100,
            "request_hash": task_id,
            "similarity_hash": task_id,
        }
        return NewTask(**{**values, **changes})

    return make
