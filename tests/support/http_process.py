"""`ktrdr-mcp serve` as a process."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_S = 60
EXIT_S = 60


class ServeProcess:
    """Starts the server on a free port, waits for its address, ends it."""

    def __init__(self, workspace: Path, *options: str) -> None:
        self.workspace = workspace
        self.errors = ""
        self._log = (workspace / "serve.log").open("w+b")
        program = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace)]
        self.process = subprocess.Popen(
            [*program, "serve", "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.address = self._wait_for_address()

    @property
    def url(self) -> str:
        return str(self.address["url"])

    def _wait_for_address(self) -> dict[str, Any]:
        """The content of lab.json, once this process has written it."""
        path = self.workspace / ".ktrdr" / "lab.json"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if path.exists():
                document = json.loads(path.read_bytes())
                if document["pid"] == self.process.pid:
                    return dict(document)
            select.select([], [], [], 0.05)
        raise AssertionError(f"the server did not start: {self.log()}")

    def log(self) -> str:
        return (self.workspace / "serve.log").read_text(encoding="utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code; fails if that takes too long."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        try:
            return self.process.wait(EXIT_S)
        finally:
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(EXIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
