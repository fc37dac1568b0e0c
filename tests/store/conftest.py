"""An open database in a temporary workspace, and tasks and models to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.models import ModelRegistry, ModelRow
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.store.tasks import TaskStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".ktrdr" / "ktrdr.db"


@pytest_asyncio.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with await Database.open(path) as opened:
        yield opened


@pytest.fixture
def tasks(database: Database) -> TaskStore:
    return TaskStore(database)


@pytest.fixture
def registry(database: Database) -> ModelRegistry:
    return ModelRegistry(database)


@pytest.fixture
def new_task() -> Callable[..., NewTask]:
    def make(task_id: str, **changes: Any) -> NewTask:
        values: dict[str, Any] = {
            "task_id": task_id,
            "symbol": "AAPL",
            "timeframe": "1h",
            "strategy": "default",
            "config": {"epochs": 100, "a": 1},
            "spec": {"series": [{"symbol": "AAPL", "timeframe": "1h"}]},
            "total_epochs": 100,
            "request_hash": f"request of {task_id}",
            "similarity_hash": "similar",
        }
        return NewTask(**{**values, **changes})

    return make


@pytest.fixture
def model_row() -> Callable[..., ModelRow]:
    def make(name: str, version: int, **changes: Any) -> ModelRow:
        values: dict[str, Any] = {
            "model_id": f"{name}-{version}",
            "model_name": name,
            "version": version,
            "task_id": f"task-{version}",
            "symbol": "AAPL",
            "timeframe": "1h",
            "strategy": "default",
            "created_at": "2026-01-01T00:00:00Z",
            "description": "",
            "path": f"models/{name}/AAPL_1h_v{version}",
            "training_accuracy": 0.5,
            "test_accuracy": None,
            "model_size_mb": 0.02,
            "architecture": "mlp_64_32_16",
            "bundle_sha256": "0" * 64,
            "details": {"seed": 7},
        }
        return ModelRow(**{**values, **changes})

    return make
