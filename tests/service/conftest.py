"""A server on a workspace of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.paths import Workspace
from tests.support.service_calls import Bench


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    workspace = Workspace(tmp_path / "workspace")
    async with open_workspace(workspace) as opened:
        yield Bench(opened.service, workspace)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refusing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A server for all tests of a module that change nothing in its workspace."""
    workspace = Workspace(tmp_path_factory.mktemp("refusing") / "workspace")
    async with open_workspace(workspace) as opened:
        yield Bench(opened.service, workspace)


@pytest.fixture
def write_csv() -> Callable[..., None]:
    """Writes a series into a workspace."""

    def write(workspace: Workspace, rows: int = 600, name: str = "TEST_1h.csv", **replace: Any):
        generator = np.random.default_rng(1)
        close = 100 * np.exp(np.cumsum(0.005 * generator.standard_normal(rows)))
        opens = np.r_[100.0, close[:-1]]
        table = {
            "timestamp": [
                str(timestamp).replace("T", " ") + "+00:00"
                for timestamp in np.datetime64("2024-01-01T00:00:00") + np.arange(rows) * 3600
            ],
            "open": opens,
            "high": np.maximum(opens, close) * 1.001,
            "low": np.minimum(opens, close) * 0.999,
            "close": close,
            "volume": np.full(rows, 10.0),
        }
        for column, (row, value) in replace.items():
            values = list(table[column])
            values[row] = value
            table[column] = values
        lines = [
            ",".join(table),
            *(",".join(map(str, row)) for row in zip(*table.values(), strict=True)),
        ]
        workspace.data.mkdir(parents=True, exist_ok=True)
        (workspace.data / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return write


@pytest.fixture
def write_strategy() -> Callable[..., None]:
    """Writes a strategy called "changing" into a workspace."""

    def write(workspace: Workspace, period: int) -> None:
        workspace.strategies.mkdir(parents=True, exist_ok=True)
        (workspace.strategies / "changing.yaml").write_text(
            "name: changing\n"
            f"indicators:\n  - {{name: rsi, type: rsi, params: {{period: {period}}}}}\n"
            "fuzzy_sets:\n  rsi: auto\n",
            encoding="utf-8",
        )

    return write
