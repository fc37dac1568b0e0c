"""The command line called in this process, alone or on a running server's workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal
from click.testing import CliRunner, Result

from ktrdr_mcp import cli
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

QUICK = ("--epochs", "2", "--set", "hidden_layers=[8]", "--set", "walk_forward=null")


def run_in(workspace: Path, *arguments: str, **environment: str) -> Result:
    """Runs one command line on a workspace; no server is left in the background."""
    line = ["--workspace", str(workspace), "--in-process", *arguments]
    return CliRunner().invoke(cli.cli, line, prog_name="ktrdr-mcp", env=environment)


@dataclass
class Shop:
    """A running server in another thread, and the command line on its workspace."""

    workspace: Workspace
    service: ServiceProtocol
    portal: BlockingPortal

    def run(self, *arguments: str, **environment: str) -> Result:
        return run_in(self.workspace.root, *arguments, **environment)

    def reply(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def ask(self, method: str, request: type, **raw: Any) -> Any:
        """What the server itself answers, as JSON's values."""
        call = getattr(self.service, method)
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
