"""(f) Predictions: warm, with nothing in memory, and from a process that does not run yet."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from benchmarks import services
from benchmarks.report import Report, Table, under
from benchmarks.timing import Latencies
from ktrdr_mcp.daemon.connection import stop_daemon
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

WARM_UP_CALLS = 5
MOST_MS = 5.0
REQUEST: dict[str, Any] = {"model_name": services.MODEL, **services.SERIES}


def measure(short: bool) -> Report:
    """The newest bar, over and over; in the short form without another process."""
    return anyio.run(measured, 10 if short else 400, 1 if short else 5, not short)


async def measured(calls: int, openings: int, with_process: bool) -> Report:
    """Every way to a prediction.

    Args:
        calls: warm predictions.
        openings: how often a service or a process is opened for its first prediction.
        with_process: whether to measure over MCP too.
    """
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with services.open_service(folder) as service:
            await services.save_model(service, epochs=2)
            warm = Latencies.of(await in_process(service, calls))
        rows.append(["the service itself, model loaded", str(calls), *warm.cells()])
        cold = [await first_prediction(folder) for _ in range(openings)]
        rows.append(["its first, model and bars on disk", str(openings), *cells(cold)])
        if with_process:
            rows += await over_mcp(folder, calls, openings)
    columns = ["prediction of the newest AAPL 1h bar", "calls", "p50, ms", "p95, ms", "p99, ms"]
    target = under("predict, model loaded, p50", warm.p50, MOST_MS, " ms")
    return Report([Table("Predictions", columns, rows)], [target])


def cells(seconds: list[float]) -> list[str]:
    """As a table shows them; a few calls have no percentiles but their median and worst."""
    return [f"{Latencies.of(seconds).p50:.1f}", "", f"{1e3 * max(seconds):.1f} (worst)"]


async def in_process(service: ServiceProtocol, calls: int) -> list[float]:
    """Seconds of each warm prediction."""
    request = parse(requests.Predict, REQUEST)
    seconds = []
    for _ in range(WARM_UP_CALLS + calls):
        began = time.perf_counter()
        await service.test_model_prediction(request)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP_CALLS:]


async def first_prediction(folder: Path) -> float:
    """Seconds of the first prediction of a service that has just been opened."""
    async with services.open_service(folder) as service:
        began = time.perf_counter()
        await service.test_model_prediction(parse(requests.Predict, REQUEST))
        return time.perf_counter() - began


async def over_mcp(folder: Path, calls: int, openings: int) -> list[list[str]]:
    """The same through a server over standard input and output."""
    starts, joins = [], []
    for _ in range(openings):
        starts.append(await connected_prediction(folder))
        joins.append(await connected_prediction(folder))
        await stop_daemon(Workspace(folder))
    async with services.mcp_client(folder) as client:
        seconds = [await mcp_call(client) for _ in range(WARM_UP_CALLS + calls)]
    await stop_daemon(Workspace(folder))
    return [
        [
            "over MCP stdio, model loaded",
            str(calls),
            *Latencies.of(seconds[WARM_UP_CALLS:]).cells(),
        ],
        ["connecting to the running service included", str(openings), *cells(joins)],
        ["starting the service included", str(openings), *cells(starts)],
    ]


async def connected_prediction(folder: Path) -> float:
    """Seconds from starting the server's process to its first prediction."""
    began = time.perf_counter()
    async with services.mcp_client(folder) as client:
        await mcp_call(client)
        return time.perf_counter() - began


async def mcp_call(client: Any) -> float:
    """Seconds of one prediction over MCP."""
    began = time.perf_counter()
    await services.call(client, "test_model_prediction", REQUEST)
    return time.perf_counter() - began
