"""What a client of MCP would meet: the server, started and spoken to as a host does it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ktrdr_mcp.cli.init import MOST_CONFIGURATION_BYTES, SERVER
from ktrdr_mcp.daemon.process import IDLE_VARIABLE
from ktrdr_mcp.errors import quote
from ktrdr_mcp.service.diagnosis import Finding

if TYPE_CHECKING:
    from ktrdr_mcp.paths import Workspace

PROTOCOL: Final = "2025-11-25"
ANSWER_LIMIT_S: Final = 60.0
END_LIMIT_S: Final = 10.0
IDLE_S: Final = 2  # for how long a service that this look started goes on
# What hosts pass on; a desktop program's PATH is as short as this.
INHERITED: Final = (
    "HOME",
    "LOGNAME",
    "SHELL",
    "TERM",
    "USER",
    "LANG",
    "SYSTEMROOT",
    "APPDATA",
    "XDG_DATA_HOME",
)
DESKTOP_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
AT_ONCE: Final = "Run it by hand to see why: ktrdr-mcp --workspace {} < /dev/null"


class Broken(Exception):
    """The server did not do what a host expects."""


class Host:
    """A server in a process of its own, and its streams.

    Args:
        workspace: the folder that it serves.
    """

    def __init__(self, workspace: Workspace) -> None:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {name: os.environ[name] for name in os.environ if name.startswith("KTRDR_")}
        path = DESKTOP_PATH if os.name == "posix" else os.environ.get("PATH", "")
        self.process = subprocess.Popen(  # noqa: S603 - nothing in it comes from a caller
            [sys.executable, "-P", "-m", "ktrdr_mcp", "--workspace", str(workspace.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, "PATH": path, IDLE_VARIABLE: str(IDLE_S)},
            cwd=Path.home() if Path.home().is_dir() else None,
        )
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.errors: list[str] = []
        self.number = 0
        for read in (self.read_output, self.read_errors):
            threading.Thread(target=read, daemon=True).start()

    def read_output(self) -> None:
        """Takes the lines of standard output as they come."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def read_errors(self) -> None:
        """Keeps the lines of the error stream."""
        assert self.process.stderr is not None  # noqa: S101 - it is a pipe
        for line in self.process.stderr:
            self.errors.append(line.decode(errors="replace").strip())

    def send(self, message: dict[str, Any]) -> None:
        """Writes one message. Raises Broken."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise Broken("It ended at once") from None

    def ask(self, method: str, **parameters: Any) -> Any:
        """Sends a request and returns its result. Raises Broken."""
        self.number += 1
        self.send({"id": self.number, "method": method, "params": parameters})
        until = time.monotonic() + ANSWER_LIMIT_S
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise Broken(f"{method} got no answer within {ANSWER_LIMIT_S:.0f} s") from None
            if line is None:
                raise Broken(f"It ended before it answered {method}")
            message = as_message(line)
            if message.get("id") != self.number:
                continue
            if "error" in message:
                raise Broken(f"{method} was refused: {quote(message['error'])}")
            return message["result"]

    def close(self) -> float:
        """Leaves as a host does; the seconds until the process has ended. Raises Broken."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        begun = time.monotonic()
        self.process.stdin.close()
        try:
            code = self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Broken(f"It runs on {END_LIMIT_S:.0f} s after its input was closed") from None
        if code:
            raise Broken(f"It ended with exit code {code}")
        return time.monotonic() - begun

    def end(self) -> None:
        """Ends the process, however things went."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


def as_message(line: bytes) -> dict[str, Any]:
    """A line of the protocol. Raises Broken if it is anything else."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        text = quote(line.decode(errors="replace").strip(), 80)
        raise Broken(f"Its standard output has a line that is no message: {text}")
    return message


def examine(workspace: Workspace) -> Iterator[Finding]:
    """Starts the server as a host would, speaks to it, and tells what works.

    What stands in .mcp.json is looked at and not run: it may be anybody's.

    Args:
        workspace: the folder to serve.
    """
    yield from read_configured(workspace.root / ".mcp.json")
    host = Host(workspace)
    stage = "handshake"
    try:
        for stage, look in (
            ("handshake", shake_hands),
            ("tools", list_tools),
            ("service", reach_service),
            ("exit", leave),
        ):
            yield Finding(stage, "ok", look(host))
    except Broken as broken:
        last = f" Its last words: {quote(host.errors[-1], 300)}" if host.errors else ""
        remedy = AT_ONCE.format(workspace.root)
        yield Finding(stage, "wrong", f"{broken}.{last}", remedy)
    finally:
        host.end()


def read_configured(path: Path) -> Iterator[Finding]:
    """What a client finds in the workspace's .mcp.json."""
    if not path.exists():
        hint = "Make one with: ktrdr-mcp init"
        yield Finding("config", "note", "the workspace has no .mcp.json", hint)
        return
    try:
        document = json.loads(path.read_bytes()[:MOST_CONFIGURATION_BYTES])
        entry = document["mcpServers"][SERVER]
        command, where = entry.get("command"), entry.get("url")
    except (ValueError, LookupError, TypeError, AttributeError):
        remedy = "Compare it with what `ktrdr-mcp init` makes in an empty folder."
        yield Finding("config", "wrong", f".mcp.json has no server {SERVER!r}", remedy)
        return
    if isinstance(where, str):
        yield Finding("config", "ok", f".mcp.json names {quote(where)}")
    elif not isinstance(command, str):
        remedy = "Give it a command, with an absolute path."
        yield Finding("config", "wrong", ".mcp.json has an entry without a command", remedy)
    elif shutil.which(command, path=f"{path.parent}{os.pathsep}{os.environ['PATH']}") is None and (
        not (path.parent / command).is_file()
    ):
        remedy = "Give the absolute path of ktrdr-mcp, or run `ktrdr-mcp init` elsewhere and copy."
        yield Finding("config", "wrong", f"there is no program {quote(command)}", remedy)
    else:
        yield Finding("config", "ok", f".mcp.json starts {quote(command)}")


def shake_hands(host: Host) -> str:
    """The first exchange of every client."""
    begun = time.monotonic()
    told = host.ask(
        "initialize",
        protocolVersion=PROTOCOL,
        capabilities={},
        clientInfo={"name": "ktrdr-mcp doctor", "version": "1"},
    )
    took_s = time.monotonic() - begun
    host.send({"method": "notifications/initialized"})
    server = told["serverInfo"]
    name = quote(f"{server['name']} {server['version']}")
    return f"{name} answered in {took_s:.1f} s, protocol {quote(told['protocolVersion'])}"


def list_tools(host: Host) -> str:
    """How many tools a model is shown, and how large they are."""
    tools = host.ask("tools/list")["tools"]
    size_bytes = len(json.dumps(tools, separators=(",", ":")))
    return f"{len(tools)} tools in {size_bytes:,} bytes"


def reach_service(host: Host) -> str:
    """A call that needs the process that does the work. Raises Broken."""
    begun = time.monotonic()
    result = host.ask("tools/call", name="get_market_data_summary", arguments={})
    content = result["structuredContent"]
    if result.get("isError"):
        error = content["error"]
        raise Broken(f"get_market_data_summary was refused: {quote(error['message'], 300)}")
    took_s = time.monotonic() - begun
    return f"{len(content['series'])} series of bars, answered in {took_s:.1f} s"


def leave(host: Host) -> str:
    """The end, as a client brings it about."""
    return f"ended {host.close():.1f} s after its input was closed"
