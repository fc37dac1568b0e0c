"""The real server in a process of its own, spoken to by a real MCP client."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

Connect = Callable[..., Any]


def command(workspace: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "ktrdr_mcp", "--workspace", str(workspace)]
    )


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    """Opens a client on a server of its own; the workspace is the test's."""

    @asynccontextmanager
    async def opened(workspace: Path | None = None, **options: Any) -> AsyncIterator[Client]:
        async with Client(command(workspace or tmp_path / "workspace"), **options) as client:
            yield client

    return opened
