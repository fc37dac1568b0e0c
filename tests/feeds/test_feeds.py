"""The real client libraries against a local server that speaks each API, with its faults.

`make test-feeds` installs the extras; without one, its tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ktrdr_mcp import files
from ktrdr_mcp.data import fetching, stored, versions
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import Conflict, DataNotFound, NotEnoughData
from ktrdr_mcp.paths import Workspace

PATIENCE_S = 60
SINCE_NS = 1_704_067_200 * 10**9
HOUR_NS = 3_600 * 10**9


@dataclass(frozen=True)
class Source:
    """One feed, as it is asked here."""

    name: str
    client: str
    symbol: str
    pages: bool = True  # whether a series of 350 bars takes several questions
    timeframe: str = "1h"


SOURCES = [
    pytest.param(
        one,
        id=one.name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(one.client) is None,
            reason=f"{one.client} is not installed: make test-feeds",
        ),
    )
    for one in (
        Source("ccxt:binance", "ccxt", "BTC/USDT"),
        Source("alpaca", "alpaca", "ACME"),
        Source("yfinance", "yfinance", "ACME", pages=False, timeframe="1d"),
    )
]
each_source = pytest.mark.parametrize("source", SOURCES)


class Server:
    """The local server, and what it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.tell(bars=350)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.feeds.feed_server", str(folder)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def tell(self, **said: Any) -> None:
        files.replace(self.folder / "told.json", json.dumps(said).encode())
        (self.folder / "asked").unlink(missing_ok=True)

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    monkeypatch.setenv("KTRDR_FEED_BASE_URL", made.url)
    monkeypatch.setenv("APCA_API_KEY_ID", "key-for-tests")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "secret-for-tests")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield made
    made.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    files.make_private_folder(made.internal)
    return made


def begun(workspace: Workspace, source: Source, **more: Any) -> dict[str, Any]:
    """The request of a fetch."""
    folder = workspace.internal / "fetch"
    return {
        "workspace": str(workspace.root),
        "folder": str(folder),
        "source": source.name,
        "symbol": source.symbol,
        "timeframe": source.timeframe,
        "since_ns": SINCE_NS,
        "dry_run": False,
        **more,
    }


def child(request: dict[str, Any]) -> subprocess.Popen[str]:
    """The process of a fetch, which has its request."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", fetching.__name__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(f"{json.dumps(request)}\n")
    process.stdin.flush()
    return process


def fetched(workspace: Workspace, source: Source) -> dict[str, Any]:
    """What a fetch says at its end, once it is stored."""
    process = child(begun(workspace, source))
    assert process.stdin is not None
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    process.stdin.close()
    process.stdout.close()
    process.wait()
    if "staged" in answer:
        facts = versions.Manifest(
            source.symbol, source.timeframe, source.name,
            {"since": "2024-01-01T00:00:00Z", "since_ns": answer["since_ns"]},
            answer["client"], versions.now(), answer["adjustment"], answer["zone"],
        )  # fmt: skip
        manifest, _ = versions.commit(
            workspace, versions.Staged(**answer["staged"]), facts, answer["why"]
        )
        answer["version"] = manifest.newest.name
    shutil.rmtree(workspace.internal / "fetch")
    return answer


def times(workspace: Workspace, source: Source) -> list[int]:
    path = workspace.data_file(source.symbol, source.timeframe, ".parquet")
    with path.open("rb") as file:
        return [int(one) for one in stored.read_bars(file, path.name).time]


def openings(source: Source, count: int) -> list[int]:
    """When so many bars open: hours, or midnights in New York."""
    if source.timeframe == "1h":
        return [SINCE_NS + number * HOUR_NS for number in range(count)]
    new_york = ZoneInfo("America/New_York")
    days = [datetime(2024, 1, 1, tzinfo=new_york) + timedelta(days=n) for n in range(count)]
    return [int(day.timestamp()) * 10**9 for day in days]


@each_source
def test_a_series_is_fetched_whole_whatever_the_server_does_meanwhile(
    source: Source, server: Server, workspace: Workspace
) -> None:
    server.tell(bars=350, faults={"1": "429", "2": "html", "3": "cut", "5": "429 bare"})
    answer = fetched(workspace, source)
    assert answer.get("bars") == 350, answer
    assert times(workspace, source) == openings(source, 350)
    assert answer["client"].split()[0] in {"ccxt", "alpaca-py", "yfinance"}


@each_source
def test_a_fetch_that_is_killed_loses_nothing_and_brings_nothing_twice(
    source: Source, server: Server, workspace: Workspace
) -> None:
    server.tell(bars=350, faults={"3" if source.pages else "1": "hang"})
    process = child(begun(workspace, source))
    end = time.monotonic() + PATIENCE_S
    while not (server.folder / "hanging").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    before = server.asked
    answer = fetched(workspace, source)
    assert answer.get("bars") == 350, answer
    assert times(workspace, source) == openings(source, 350)
    if source.name.startswith("ccxt"):  # the pages that were kept are not asked for again
        assert not set(server.asked[len(before) :]) & set(before[:-1])


@each_source
def test_an_update_appends_and_a_split_is_a_new_version(
    source: Source, server: Server, workspace: Workspace
) -> None:
    assert fetched(workspace, source)["version"] == "v1"
    server.tell(bars=360)
    update = fetched(workspace, source)
    assert (update["new"], update["version"]) == (10, "v2")
    server.tell(bars=370, factor=0.25, until=360)
    split = fetched(workspace, source)
    assert (split["bars"], split["version"]) == (370, "v3")
    assert "times 0.25" in split["why"]
    assert times(workspace, source) == openings(source, 370)


@each_source
def test_a_revised_price_is_refused(source: Source, server: Server, workspace: Workspace) -> None:
    fetched(workspace, source)
    server.tell(bars=355, revised=340)
    answer = fetched(workspace, source)
    assert answer["error"]["code"] == Conflict.code
    revised = format_timestamp(openings(source, 341)[-1])
    assert revised in answer["error"]["message"]
    assert times(workspace, source) == openings(source, 350)


@each_source
def test_a_symbol_that_is_not_there_is_said_to_be_none(
    source: Source, server: Server, workspace: Workspace
) -> None:
    absent = replace(source, symbol="NO/SUCH" if "/" in source.symbol else "NOSUCH")
    answer = fetched(workspace, absent)
    assert answer["error"]["code"] in {DataNotFound.code, NotEnoughData.code}


@each_source
def test_keys_are_never_written(source: Source, server: Server, workspace: Workspace) -> None:
    fetched(workspace, source)
    for path in workspace.root.rglob("*"):
        if path.is_file():
            assert b"for-tests" not in path.read_bytes()
