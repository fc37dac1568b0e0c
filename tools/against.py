"""`python tools/against.py OTHER` compares the speed of this checkout with that of another one.

Both serve at once, each from its own `.venv`, on a fresh workspace, and get the same requests in
turn, so that whatever else the machine does slows both. What counts is the ratio: the median over
the rounds of this checkout's time by that of the other. Above 1, this one is slower.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

START_LIMIT_S: Final = 120
REPLY_LIMIT_S: Final = 120
SERIES: Final = {"symbol": "AAPL", "timeframe": "1h"}
PREFIX: Final = "/api/v1"


class Server:
    """`ktrdr-mcp serve` of one checkout.

    Args:
        checkout: its folder, with `.venv`.
        folder: for its workspace and its user's folder; empty.
        executor: where it trains, "threads" or "processes"; "" for its default.
    """

    def __init__(self, checkout: Path, folder: Path, executor: str) -> None:
        workspace = folder / "workspace"
        workspace.mkdir()
        environment = os.environ | {
            "PYTHONPATH": str(checkout / "src"),
            "KTRDR_DATA_HOME": str(folder / "user"),
        }
        environment.pop("KTRDR_TOKEN", None)
        program = [str(checkout / ".venv/bin/python"), "-m", "ktrdr_mcp"]
        options = ["--workspace", str(workspace), "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*program, *options, *(["--executor", executor] if executor else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        address = workspace / ".ktrdr" / "lab.json"
        limit = time.monotonic() + START_LIMIT_S
        while not address.exists():
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"the server of {checkout} does not start")
            time.sleep(0.02)
        said = json.loads(address.read_bytes())
        self.headers = {"Content-Type": "application/json"}
        if said.get("token"):
            self.headers["Authorization"] = f"Bearer {said['token']}"
        place = urlsplit(said["url"])
        self.connection = http.client.HTTPConnection(
            place.hostname or "", place.port, timeout=REPLY_LIMIT_S
        )

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The reply to one request."""
        content = None if body is None else json.dumps(body)
        self.connection.request(method, PREFIX + path, content, self.headers)
        reply: dict[str, Any] = json.loads(self.connection.getresponse().read())
        assert reply["success"], reply
        return reply

    def train(self, seed: int) -> str:
        """Starts the default training and waits for its end; the task's id."""
        started = self.call("POST", "/training/start", {**SERIES, "config": {"seed": seed}})
        task = str(started["task_id"])
        while (status := self.status(task))["status"] in {"pending", "training"}:
            pass
        assert status["status"] == "completed", status
        return task

    def status(self, task: str, wait_s: float = 50.0) -> dict[str, Any]:
        """A task's status."""
        return self.call("GET", f"/training/{task}?wait_s={wait_s}")

    def end(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.terminate()
        self.process.wait(START_LIMIT_S)


def measure(servers: dict[str, Server], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each kind of request, by server, from rounds in which they take turns."""
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def clock(kind: str, name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        seconds[kind][name].append(time.perf_counter() - began)
        return result

    for name, server in servers.items():  # imports, caches and the first worker are not measured
        task = server.train(seed=0)
        server.call("POST", "/models/save", {"task_id": task, "model_name": "measured"})
        server.call("POST", "/models/predict", {"model_name": "measured", **SERIES})
        print(f"{name}: ready", file=sys.stderr, flush=True)
    for number in range(1, rounds + 1):
        order = list(servers.items())
        if number % 2:
            order.reverse()
        for name, server in order:
            task = clock("start and train", name, lambda s=server, n=number: s.train(n))
            for _ in range(10):
                clock("status", name, lambda s=server, t=task: s.status(t, 0.0))
                body = {"model_name": "measured", **SERIES}
                clock(
                    "predict", name, lambda s=server, b=body: s.call("POST", "/models/predict", b)
                )
    return seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="another checkout, with .venv")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--executor", default="", help="of this one")
    options = parser.parse_args()
    checkouts = {"this": Path(__file__).parents[1], "other": options.other.resolve()}
    with ExitStack() as stack:
        servers = {}
        for name, checkout in checkouts.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            executor = options.executor if name == "this" else ""
            servers[name] = Server(checkout, folder, executor)
            stack.callback(servers[name].end)
        seconds = measure(servers, options.rounds)
    print(f"{'':16} {'this':>10} {'other':>10} {'ratio':>7}")
    for kind, of in seconds.items():
        this, other = (statistics.median(of[name]) for name in ("this", "other"))
        ratio = statistics.median(a / b for a, b in zip(of["this"], of["other"], strict=True))
        print(f"{kind:16} {1000 * this:8.1f}ms {1000 * other:8.1f}ms {ratio:7.2f}")


if __name__ == "__main__":
    main()
