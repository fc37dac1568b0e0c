"""A thousand status polls of three clients, while two trainings run."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from benchmarks import USER_FOLDER
from benchmarks.plain_http import PlainHttp
from benchmarks.report import Report, Table, Target
from benchmarks.timing import Latencies
from ktrdr_mcp.daemon.connection import stop_daemon
from ktrdr_mcp.ownership import address
from ktrdr_mcp.paths import Workspace

TITLE = "Concurrent status polls"
FOREVER = {"epochs": 100_000, "early_stopping": None, "walk_forward": None}
SERIES = {"symbol": "AAPL", "timeframe": "1h"}
SEEDS = (1, 2)

Ask = Callable[[str], Awaitable[dict[str, Any]]]


class Polls:
    """What three clients read."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.wrong: list[str] = []
        self.epochs = 0  # that the trainings went through meanwhile

    async def poll(self, client: str, ask: Ask, task_id: str, least_epoch: int) -> None:
        """One poll, and whether its answer can be true."""
        began = time.perf_counter()
        try:
            status = await ask(task_id)
        except Exception as error:
            self.wrong.append(f"{client}: {type(error).__name__}")
            return
        self.seconds.setdefault(client, []).append(time.perf_counter() - began)
        right = (
            status["task_id"] == task_id
            and status["status"] == "training"
            and status["current_epoch"] >= least_epoch
            and status["total_epochs"] == FOREVER["epochs"]
        )
        if not right:
            self.wrong.append(f"{client}: {status}")


def measure(short: bool) -> Report:
    """One poll after another by each client; then all polls of all clients at one moment."""
    polls = 60 if short else 1_000
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        try:
            found = asyncio.run(polled(workspace, polls))
        finally:
            asyncio.run(stop_daemon(workspace))
    rows, targets = [], []
    for way, each in found.items():
        every = [seconds for client in each.seconds.values() for seconds in client]
        for client, seconds in {**each.seconds, "all": every}.items():
            rows.append([way, client, str(len(seconds)), *Latencies.of(seconds).cells()])
        right = f"{len(every) - len(each.wrong)} of {polls}"
        targets.append(Target(f"right answers, {way}", right, str(polls), not each.wrong))
    epochs = ", ".join(str(each.epochs) for each in found.values())
    notes = [f"The trainings went through {epochs} epochs meanwhile."]
    notes += [wrong for each in found.values() for wrong in each.wrong[:3]]
    columns = ["polls", "client", "answers", "p50, ms", "p95, ms", "p99, ms"]
    return Report([Table(TITLE, columns, rows, notes)], targets)


async def polled(workspace: Workspace, polls: int) -> dict[str, Polls]:
    """Two trainings, three clients, and the polls spread over both."""
    async with AsyncExitStack() as stack:
        clients: dict[str, Ask] = {}
        for number in (1, 2):
            client = await stack.enter_async_context(Client(stdio_proxy(workspace)))
            clients[f"stdio {number}"] = over_mcp(client)
        tasks = [await started(client, seed) for seed in SEEDS]
        clients["HTTP"] = over_http(workspace, stack)
        return {
            "one after another": await spread(clients, tasks, polls, in_turn=True),
            "at one moment": await spread(clients, tasks, polls, in_turn=False),
        }


async def spread(clients: dict[str, Ask], tasks: list[str], polls: int, in_turn: bool) -> Polls:
    """All polls, each client's in turn or at once.

    Args:
        clients: by name; they poll at the same time in any case.
        tasks: in training.
        polls: how many in all.
        in_turn: whether a client waits for each answer before it asks again.
    """
    found, ask = Polls(), clients["HTTP"]
    least = [await first_epoch(ask, task_id) for task_id in tasks]

    async def some(name: str, numbers: range) -> None:
        for number in numbers:
            which = number // len(clients) % len(tasks)
            await found.poll(name, clients[name], tasks[which], least[which])

    async with asyncio.TaskGroup() as group:
        for place, name in enumerate(clients):
            its = range(place, polls, len(clients))
            for numbers in [its] if in_turn else [range(each, each + 1) for each in its]:
                group.create_task(some(name, numbers))
    found.epochs = sum([(await ask(task_id))["current_epoch"] for task_id in tasks]) - sum(least)
    return found


def stdio_proxy(workspace: Workspace) -> StdioServerParameters:
    """What a client has in its configuration."""
    arguments = ["-m", "ktrdr_mcp", "--workspace", str(workspace.root)]
    user = {USER_FOLDER: os.environ[USER_FOLDER]}
    return StdioServerParameters(command=sys.executable, args=arguments, env=user)


def over_mcp(client: Client) -> Ask:
    """A status over standard input and output."""

    async def ask(task_id: str) -> dict[str, Any]:
        answer = await client.call_tool("get_training_status", {"task_id": task_id})
        return dict(answer.structured_content or {})

    return ask


def over_http(workspace: Workspace, stack: AsyncExitStack) -> Ask:
    """A status over HTTP, straight from the service."""
    owner = address.read(workspace)
    assert owner is not None
    assert owner.token is not None
    http = PlainHttp(owner.url, owner.token)
    stack.callback(http.close)

    async def ask(task_id: str) -> dict[str, Any]:
        return await http.get(f"/api/v1/training/{task_id}")

    return ask


async def started(client: Client, seed: int) -> str:
    """The id of a new training."""
    request = {**SERIES, "config": {**FOREVER, "seed": seed}}
    answer = await client.call_tool("start_training", request)
    return str((answer.structured_content or {})["task_id"])


async def first_epoch(ask: Ask, task_id: str) -> int:
    """The epoch of a training once it has one."""
    while True:
        if epoch := (await ask(task_id))["current_epoch"]:
            return int(epoch)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    for table in measure("--short" in sys.argv).tables:
        sys.stdout.write(f"{table.markdown()}\n")
