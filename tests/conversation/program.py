"""The program as a process: its command line, its owner of a workspace, and their ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDS_S = 60.0
POLL_S = 0.02
IDLE_S = "30"  # should all else fail, a process in the background ends by itself


@dataclass(frozen=True)
class Program:
    """One version of the program: the Python that has it installed."""

    python: str = sys.executable

    def command(self, workspace: Path, *line: str) -> list[str]:
        """A command line."""
        return [self.python, "-m", "ktrdr_mcp", "--workspace", str(workspace), *line]

    def run(
        self, workspace: Path, *line: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command line to its end."""
        return subprocess.run(
            self.command(workspace, *line),
            capture_output=True,
            text=True,
            timeout=ENDS_S,
            check=False,
            cwd=workspace,
            env=environment(**variables),
        )

    def json(self, workspace: Path, *line: str) -> dict[str, Any]:
        """What a command line says as JSON."""
        ended = self.run(workspace, *line, "--json")
        assert ended.stdout, ended.stderr
        return json.loads(ended.stdout)


def environment(**variables: str) -> dict[str, str]:
    """The environment of every process that a test starts."""
    own = ("KTRDR_DATA_HOME", "KTRDR_TRIAL_RECORD")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in own or not name.startswith("KTRDR_")
    }
    own_record = {"KTRDR_TRIAL_RECORD": ".ktrdr/trials.db"}  # of each workspace
    return {**own_record, **kept, "KTRDR_LAB_IDLE_S": IDLE_S, "COLUMNS": "100", **variables}


def wait_until(reached: Callable[[], Any], limit_s: float = ENDS_S) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + limit_s
    while not (value := reached()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(POLL_S)
    return value


def address(workspace: Path) -> dict[str, Any] | None:
    """What the owner of a workspace says of itself; None if nobody does."""
    try:
        return json.loads((workspace / ".ktrdr" / "lab.json").read_bytes())
    except (OSError, ValueError):
        return None


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its starter does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return True
    try:
        return stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill_owner(workspace: Path) -> None:
    """Kills the process that owns a workspace, and waits until it is gone."""
    if owner := address(workspace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner["pid"], getattr(signal, "SIGKILL", signal.SIGTERM))
        wait_until(lambda: not is_alive(owner["pid"]))


@contextmanager
def owned_for_a_while(workspace: Path) -> Iterator[None]:
    """Whatever owns the workspace in the end is killed."""
    try:
        yield
    finally:
        kill_owner(workspace)


@contextmanager
def serving(program: Program, workspace: Path, *options: str) -> Iterator[dict[str, Any]]:
    """`serve` on a free port; gives its address."""
    with (workspace.parent / f"{workspace.name}.serve.log").open("w+b") as log:
        process = subprocess.Popen(
            program.command(workspace, "serve", "--port", "0", *options),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=workspace,
            env=environment(),
        )

        def started() -> dict[str, Any] | None:
            assert process.poll() is None, Path(log.name).read_text(encoding="utf-8")
            owner = address(workspace)
            return owner if owner and owner["pid"] == process.pid else None

        try:
            yield wait_until(started)
        finally:
            process.terminate()
            try:
                process.wait(ENDS_S)
            finally:
                process.kill()


@dataclass(frozen=True)
class Answer:
    """What an HTTP server answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    owner: dict[str, Any],
    method: str,
    path: str,
    headers: dict[str, str | None] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One HTTP request to the owner of a workspace.

    Args:
        owner: its address.
        method: of the request.
        path: with the query.
        headers: more of them, or others than usual; None leaves one out.
        body: JSON unless the headers say something else.
    """
    host = owner["url"].removeprefix("http://")
    usual: dict[str, str | None] = {"Host": host}
    if owner["token"]:
        usual["Authorization"] = f"Bearer {owner['token']}"
    if body is not None:
        usual |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    connection = http.client.HTTPConnection(host, timeout=ENDS_S)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in (usual | (headers or {})).items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read())
    finally:
        connection.close()
