"""A command line of its own for each test, and one service for each file of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from click.testing import Result

from ktrdr_mcp import daemon
from ktrdr_mcp.paths import Workspace
from tests.support.command_line import QUICK, Shop, run_in

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command line on an empty workspace that nobody owns."""

    def call(*arguments: str, **environment: str) -> Result:
        return run_in(tmp_path / "workspace", *arguments, **environment)

    return call


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A service that is open for a file of tests; the command line works through it."""
    workspace = Workspace(tmp_path_factory.mktemp("shop"))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(daemon.connect(workspace, in_process=True)) as service,
    ):
        yield Shop(workspace, service, portal)


@pytest.fixture(scope="module")
def task_id(shop: Shop) -> str:
    """A completed training of the shop, trained by the command line."""
    return str(shop.reply("train", "AAPL", "1h", *QUICK)["task_id"])


@pytest.fixture(scope="module")
def model(shop: Shop, task_id: str) -> str:
    """A saved model of the shop."""
    shop.reply("models", "save", task_id, "first", "--description", "made [bold]by hand[/]")
    return "first"


BARS = """timestamp,open,high,low,close,volume
2024-01-01T00:00:00Z,1,2,1,2,5
2024-01-01T01:00:00Z,2,3,2,3,5
2024-01-01T02:00:00Z,3,4,3,4,0
"""


@pytest.fixture
def bars_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small file of bars."""

    def write(name: str = "TEST_1h.csv", text: str = BARS, folder: str = "elsewhere") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
