"""The command line in this process, and one laboratory that all tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from click.testing import CliRunner, Result

from ktrdr_mcp import app, cli
from ktrdr_mcp.contract import Lab, parse, requests
from ktrdr_mcp.paths import Workspace

QUICK = ("--epochs", "2", "--set", "hidden_layers=[8]", "--set", "walk_forward=null")
Run = Callable[..., Result]


def run_in(workspace: Path, *arguments: str, **environment: str) -> Result:
    """Runs one command line on a workspace; no laboratory is left in the background."""
    line = ["--workspace", str(workspace), "--in-process", *arguments]
    return CliRunner().invoke(cli.cli, line, prog_name="ktrdr-mcp", env=environment)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command line on an empty workspace that nobody owns."""

    def call(*arguments: str, **environment: str) -> Result:
        return run_in(tmp_path / "workspace", *arguments, **environment)

    return call


@dataclass
class Shop:
    """A running laboratory in another thread, and the command line on its workspace."""

    workspace: Workspace
    lab: Lab
    portal: BlockingPortal

    def run(self, *arguments: str, **environment: str) -> Result:
        return run_in(self.workspace.root, *arguments, **environment)

    def reply(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def ask(self, method: str, request: type, **raw: Any) -> Any:
        """What the laboratory itself answers, as JSON's values."""
        call = getattr(self.lab, method)
        return self.portal.call(call, parse(request, raw)).model_dump(mode="json")

    def train(self, **raw: Any) -> str:
        """Trains without the command line."""
        config = {"epochs": 2, "hidden_layers": [8], "walk_forward": None, **raw}
        asked = {"symbol": "AAPL", "timeframe": "1h", "config": config}
        task_id = self.ask("start_training", requests.StartTraining, **asked)["task_id"]
        waiting = {"task_id": task_id, "wait_s": 50.0}
        status = self.ask("get_training_status", requests.GetTrainingStatus, **waiting)
        assert status["status"] == "completed", status
        return str(task_id)


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A laboratory that is open for all tests; the command line works through it."""
    workspace = Workspace(tmp_path_factory.mktemp("shop"))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.connect(workspace, in_process=True)) as lab,
    ):
        yield Shop(workspace, lab, portal)


@pytest.fixture(scope="package")
def task_id(shop: Shop) -> str:
    """A completed training of the shop, trained by the command line."""
    return str(shop.reply("train", "AAPL", "1h", *QUICK)["task_id"])


@pytest.fixture(scope="package")
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
