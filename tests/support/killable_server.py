"""A client of the program over stdio, with the service in its process, to be killed at any time."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import programs
from tests.support.marked_program import NONE

EXIT_S = 60


class RealServer:
    """A server process with a client that speaks one call at a time.

    Args:
        workspace: its folder.
        greeted: whether to wait until it answers.
    """

    def __init__(self, workspace: Path, greeted: bool = True) -> None:
        line = ["--workspace", str(workspace), "--in-process"]
        self.process = subprocess.Popen(
            [*programs.command("marked_program"), NONE, *line],
            cwd=programs.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._calls = 0
        if greeted:
            client = {"name": "fault test", "version": "1"}
            self.request(
                "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client
            )
            self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """However the test ends, so does the process."""
        self.process.kill()
        self.process.communicate()

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self.process.stdout is not None
        self._calls += 1
        number = self._calls
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == number:
                return dict(message["result"])
        _, errors = self.process.communicate()
        raise AssertionError(f"the server ended with {self.process.returncode}: {errors[-2_000:]}")

    def tool(self, name: str, **arguments: Any) -> dict[str, Any]:
        """One call of a tool that must succeed."""
        result = self.request("tools/call", name=name, arguments=arguments)
        assert not result.get("isError"), result
        return dict(result["structuredContent"])

    def start(self, task_id: str, **config: Any) -> None:
        """Starts a training."""
        self.tool("start_training", task_id=task_id, symbol="AAPL", timeframe="1h", config=config)

    def until_epoch(self, task_id: str, epoch: int) -> int:
        """Asks until so many epochs are finished, and says how many were."""
        while True:
            status = self.tool("get_training_status", task_id=task_id, wait_s=0.01)
            if status["current_epoch"] >= epoch or status["status"] == "completed":
                return int(status["current_epoch"])

    def end_of(self, task_id: str) -> dict[str, Any]:
        """Waits for a task's end."""
        while True:
            status = self.tool("get_training_status", task_id=task_id, wait_s=50)
            if status["status"] not in ("pending", "training"):
                return status

    def until_mark(self, word: str) -> None:
        """Waits until the server says that it has come to some point."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.strip() == f"MARK {word}":
                return
        raise AssertionError(f"the server ended without {word}")

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.communicate()

    def wait(self) -> tuple[int, str]:
        """The exit status, which must come soon, and what is left on standard error."""
        _, errors = self.process.communicate(timeout=EXIT_S)
        return self.process.returncode, errors
