"""A training that is long enough to be met while it runs, and what it comes to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ktrdr_mcp.daemon.executors import Place
from ktrdr_mcp.daemon.server import OpenWorkspace, open_workspace
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support.nothing_lost import sha256

LONGER: dict[str, Any] = {
    "epochs": 40,
    "hidden_layers": [8],
    "early_stopping": None,
    "walk_forward": None,
}
WAIT_S = 600.0  # a busy machine takes long for a checkpoint after every epoch


async def start(opened: OpenWorkspace, task_id: str, **config: Any) -> None:
    """Starts a training."""
    raw = {"task_id": task_id, "symbol": "AAPL", "timeframe": "1h", "config": LONGER | config}
    await opened.service.start_training(parse(requests.StartTraining, raw))


async def end(opened: OpenWorkspace, task_id: str) -> str:
    """How it ends."""
    return (await opened.manager.wait(task_id, WAIT_S)).status


def bits_of(workspace: Path, task_id: str) -> tuple[str, str]:
    """The weights and the history of a result."""
    bundle = workspace / ".ktrdr" / "tasks" / task_id / "bundle"
    return sha256(bundle / "weights.safetensors"), sha256(bundle / "history.json")


def trained_in(folder: Path, place: Place, **config: Any) -> tuple[str, str]:
    """What a training comes to that nobody interrupts."""

    async def run() -> None:
        async with open_workspace(Workspace(folder), place) as opened:
            await start(opened, "whole", **config)
            assert await end(opened, "whole") == "completed"

    asyncio.run(run())
    return bits_of(folder, "whole")


def trained_in_a_thread(folder: Path, **config: Any) -> tuple[str, str]:
    """The same in a thread of this process."""
    return trained_in(folder, "threads", **config)
