"""(k) Every core: many jobs at once, and the server that answers meanwhile.

Each figure is measured in one run on one machine, so that what counts is its ratio to another.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import anyio

from benchmarks import services, startup
from benchmarks.latency import (
    FOREVER,
    MOST_PAUSE_S,
    completed,
    measure_beside,
    started,
    until_it_trains,
)
from benchmarks.report import Report, Table, Target, at_least, under
from benchmarks.resident import MEBIBYTE
from benchmarks.server import Server
from benchmarks.stdio import StdioServer
from benchmarks.timing import Latencies, seconds_of
from ktrdr_mcp.daemon.connection import stop_daemon
from ktrdr_mcp.daemon.executors import ADDRESS_VARIABLE, VARIABLE
from ktrdr_mcp.jobs.executors.processes import available_cores
from ktrdr_mcp.ownership import address
from ktrdr_mcp.paths import Workspace

JOBS = 8
SHARE_OF_A_CORE = 0.9
SHARE_OF_A_CORE_ON_A_CLUSTER = 0.8
FIRST_QUESTIONS: dict[str, dict[str, Any]] = {
    "list_training_tasks": {},
    "get_training_status": {},  # of the task that is there
    "get_market_data_summary": {},
}
QUEUE_WAIT_S = 0.2


class Size(NamedTuple):
    """How much is measured."""

    jobs: int
    epochs: int
    rounds: int
    calls: int
    starts: int
    queued: int


SHORT = Size(jobs=2, epochs=1, rounds=1, calls=5, starts=1, queued=100)
WHOLE = Size(jobs=JOBS, epochs=100, rounds=3, calls=400, starts=5, queued=10_000)


def measure(short: bool) -> Report:
    """All figures of one run; in the short form few of each."""
    size = SHORT if short else WHOLE
    targets: list[Target] = []
    with tempfile.TemporaryDirectory() as name, with_executor("processes"):
        folder = Path(name)
        targets += on_every_core(folder / "jobs", size)
        targets += answers(folder / "answers", size)
        targets += from_nothing(folder / "answers", size)
        targets += queued(folder / "queue", size)
        with with_executor("ray"):
            targets += on_a_cluster(folder / "cluster", size)
    rows = [[each.what, each.figure, each.bound] for each in targets]
    note = f"{available_cores()} cores; processes unless it says threads; {size.rounds} rounds."
    return Report([Table("Every core", ["what", "measured", "target"], rows, [note])], targets)


@contextmanager
def with_executor(executor: str) -> Iterator[None]:
    """Servers that are started meanwhile train there; on a cluster, on one of this machine."""
    before = dict(os.environ)
    os.environ |= {VARIABLE: executor, ADDRESS_VARIABLE: "local"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def job(size: Size, seed: int) -> dict[str, Any]:
    """A default job of a certain length."""
    return {"epochs": size.epochs, "early_stopping": None, "seed": seed}


def wait(server: Server, task_id: str) -> None:
    """Returns once a task has completed. Raises RuntimeError if it ends otherwise."""
    status = "pending"
    while status in {"pending", "training"}:
        given = {"task_id": task_id, "wait_s": services.WAIT_S}
        status = server.tool("get_training_status", given)["status"]
    if status != "completed":
        raise RuntimeError(f"a job ended as {status}")


def run_jobs(server: Server, size: Size, seeds: range, at_once: bool) -> float:
    """Seconds of some jobs."""
    began = time.perf_counter()
    if at_once:
        for task_id in [started(server, job(size, seed)) for seed in seeds]:
            wait(server, task_id)
    else:
        for seed in seeds:
            wait(server, started(server, job(size, seed)))
    return time.perf_counter() - began


def fresh_seeds() -> Callable[[int], range]:
    """What gives seeds that no job of a server has had, as many as it is asked for."""
    seeds = itertools.count(1)

    def next_seeds(count: int) -> range:
        first = next(seeds) * JOBS
        return range(first, first + count)

    return next_seeds


def on_every_core(folder: Path, size: Size) -> list[Target]:
    """Jobs at once against one after the other, and one alone against threads."""
    cores, next_seeds = available_cores(), fresh_seeds()
    folder.mkdir()
    with Server(folder) as server:
        gains = gains_at_once(server, size, next_seeds)
        threads = anyio.run(job_in_a_thread, folder.with_name("threads"), size)
        alone = [run_jobs(server, size, next_seeds(1), at_once=False) for _ in threads]
        slower = [ours / theirs for ours, theirs in zip(alone, threads, strict=True)]
    return [
        at_least(
            f"{size.jobs} default jobs at once against one after the other",
            median(gains),
            SHARE_OF_A_CORE * min(cores, size.jobs),
        ),
        under("one default job alone, warm, against threads", median(slower), 1.1, " x"),
    ]


def gains_at_once(server: Server, size: Size, next_seeds: Callable[[int], range]) -> list[float]:
    """How often as fast jobs are at once as one after the other, in each round."""
    run_jobs(server, size, next_seeds(available_cores()), at_once=True)  # workers have imported
    gains = []
    for _ in range(size.rounds):
        apart = run_jobs(server, size, next_seeds(size.jobs), at_once=False)
        gains.append(apart / run_jobs(server, size, next_seeds(size.jobs), at_once=True))
    return gains


def on_a_cluster(folder: Path, size: Size) -> list[Target]:
    """Jobs at once against one after the other on a Ray cluster; nothing where there is no Ray."""
    if importlib.util.find_spec("ray") is None:
        return []
    next_seeds = fresh_seeds()
    folder.mkdir()
    with Server(folder) as server:
        gains = gains_at_once(server, size, next_seeds)
    bound = SHARE_OF_A_CORE_ON_A_CLUSTER * min(available_cores(), size.jobs)
    what = f"{size.jobs} default jobs at once on a local Ray cluster, one after the other there"
    return [at_least(what, median(gains), bound)]


async def job_in_a_thread(folder: Path, size: Size) -> list[float]:
    """Seconds of each of some jobs in this process."""
    found = []
    async with services.open_service(folder) as service:
        await services.train(service, job(size, 0))
        for seed in range(1, 2 * size.rounds + 1):
            began = time.perf_counter()
            await services.train(service, job(size, seed))
            found.append(time.perf_counter() - began)
    return found


def answers(folder: Path, size: Size) -> list[Target]:
    """What a server takes for an answer, idle and while every core trains, and what it holds."""
    folder.mkdir()
    predict = {"model_name": services.MODEL, **services.SERIES}
    seconds: dict[tuple[str, int], list[float]] = {
        (protocol, count): []
        for protocol in ("HTTP", "MCP stdio")
        for count in (0, available_cores())
    }
    with Server(folder) as server:
        idle_task = completed(server)
        save = {"task_id": idle_task, "model_name": services.MODEL, "description": ""}
        server.tool("save_trained_model", save)
        for _ in range(size.rounds):
            for count in (0, available_cores()):
                measure_beside(server, count, idle_task, size.calls // size.rounds, seconds)
        warm = times_of(lambda: server.tool("test_model_prediction", predict), size.calls)
        tasks = [started(server, FOREVER | {"seed": n}) for n in range(available_cores())]
        until_it_trains(server, tasks)
        busy = times_of(lambda: server.tool("test_model_prediction", predict), size.calls)
        workers = workers_of(server)
        for task_id in tasks:
            server.tool("cancel_training", {"task_id": task_id})
        for task_id in tasks:
            server.tool("get_training_status", {"task_id": task_id, "wait_s": services.WAIT_S})
        held = resident_mib(owner_of(folder))
    training = [each["memory_bytes"] / MEBIBYTE for each in workers if each["task"] is not None]
    p99 = {count: Latencies.of(seconds["MCP stdio", count]).p99 for count in (0, available_cores())}
    ratio = p99[available_cores()] / p99[0]
    return [
        under("status p99 over stdio, every core training, against idle", ratio, 1.5, " x"),
        under("prediction over stdio, warm, p50", warm.p50, 5.0, " ms"),
        under("prediction over stdio, every core training, p50", busy.p50, 15.0, " ms"),
        under("server, after all this, resident", held, 160.0, " MiB"),
        under("a worker that trains, resident, most", max(training), 330.0, " MiB"),
    ]


def workers_of(server: Server) -> list[dict[str, Any]]:
    """What `ktrdr-mcp lab status` shows of the processes that compute."""
    workers: list[dict[str, Any]] = server.get("/lab/workers", prefix="")["workers"]
    return workers


def times_of(call: Callable[[], object], calls: int) -> Latencies:
    """Percentiles of a call, a few of which come before."""
    for _ in range(3):
        call()
    found = []
    for _ in range(calls):
        time.sleep(random.uniform(0, MOST_PAUSE_S))
        found.append(seconds_of(call))
    return Latencies.of(found)


def from_nothing(folder: Path, size: Size) -> list[Target]:
    """From the start of a client's process to its first answer, with no server running."""
    questions = dict(FIRST_QUESTIONS)
    questions["get_training_status"] = {"task_id": newest_task(folder)}
    first: dict[str, list[float]] = {tool: [] for tool in questions}
    started_s: list[float] = []
    predicted_s: list[float] = []
    beside_sdk: list[float] = []
    empty = folder.with_name("empty")
    predict = {"model_name": services.MODEL, **services.SERIES}
    for number in range(size.starts):
        for tool, arguments in questions.items():
            first[tool].append(first_answer(folder, tool, arguments))
        again = {**services.SERIES, "config": {"epochs": 1, "seed": number}}
        started_s.append(first_answer(empty, "start_training", again))
        predicted_s.append(first_answer(folder, "test_model_prediction", predict))
        beside_sdk.append(initialize_against_sdk(folder))
    stop(folder)
    stop(empty)
    slowest = max(median(each) for each in first.values())
    return [
        under("start_training acknowledged, nothing running", median(started_s), 2.0, " s"),
        under("first prediction, nothing running", median(predicted_s), 4.0, " s"),
        under("first tool answer, nothing running (list, status, data)", slowest, 1.5, " s"),
        under("initialize, server running, against the SDK alone", median(beside_sdk), 1.15, " x"),
    ]


def first_answer(folder: Path, tool: str, arguments: dict[str, Any]) -> float:
    """Seconds from the start of a client's process to the answer, the server's start included."""
    folder.mkdir(exist_ok=True)
    stop(folder)
    with StdioServer(startup.stdio_proxy(folder)) as server:
        server.tool(tool, arguments)
        return time.perf_counter() - server.began


def initialize_against_sdk(folder: Path) -> float:
    """How often as long initialize takes as with an empty server of the SDK, in turn."""
    ours = startup.started(startup.stdio_proxy(folder), "list_training_tasks").initialized
    sdk = startup.started([sys.executable, "-c", startup.EMPTY_SERVER], "nothing").initialized
    return ours / sdk


def queued(folder: Path, size: Size) -> list[Target]:
    """How long a status and a page take while thousands of tasks wait."""
    folder.mkdir()
    with Server(folder) as server:
        task_id = started(server, FOREVER)
        until_it_trains(server, [task_id])
    fill_queue(folder, task_id, size.queued)
    with Server(folder) as server:
        wait_until_claimed(server)
        last = f"queued-{size.queued - 1}"
        if server.get(f"/training/{last}")["status"] != "pending":
            raise RuntimeError("the last task does not wait")
        status = times_of(lambda: server.get(f"/training/{last}"), size.calls)
        page = times_of(lambda: server.get("/training?limit=1000"), max(1, size.calls // 20))
    what = f"with {size.queued:,} tasks queued"
    return [
        under(f"status p99 over HTTP, {what}", status.p99, 20.0, " ms"),
        under(f"a page of 1,000 over HTTP, {what}, p50", page.p50, 500.0, " ms"),
    ]


def fill_queue(folder: Path, task_id: str, count: int) -> None:
    """Adds tasks that wait, all like one that was interrupted."""
    with closing(sqlite3.connect(Workspace(folder).database)) as connection:
        connection.row_factory = sqlite3.Row
        row = dict(
            connection.execute(
                "SELECT * FROM training_tasks WHERE task_id = ?", (task_id,)
            ).fetchone()
        )
        del row["seq"]
        row |= {"status": "pending", "attempt": 0, "generation": None, "started_at": None}
        spec = json.loads(row["spec"])
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        for number in range(count):
            name = f"queued-{number}"
            of_task = {"task_id": name, "spec": json.dumps({**spec, "task_id": name})}
            connection.execute(
                f"INSERT INTO training_tasks ({names}) VALUES ({places})",
                {**row, **of_task, "request_hash": name, "idempotency_key": None},
            )
        connection.commit()


def wait_until_claimed(server: Server) -> None:
    """Returns once every core has a task."""
    deadline = time.monotonic() + services.WAIT_S
    while time.monotonic() < deadline:
        workers = workers_of(server)
        if sum(each["task"] is not None for each in workers) >= available_cores():
            return
        time.sleep(QUEUE_WAIT_S)
    raise RuntimeError("no task of the queue has begun")


def newest_task(folder: Path) -> str:
    """The id of the newest task of a workspace."""
    with closing(sqlite3.connect(Workspace(folder).database)) as connection:
        found = connection.execute("SELECT task_id FROM training_tasks ORDER BY seq DESC LIMIT 1")
        return str(found.fetchone()[0])


def stop(folder: Path) -> None:
    """Ends the daemon of a workspace, if one runs."""
    anyio.run(stop_daemon, Workspace(folder))


def owner_of(folder: Path) -> int:
    """The process id of the daemon of a workspace."""
    owner = address.read(Workspace(folder))
    if owner is None:
        raise RuntimeError("no daemon runs")
    return owner.pid


def resident_mib(pid: int) -> float:
    """The memory that a process holds; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0.0
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE
