"""The real server in a process of its own, spoken to by a real MCP client."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.support.background_servers import IDLE, end_labs

Connect = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_lab_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    end_labs(tmp_path)


def command(workspace: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "ktrdr_mcp", "--workspace", str(workspace)], env=IDLE
    )


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    """Opens a client on a server of its own; the workspace is the test's."""

    @asynccontextmanager
    async def opened(workspace: Path | None = None, **options: Any) -> AsyncIterator[Client]:
        async with Client(command(workspace or tmp_path / "workspace"), **options) as client:
            yield client

    return opened
