"""A server on standard input and output, without a client library: what is timed is the server."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

PROTOCOL = "2025-11-25"
EXIT_S = 20


class StdioServer:
    """A process that speaks MCP.

    Args:
        command: its command line.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._number = 0
        client = {"name": "benchmark", "version": "1"}
        self.request("initialize", protocolVersion=PROTOCOL, capabilities={}, clientInfo=client)
        self.initialized_s = time.perf_counter() - self.began
        self._send({"method": "notifications/initialized"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> tuple[float, float]:
        """Closes the stream: seconds until the process has ended, and its processor seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began = time.perf_counter()
        self._process.stdin.close()
        before = os.times()
        try:
            self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        after = os.times()
        self._process.stdout.close()
        cpu_s = after.children_user - before.children_user
        cpu_s += after.children_system - before.children_system
        return time.perf_counter() - began, cpu_s

    def tool(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A tool's structured answer. Raises RuntimeError if it refused."""
        result = self.request("tools/call", name=name, arguments=dict(arguments))
        content: dict[str, Any] = result["structuredContent"]
        if result.get("isError"):
            raise RuntimeError(f"{name} refused: {content}")
        return content

    def request(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One JSON-RPC call."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": parameters})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == self._number:
                result: dict[str, Any] = message["result"]
                return result
        raise RuntimeError("the server ended")

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()
