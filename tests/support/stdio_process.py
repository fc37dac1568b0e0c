"""The server's bare streams, so that nothing can hide a stray byte."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, Self

from tests.support.background_servers import IDLE

FOREVER = {"epochs": 100_000, "early_stopping": None, "walk_forward": None}
EXIT_S = 60


class RawServer:
    """`ktrdr-mcp` on stdio, and a client that reads line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[bytes] = []
        self.initialized: dict[str, Any] = {}
        self._next = 0

    @classmethod
    async def start(
        cls, workspace: Path, *options: str, program: tuple[str, ...] = (), **environment: str
    ) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(program or ("-m", "ktrdr_mcp")),
            *("--workspace", str(workspace), *options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **IDLE, **environment},
        )
        server = cls(process)
        server.initialized = await server.request(
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

    async def ask(self, method: str, **params: Any) -> int:
        """Sends a request and does not wait for its answer."""
        self._next += 1
        message = {"jsonrpc": "2.0", "id": self._next, "method": method, "params": params}
        await self.send(message)
        return self._next

    async def answer(self, number: int) -> dict[str, Any]:
        while True:
            line = await asyncio.wait_for(self.process.stdout.readline(), 60)
            assert line, "the server ended"
            self.lines.append(line)
            message = json.loads(line)
            if message.get("id") == number:
                return message["result"]

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        return await self.answer(await self.ask(method, **params))

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A tool's structured content, whether or not it is an error."""
        result = await self.request("tools/call", name=name, arguments=arguments)
        return result["structuredContent"]

    async def tool(self, name: str, **arguments: Any) -> dict[str, Any]:
        content = await self.call(name, **arguments)
        assert content["success"], content
        return content

    async def start_training(self, **config: Any) -> str:
        raw = {"symbol": "AAPL", "timeframe": "1h", "config": {**FOREVER, **config}}
        return (await self.tool("start_training", **raw))["task_id"]

    async def until_it_trains(self, task_id: str) -> int:
        """The epoch, once one of the task has been reported."""
        for _ in range(2_400):
            status = await self.tool("get_training_status", task_id=task_id, wait_s=0.05)
            if status["current_epoch"] > 0:
                return status["current_epoch"]
        raise AssertionError("the training did not begin")

    async def end(self) -> tuple[int, bytes, bytes]:
        out, err = await asyncio.wait_for(self.process.communicate(), EXIT_S)
        return self.process.returncode, out, err

    async def close(self) -> bytes:
        """Leaves, as a client does; the exit must be clean. The error stream."""
        self.process.stdin.close()
        code, _, errors = await self.end()
        assert code == 0, errors
        assert b"Traceback" not in errors
        return errors
