"""The server on stdio as a process: a pure stream, a prompt answer, a clean exit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import pytest

from tests.support.background_servers import daemon_pid
from tests.support.process_footprint import is_alive
from tests.support.stdio_process import RawServer

pytestmark = pytest.mark.asyncio

MODULES_AT_THE_END = """
import json, os, sys
really_exit = os._exit
def told(code):
    print(json.dumps(sorted(sys.modules)), file=sys.stderr, flush=True)
    really_exit(code)
os._exit = told
from ktrdr_mcp.cli import main
main()
"""
HEAVY = {"torch", "pandas", "numpy", "sklearn", "talib", "aiosqlite"}


async def test_a_client_that_leaves_does_not_stop_a_training(tmp_path) -> None:
    server = await RawServer.start(tmp_path)
    task_ids = [await server.start_training(seed=seed) for seed in (1, 2)]
    for task_id in task_ids:
        seen = await server.until_it_trains(task_id)
    pid = daemon_pid(tmp_path)
    waiting = {"task_id": task_id, "wait_s": 50.0}
    await server.ask("tools/call", name="get_training_status", arguments=waiting)
    left = time.monotonic()
    server.process.stdin.close()
    code, rest, errors = await server.end()
    assert (code, errors.count(b"Traceback")) == (0, 0), errors
    assert time.monotonic() - left < 10  # the call would have waited for 50 s
    for line in [*server.lines, *rest.splitlines()]:
        assert json.loads(line)["jsonrpc"] == "2.0"
    again = await RawServer.start(tmp_path)
    assert daemon_pid(tmp_path) == pid
    statuses = [await again.tool("get_training_status", task_id=task) for task in task_ids]
    assert {status["status"] for status in statuses} == {"training"}
    assert statuses[-1]["current_epoch"] >= seen
    await again.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
async def test_a_signal_to_the_proxy_leaves_the_server(tmp_path) -> None:
    server = await RawServer.start(tmp_path)
    await server.until_it_trains(await server.start_training())
    server.process.send_signal(signal.SIGTERM)
    code, _, errors = await server.end()
    assert (code, errors.count(b"Traceback")) == (0, 0), errors
    assert is_alive(daemon_pid(tmp_path))


async def test_clients_of_a_workspace_share_its_server(tmp_path) -> None:
    servers = await asyncio.gather(*(RawServer.start(tmp_path) for _ in range(4)))
    first, second, third, fourth = servers
    await asyncio.gather(*(server.tool("list_training_tasks") for server in servers))
    task_id = await first.start_training()
    await second.until_it_trains(task_id)
    other_id = await second.start_training(seed=2)
    for server in servers:
        tasks = (await server.tool("list_training_tasks"))["tasks"]
        assert {task["task_id"] for task in tasks} == {task_id, other_id}
    await second.tool("cancel_training", task_id=task_id)
    waited = await first.tool("get_training_status", task_id=task_id, wait_s=50.0)
    assert waited["status"] == "cancelled"
    await second.close()
    await first.until_it_trains(other_id)  # the one that asked for it is gone
    for server in (first, third, fourth):
        await server.close()
    log = (tmp_path / ".ktrdr" / "lab.log").read_text(encoding="utf-8")
    assert log.count("The service runs") == 1


async def test_a_proxy_imports_nothing_that_computes(tmp_path) -> None:
    program = tmp_path / "proxy.py"
    program.write_text(MODULES_AT_THE_END, encoding="utf-8")
    server = await RawServer.start(tmp_path, program=(str(program),))
    assert await server.tool("list_training_tasks")
    errors = await server.close()
    modules = json.loads(errors.splitlines()[-1])
    assert "ktrdr_mcp.api.client" in modules
    assert HEAVY.isdisjoint(modules)
    layers = (
        "jobs",
        "training",
        "evaluation",
        "nn",
        "interop",
        "store",
        "features",
        "labels",
        "data",
        "strategy",
    )
    assert [
        name
        for name in modules
        if name.split(".")[1:2] and name.startswith("ktrdr_mcp.") and name.split(".")[1] in layers
    ] == []


async def test_in_one_process_the_exit_is_clean_in_mid_training(tmp_path) -> None:
    for leave in ("close", "signal"):
        server = await RawServer.start(tmp_path, "--in-process")
        task_id = await server.start_training(seed=len(leave))
        await server.until_it_trains(task_id)
        assert daemon_pid(tmp_path) == server.process.pid
        if leave == "signal" and os.name != "nt":
            server.process.send_signal(signal.SIGTERM)
            code, _, errors = await server.end()
            assert (code, errors.count(b"Traceback")) == (0, 0), errors
        else:
            await server.close()
    again = await RawServer.start(tmp_path, "--in-process")
    tasks = (await again.tool("list_training_tasks"))["tasks"]
    assert [task["status"] in {"pending", "training"} for task in tasks] == [True, True]
    await again.close()
