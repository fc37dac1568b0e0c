"""`python tools/measures.py [TREE] [--python PYTHON]` prints structural measures of a source tree.

Modules that a request executes: a fresh server over MCP stdio in one process, one call before it so
that the workspace is open. A module counts if one of its functions is entered, in any thread, from
the moment that `start_training` is sent until its reply has come (acknowledged), or until the reply
that says completed. Class bodies and imports do not count. What every one of the runs has counts.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = "ktrdr_mcp"
RUNS: Final = 3
POLL_S: Final = 0.01
LIMIT_S: Final = 120
START: Final = {
    "symbol": "AAPL",
    "timeframe": "1h",
    "task_id": "measured",
    "config": {"epochs": 3, "hidden_layers": [8]},
}
# Runs in the measured Python: notes when each module was first entered since the last SIGUSR1, and
# writes it down at SIGUSR2.
PROBE: Final = """
import json, os, pathlib, runpy, signal, sys, threading, time
note, package = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)
first = {}
roots = {}
def entered(frame, event, argument):
    if event == "call":
        code = frame.f_code
        if code.co_flags & 1 and code.co_filename.startswith(package):
            if code.co_filename not in first:
                first[code.co_filename] = time.monotonic()
def write(text):
    part = note.with_suffix(".part")
    part.write_text(text)
    part.replace(note)
def begin(*_):
    first.clear()
    write("begun")
def end(*_):
    write(json.dumps(first))
signal.signal(signal.SIGUSR1, begin)
signal.signal(signal.SIGUSR2, end)
threading.setprofile(entered)
sys.setprofile(entered)
runpy.run_module("ktrdr_mcp", run_name="__main__", alter_sys=True)
"""


# ---- what stands in the files


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.Module, name: str, is_package: bool, known: set[str]) -> Iterator[str]:
    """The package's own modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            yield from (each if each in known else base for each in inner)


def lengths_of_functions(tree: ast.Module) -> Iterator[int]:
    """Lines of each function, from its first decorator or def to its end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield (node.end_lineno or first) - first + 1


def spread(values: list[int]) -> str:
    """Median, 90th percentile and the largest."""
    ninth = statistics.quantiles(values, n=10, method="inclusive")[8]
    return f"median {statistics.median(values):g}, p90 {ninth:g}, max {max(values)}"


def measures_of_files(package: Path) -> dict[str, Any]:
    """What can be read without running anything."""
    modules = modules_of(package)
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    users: dict[str, set[str]] = {name: set() for name in modules}
    for name, tree in trees.items():
        is_package = modules[name].name == "__init__.py"
        for used in imported(tree, name, is_package, set(modules)):
            if used in users and used != name:
                users[used].add(name)
    plain = [name for name, path in modules.items() if path.name != "__init__.py"]
    dust = [
        name
        for name in plain
        if len(users[name]) == 1 and modules[next(iter(users[name]))].parent == modules[name].parent
    ]
    lines = [len(text.splitlines()) for text in texts.values()]
    functions = [length for tree in trees.values() for length in lengths_of_functions(tree)]
    return {
        "source files": len(modules),
        "of them __init__.py": len(modules) - len(plain),
        "source lines": sum(lines),
        "dict[str, Any]": sum(text.count("dict[str, Any]") for text in texts.values()),
        "files with one user, in the same folder": len(dust),
        "functions": len(functions),
        "lines of a file": spread(lines),
        "lines of a function": spread(functions),
    }


# ---- what one training executes


class Server:
    """A measured server over MCP stdio, in one process."""

    def __init__(self, python: str, package: Path, folder: Path) -> None:
        self.note = folder / "note.json"
        workspace = folder / "workspace"
        workspace.mkdir()
        options = ["--workspace", str(workspace), "--in-process"]
        self.process = subprocess.Popen(
            [python, "-c", PROBE, str(self.note), f"{package}{os.sep}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(package.parent)},
        )
        self.number = 0
        self.ask(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "measures", "version": "1"},
        )
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message: dict[str, Any]) -> None:
        """Writes one message."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one request."""
        assert self.process.stdout is not None
        self.number += 1
        self.send({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        while line := self.process.stdout.readline():
            message = json.loads(line)
            if message.get("id") == self.number:
                return message["result"]
        raise RuntimeError("the server ended")

    def tool(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A tool's reply."""
        reply = self.ask("tools/call", name=name, arguments=arguments)["structuredContent"]
        assert reply["success"], reply
        return reply

    def signal(self, number: signal.Signals) -> str:
        """What the probe notes when it gets a signal."""
        self.note.unlink(missing_ok=True)
        self.process.send_signal(number)
        deadline = time.monotonic() + LIMIT_S
        while not self.note.exists():
            assert time.monotonic() < deadline, "the probe does not answer"
            time.sleep(POLL_S)
        return self.note.read_text(encoding="utf-8")


def one_run(python: str, package: Path) -> tuple[set[str], set[str]]:
    """The modules of one training: until it was acknowledged, until it was completed."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(python, package, Path(folder))
        try:
            server.tool("list_training_tasks")
            server.signal(signal.SIGUSR1)
            server.tool("start_training", **START)
            acknowledged = time.monotonic()
            status = server.tool("get_training_status", task_id="measured", wait_s=50)
            assert status["status"] == "completed", status
            completed = time.monotonic()
            entered = json.loads(server.signal(signal.SIGUSR2))
        finally:
            server.process.kill()
            server.process.wait()
    return (
        {name for name, moment in entered.items() if moment <= acknowledged},
        {name for name, moment in entered.items() if moment <= completed},
    )


def measures_of_runs(python: str, package: Path) -> dict[str, Any]:
    """The modules that one training executes in every run."""
    runs = [one_run(python, package) for _ in range(RUNS)]
    early, late = (set.intersection(*sets) for sets in zip(*runs, strict=True))
    folders = Counter(Path(name).relative_to(package).parts[0] for name in late)
    return {
        "modules until acknowledged": len(early),
        "modules until completed": len(late),
        "of these by folder": ", ".join(f"{name} {count}" for name, count in folders.most_common()),
        "in some run only": f"{len(set.union(*(run[0] for run in runs))) - len(early)} and "
        f"{len(set.union(*(run[1] for run in runs))) - len(late)}",
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--python", help="of the tree; its .venv, if left out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tree = options.tree.resolve()
    package = tree / "src" / PACKAGE
    own = tree / ".venv" / "bin" / "python"
    python = options.python or (str(own) if own.exists() else sys.executable)
    found = measures_of_files(package) | measures_of_runs(python, package)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
