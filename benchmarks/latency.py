"""(e) How long a status takes over HTTP and MCP while trainings run."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import services
from benchmarks.report import Report, Table, Target, under
from benchmarks.server import Server
from benchmarks.timing import Latencies, seconds_of

TRAININGS = (0, 1, 2, 4)
FOREVER = {"epochs": 100_000, "early_stopping": None}
PROTOCOLS = ("HTTP", "MCP stdio")
MOST_PAUSE_S = 0.008  # drawn between calls, so that they come at any moment of a turn
MOST_P99_MS = 10.0
MOST_TIMES_IDLE = 2.0
TARGET_TRAININGS = 2

Seconds = dict[tuple[str, int], list[float]]


def measure(short: bool) -> Report:
    """Every number of trainings in every round; in the short form none and one."""
    trainings, rounds, calls = ((0, 1), 1, 10) if short else (TRAININGS, 4, 300)
    seconds: Seconds = {(protocol, count): [] for protocol in PROTOCOLS for count in trainings}
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        idle_task = completed(server)
        for _ in range(rounds):
            for count in trainings:
                measure_beside(server, count, idle_task, calls, seconds)
    return report({key: Latencies.of(each) for key, each in seconds.items()}, rounds * calls)


def completed(server: Server) -> str:
    """A task that has ended."""
    task_id = started(server, {"epochs": 1})
    wait = {"task_id": task_id, "wait_s": services.WAIT_S}
    while server.tool("get_training_status", wait)["status"] in {"pending", "training"}:
        pass
    return task_id


def started(server: Server, config: dict[str, object]) -> str:
    """The id of a new task."""
    started_task = server.tool("start_training", {**services.SERIES, "config": config})
    return str(started_task["task_id"])


def measure_beside(
    server: Server, count: int, idle_task: str, calls: int, seconds: Seconds
) -> None:
    """Asks for a status again and again while some trainings run, and stops them.

    Args:
        server: to ask.
        count: trainings to start; those that find no free worker wait in the queue.
        idle_task: whose status is read when none runs.
        calls: of each protocol.
        seconds: where the times are added.
    """
    tasks = [started(server, FOREVER | {"seed": seed}) for seed in range(count)]
    watched = tasks[0] if tasks else idle_task
    until_it_trains(server, tasks[:TARGET_TRAININGS])
    for _ in range(calls):
        for protocol, ask in calls_by_protocol(server, watched).items():
            time.sleep(random.uniform(0, MOST_PAUSE_S))
            seconds[protocol, count].append(seconds_of(ask))
    for task_id in tasks:
        server.tool("cancel_training", {"task_id": task_id})
    for task_id in tasks:
        server.tool("get_training_status", {"task_id": task_id, "wait_s": services.WAIT_S})


def until_it_trains(server: Server, tasks: list[str]) -> None:
    """Returns when each task has reported an epoch."""
    for task_id in tasks:
        while server.get(f"/training/{task_id}")["current_epoch"] == 0:
            time.sleep(0.05)


def calls_by_protocol(server: Server, task_id: str) -> dict[str, Callable[[], object]]:
    """A status call of each protocol."""
    arguments = {"task_id": task_id}
    return {
        PROTOCOLS[0]: lambda: server.get(f"/training/{task_id}"),
        PROTOCOLS[1]: lambda: server.tool("get_training_status", arguments),
    }


def report(found: dict[tuple[str, int], Latencies], calls: int) -> Report:
    """The table, and the targets where two trainings were measured."""
    rows = [
        [
            protocol,
            str(count),
            str(calls),
            *latencies.cells(),
            f"{latencies.p99 / found[protocol, 0].p99:.2f}",
        ]
        for (protocol, count), latencies in found.items()
    ]
    columns = ["status over", "trainings", "calls", "p50, ms", "p95, ms", "p99, ms"]
    note = (
        "Two trainings run at a time, taking turns; of four, two wait in the queue. The calls come"
        f" one at a time, up to {1e3 * MOST_PAUSE_S:.0f} ms apart, from another process."
    )
    table = Table("Status latency", [*columns, "p99 against idle, x"], rows, [note])
    reached = [
        target
        for protocol in PROTOCOLS
        if (protocol, TARGET_TRAININGS) in found
        for target in targets(protocol, found)
    ]
    return Report([table], reached)


def targets(protocol: str, found: dict[tuple[str, int], Latencies]) -> list[Target]:
    """What was to be reached with two trainings."""
    what = f"status p99 with {TARGET_TRAININGS} trainings, {protocol}"
    busy, idle = found[protocol, TARGET_TRAININGS].p99, found[protocol, 0].p99
    return [
        under(what, busy, MOST_P99_MS, " ms"),
        under(f"{what}, against idle", busy / idle, MOST_TIMES_IDLE, " x"),
    ]
