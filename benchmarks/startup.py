"""(i) From spawn to the first answers, beside an empty server of the SDK."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.report import Report, Table
from benchmarks.stdio import StdioServer
from ktrdr_mcp.daemon.connection import stop_daemon
from ktrdr_mcp.paths import Workspace

EMPTY_SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("empty")
@server.tool()
def nothing() -> dict[str, bool]:
    return {"success": True}
server.run("stdio")
"""
TITLE = "From spawn to the first answers"
NAMES = ("empty server of the SDK", "ktrdr-mcp, its service running", "ktrdr-mcp, none running")


class Start(NamedTuple):
    """Seconds of one start."""

    initialized: float
    answered: float  # since the spawn
    exited: float  # since the client left
    cpu: float  # of the process that the client started, from spawn to exit


def measure(short: bool) -> Report:
    """Every kind of start in every round."""
    rounds = 1 if short else 9
    found: dict[str, list[Start]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        kinds = starts(Path(folder))
        try:
            for _ in range(rounds):
                for name, start in kinds.items():
                    found[name].append(start())
        finally:
            for workspace in Path(folder).iterdir():
                asyncio.run(stop_daemon(Workspace(workspace)))
    rows = [
        [name, *(f"{median(each):.2f}" for each in zip(*times, strict=True))]
        for name, times in found.items()
    ]
    columns = ["server", "initialize, s", "first tool answer, s", "exit, s", "CPU, s"]
    note = (
        f"Medians of {rounds} starts of each, in turn. CPU is that of the process that the client"
        " starts; the service is another, and starts beside it."
    )
    return Report([Table(TITLE, columns, rows, [note])])


def starts(folder: Path) -> dict[str, Callable[[], Start]]:
    """How each kind of server is started; the order is that of a round."""
    busy, alone = folder / "busy", folder / "alone"
    for workspace in (busy, alone):
        workspace.mkdir()
    with StdioServer(stdio_proxy(busy)) as first:
        first.tool("list_training_tasks", {})

    def without_daemon() -> Start:
        asyncio.run(stop_daemon(Workspace(alone)))
        return started(stdio_proxy(alone), "list_training_tasks")

    return {
        NAMES[0]: lambda: started([sys.executable, "-c", EMPTY_SERVER], "nothing"),
        NAMES[1]: lambda: started(stdio_proxy(busy), "list_training_tasks"),
        NAMES[2]: without_daemon,
    }


def stdio_proxy(workspace: Path) -> list[str]:
    """The command line that a client has in its configuration."""
    return [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace)]


def started(command: list[str], tool: str) -> Start:
    """Starts a server, asks it once and leaves it."""
    server = StdioServer(command)
    server.tool(tool, {})
    answered = time.perf_counter() - server.began
    exited, cpu = server.leave()
    return Start(server.initialized_s, answered, exited, cpu)


if __name__ == "__main__":
    for table in measure("--short" in sys.argv).tables:
        sys.stdout.write(f"{table.markdown()}\n")
