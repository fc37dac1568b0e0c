"""A service in this process, and a server in another, on a workspace of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from benchmarks import USER_FOLDER
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

SERIES = {"symbol": "AAPL", "timeframe": "1h"}
MODEL = "benchmark"
WAIT_S = 50.0


@asynccontextmanager
async def open_service(folder: Path) -> AsyncIterator[ServiceProtocol]:
    """A service in this process."""
    async with open_workspace(Workspace(folder)) as opened:
        yield opened.service


@asynccontextmanager
async def mcp_client(folder: Path) -> AsyncIterator[Client]:
    """A client of a server in a process of its own, over standard input and output.

    The daemon that the server starts beside itself runs on; see `stop_daemon`.
    """
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ktrdr_mcp", "--workspace", str(folder)],
        env={USER_FOLDER: os.environ[USER_FOLDER]},
    )
    async with Client(server) as client:
        yield client


async def call(client: Client, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's structured answer. Raises RuntimeError if it refused."""
    answer = await client.call_tool(tool, dict(arguments))
    content: dict[str, Any] = answer.structured_content or {}
    if answer.is_error:
        raise RuntimeError(f"{tool} refused: {content}")
    return content


async def train(
    service: ServiceProtocol, config: Mapping[str, Any], what: Mapping[str, Any] = SERIES
) -> str:
    """The id of a task that has been trained. Raises RuntimeError if it was not.

    Args:
        service: the service.
        config: of the training.
        what: symbol and timeframe, and a strategy if not the default.
    """
    start = parse(requests.StartTraining, {**what, "config": dict(config)})
    task_id = (await service.start_training(start)).task_id
    status = "pending"
    while status in {"pending", "training"}:
        wait = parse(requests.GetTrainingStatus, {"task_id": task_id, "wait_s": WAIT_S})
        status = (await service.get_training_status(wait)).status
    if status != "completed":
        raise RuntimeError(f"the training ended as {status}")
    return task_id


async def save_model(service: ServiceProtocol, epochs: int) -> None:
    """Trains a default model for some epochs and saves it as MODEL."""
    task_id = await train(service, {"epochs": epochs, "early_stopping": None})
    save = {"task_id": task_id, "model_name": MODEL}
    await service.save_trained_model(parse(requests.SaveModel, save))
