"""Makes the workspaces that fault tests damage."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

SHORT = {"epochs": 2, "hidden_layers": [8]}
TASK = "kept"
MODEL = "kept_model"
BAR = {"model_name": MODEL, "symbol": "AAPL", "timeframe": "1h", "test_date": "2026-01-05"}


def make_workspace(clean: Path, crashed: Path) -> None:
    """Trains and saves; copies the folder while the server is open, and after it is closed."""

    async def make() -> None:
        async with open_workspace(Workspace(clean)) as opened:
            await train(opened.service, TASK)
            raw = {"task_id": TASK, "model_name": MODEL, "description": "kept"}
            await opened.service.save_trained_model(parse(requests.SaveModel, raw))
            await asyncio.to_thread(shutil.copytree, clean, crashed, symlinks=True)
        async with open_workspace(Workspace(clean)):
            pass  # a second start makes the copy of the database

    asyncio.run(make())


async def train(service: ServiceProtocol, task_id: str, **config: Any) -> str:
    """Trains to the end and gives the status."""
    raw = {"task_id": task_id, "symbol": "AAPL", "timeframe": "1h", "config": SHORT | config}
    await service.start_training(parse(requests.StartTraining, raw))
    waiting = parse(requests.GetTrainingStatus, {"task_id": task_id, "wait_s": 50.0})
    status = "pending"
    while status in ("pending", "training"):  # a busy machine takes longer than one wait
        status = str((await service.get_training_status(waiting)).status)
    return status


async def predict(service: ServiceProtocol) -> dict[str, Any]:
    """What the saved model says of one bar."""
    return (await service.test_model_prediction(parse(requests.Predict, BAR))).model_dump()
