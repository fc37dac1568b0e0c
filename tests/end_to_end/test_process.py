"""The server as a process: a pure protocol stream, a prompt answer, a clean exit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio

FOREVER = {"epochs": 100_000, "early_stopping": None}
EXIT_S = 10


class RawServer:
    """The server's bare streams, so that nothing can hide a stray byte."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[bytes] = []
        self._next = 0

    @classmethod
    async def start(cls, workspace: Path) -> RawServer:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ktrdr_mcp",
            "--workspace",
            str(workspace),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        server = cls(process)
        await server.request(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )
        await server.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return server

    async def send(self, message: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        self._next += 1
        number = self._next
        await self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            line = await asyncio.wait_for(self.process.stdout.readline(), 60)
            assert line, "the server ended"
            self.lines.append(line)
            message = json.loads(line)
            if message.get("id") == number:
                return message["result"]

    async def tool(self, name: str, **arguments: Any) -> dict[str, Any]:
        result = await self.request("tools/call", name=name, arguments=arguments)
        assert not result.get("isError"), result
        return result["structuredContent"]

    async def start_training(self, **config: Any) -> str:
        raw = {"symbol": "AAPL", "timeframe": "1h", "config": {**FOREVER, **config}}
        return (await self.tool("start_training", **raw))["task_id"]

    async def until_it_trains(self, task_id: str) -> None:
        """Returns once an epoch of the task has been reported."""
        for _ in range(600):
            status = await self.tool("get_training_status", task_id=task_id, wait_s=0.05)
            if status["current_epoch"] > 0:
                return
        raise AssertionError("the training did not begin")

    async def end(self) -> tuple[int, bytes, bytes]:
        out, err = await asyncio.wait_for(self.process.communicate(), EXIT_S + 5)
        return self.process.returncode, out, err


async def test_the_stream_is_json_rpc_only_and_the_exit_is_clean_in_mid_training(tmp_path) -> None:
    server = await RawServer.start(tmp_path)
    task_ids = [await server.start_training(seed=seed) for seed in (1, 2)]
    for task_id in task_ids:
        await server.until_it_trains(task_id)
    server.process.stdin.close()
    code, rest, errors = await server.end()
    assert code == 0
    assert b"Traceback" not in errors
    for line in [*server.lines, *rest.splitlines()]:
        assert json.loads(line)["jsonrpc"] == "2.0"
    again = await RawServer.start(tmp_path)
    statuses = [await again.tool("get_training_status", task_id=task) for task in task_ids]
    assert {status["status"] for status in statuses} <= {"pending", "training"}
    again.process.stdin.close()
    assert (await again.end())[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
async def test_a_termination_signal_ends_the_server_and_keeps_the_task(tmp_path) -> None:
    server = await RawServer.start(tmp_path)
    task_id = await server.start_training()
    await server.until_it_trains(task_id)
    server.process.send_signal(signal.SIGTERM)
    code, _, errors = await server.end()
    assert code == 0
    assert b"Traceback" not in errors
    again = await RawServer.start(tmp_path)
    status = await again.tool("get_training_status", task_id=task_id)
    assert status["status"] in {"pending", "training"}
    again.process.stdin.close()
    await again.end()


async def test_a_second_server_on_a_workspace_works_through_the_first(tmp_path) -> None:
    first = await RawServer.start(tmp_path)
    second = await RawServer.start(tmp_path)
    task_id = await first.start_training()
    await second.until_it_trains(task_id)
    other_id = await second.start_training(seed=2)
    for server in (first, second):
        tasks = (await server.tool("list_training_tasks"))["tasks"]
        assert {task["task_id"] for task in tasks} == {task_id, other_id}
    await second.tool("cancel_training", task_id=task_id)
    waited = await first.tool("get_training_status", task_id=task_id, wait_s=50.0)
    assert waited["status"] == "cancelled"
    second.process.stdin.close()
    assert (await second.end())[0] == 0
    await first.until_it_trains(other_id)  # the one that asked for it is gone
    third = await RawServer.start(tmp_path)
    first.process.stdin.close()
    code, _, errors = await first.end()
    assert code == 0
    assert b"Traceback" not in errors
    refused = await third.request("tools/call", name="list_training_tasks", arguments={})
    assert refused["structuredContent"]["error"]["code"] == "lab_unavailable"
    third.process.stdin.close()
    code, _, errors = await third.end()
    assert code == 0
    assert b"Traceback" not in errors
