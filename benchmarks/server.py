"""A server in a process of its own, without a client library: what is timed is the server."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import anyio

from ktrdr_mcp.api.http.app import PREFIX
from ktrdr_mcp.daemon.connection import stop_daemon
from ktrdr_mcp.ownership import address
from ktrdr_mcp.paths import Workspace

PROTOCOL = "2025-11-25"
EXIT_S = 20
ANNOUNCED_WITHIN_S = 60


class Server:
    """`ktrdr-mcp` over standard input and output, and the service that it starts, over HTTP.

    Both have ended when the block ends.

    Args:
        folder: its workspace.
    """

    def __init__(self, folder: Path) -> None:
        self._workspace = Workspace(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._number = 0
        self._request(
            "initialize",
            protocolVersion=PROTOCOL,
            capabilities={},
            clientInfo={"name": "benchmark", "version": "1"},
        )
        self._send({"method": "notifications/initialized"})
        owner = announced(self._workspace)
        parts = urlsplit(owner.url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port)
        self._headers = {"Authorization": f"Bearer {owner.token}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        anyio.run(stop_daemon, self._workspace)

    def tool(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A tool's structured answer. Raises RuntimeError if it refused."""
        result = self._request("tools/call", name=name, arguments=dict(arguments))
        content: dict[str, Any] = result["structuredContent"]
        if result.get("isError"):
            raise RuntimeError(f"{name} refused: {content}")
        return content

    def get(self, path: str, prefix: str = PREFIX) -> dict[str, Any]:
        """The answer to GET, over one connection that stays open. Raises RuntimeError."""
        self._connection.request("GET", prefix + path, headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"GET {path}: {response.status} {body[:200]!r}")
        content: dict[str, Any] = json.loads(body)
        return content

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def _request(self, method: str, **parameters: Any) -> dict[str, Any]:
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


def announced(workspace: Workspace) -> address.DaemonAddress:
    """Where the server listens. Raises RuntimeError if it does not say so."""
    deadline = time.monotonic() + ANNOUNCED_WITHIN_S
    while time.monotonic() < deadline:
        if (owner := address.read(workspace)) is not None:
            return owner
        time.sleep(0.05)
    raise RuntimeError("the server announces no address")
