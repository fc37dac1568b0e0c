"""The seven tools of the specification, and the data summary, called by a real MCP client."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ktrdr_mcp.api.operations import FIRST_TRAINING, MODEL_NAME
from ktrdr_mcp.cli import output
from ktrdr_mcp.daemon.process import IDLE_VARIABLE
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.files import TRUST_VARIABLE
from ktrdr_mcp.paths import OWN_RECORD, RECORD_VARIABLE, USER_FOLDER_VARIABLE, Workspace

TERMINAL: Final = {"completed", "failed", "cancelled"}
IDLE_S: Final = 2.0  # for how long a daemon that the demo started goes on


class DemoFailed(KtrdrError):
    """A tool refused, or the training did not end well."""

    code = "demo_failed"


class Demo:
    """One way through the tools.

    Args:
        client: connected to the server.
        console: where to show it.
    """

    def __init__(self, client: Client, console: Console) -> None:
        self._client = client
        self._console = console
        self.replies: dict[str, Any] = {}

    async def call(self, tool: str, arguments: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Calls a tool and returns its structured content. Raises DemoFailed."""
        answer = await self._client.call_tool(tool, dict(arguments), **more)
        content: dict[str, Any] = answer.structured_content or {}
        if answer.is_error:
            error = content.get("error", {})
            raise DemoFailed(
                f"{tool}: {error.get('message', 'no structured answer')}",
                hint=error.get("hint", "Run `ktrdr-mcp demo` again."),
            )
        self.replies[tool] = content
        return content

    def heading(self, tool: str, sentence: str) -> None:
        """Names the tool that is called next."""
        self._console.print()
        output.heading(self._console, tool, sentence)

    def table(self, rows: Mapping[str, object]) -> None:
        """Names and values in two columns."""
        output.facts(self._console, rows)

    async def look_at_data(self) -> None:
        """Shows which bars there are."""
        self.heading("get_market_data_summary", "which bars there are")
        summary = await self.call("get_market_data_summary", {})
        self.table(
            {
                f"{one['symbol']} {one['timeframe']}": (
                    f"{one['bars']} bars, {one['first_bar']} to {one['last_bar']}, {one['source']}"
                )
                for one in summary["series"]
            }
        )

    async def start(self) -> str:
        """Starts the training and returns its id."""
        self.heading("start_training", "the specification's example request")
        started = await self.call("start_training", FIRST_TRAINING)
        data = started["data"]
        self.table(
            {
                "task_id": started["task_id"],
                "strategy": started["strategy"],
                "bars": f"{data['bars']}, {data['first_bar']} to {data['last_bar']}",
                "rows": f"{data['train_rows']} train, {data['validation_rows']} validation,"
                f" {data['test_rows']} test, {data['purged_rows']} purged",
                "training labels": data["class_shares"],
                "estimated minutes": started["estimated_duration_minutes"],
            }
        )
        output.warn(self._console, started["warnings"])
        return str(started["task_id"])

    async def wait(self, task_id: str) -> None:
        """Waits for the end, with a bar that follows the server's notifications."""
        self.heading("get_training_status", "wait_s=50, until it has ended")
        columns = (TextColumn(" "), BarColumn(40), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=self._console) as bar:
            shown = bar.add_task("queued", total=FIRST_TRAINING["config"]["epochs"])

            async def follow(progress: float, total: float | None, message: str | None) -> None:
                bar.update(shown, completed=progress, total=total, description=message or "")

            status: dict[str, Any] = {"status": "pending"}
            while status["status"] not in TERMINAL:
                status = await self.call(
                    "get_training_status",
                    {"task_id": task_id, "wait_s": 50.0},
                    progress_callback=follow,
                )
            epochs = f"{status['current_epoch']} of {status['total_epochs']} epochs"
            bar.update(shown, completed=status["current_epoch"], description=epochs)
        if status["status"] != "completed":
            raise DemoFailed(f"The training {status['status']}: {status['error']}", hint="")

    async def judge(self, task_id: str) -> None:
        """Shows what the training measured."""
        self.heading("get_model_performance", "what it is worth")
        performance = await self.call("get_model_performance", {"task_id": task_id})
        verdict = performance["verdict"]
        self.table(
            {"verdict": f"{verdict['prediction']}; trading: {verdict['trading']}"}
            | {name: verdict[name] for name in ("reason", "luck", "needs")}
        )
        accuracies = {
            name: figures["accuracy"] for name, figures in performance["baselines"].items()
        }
        self.table(
            performance["training_metrics"]
            | performance["test_metrics"]
            | {"accuracy of simple rules": accuracies}
            | performance["trading"]
            | performance["model_info"]
        )
        self.table({"next": performance["next"]})

    async def keep(self, task_id: str) -> None:
        """Saves, loads and predicts."""
        self.heading("save_trained_model", MODEL_NAME)
        description = "AAPL momentum strategy trained on 2024 data"
        saving = {"task_id": task_id, "model_name": MODEL_NAME, "description": description}
        saved = await self.call("save_trained_model", saving)
        self.table({name: saved[name] for name in ("model_id", "model_path", "version")})
        self.heading("load_trained_model", "every file verified")
        loaded = await self.call("load_trained_model", {"model_name": MODEL_NAME})
        self.table(loaded["model_info"])
        self.heading("test_model_prediction", "2025-06-09")
        given = {"model_name": MODEL_NAME, "symbol": "AAPL", "timeframe": "1h"}
        predicted = await self.call("test_model_prediction", given | {"test_date": "2025-06-09"})
        self.table(
            {name: predicted[name] for name in ("as_of", "in_sample")}
            | predicted["prediction"]
            | {"input_features": predicted["input_features"]}
        )

    async def list_models(self) -> None:
        """Shows the registry."""
        self.heading("list_trained_models", "newest first")
        listed = await self.call("list_trained_models", {})
        names = ("model_name", "version", "symbol", "timeframe", "test_accuracy")
        columns = [output.Column(name.replace("_", " ")) for name in names]
        rows = [[one[name] for name in names] for one in listed["models"]]
        output.listing(self._console, columns, rows)


def pass_on() -> dict[str, str]:
    """What says which workspaces are trusted and where trials count; clients pass on little."""
    names = (USER_FOLDER_VARIABLE, TRUST_VARIABLE, RECORD_VARIABLE)
    # what the demo tries counts in its own workspace alone
    return {RECORD_VARIABLE: OWN_RECORD} | {
        name: os.environ[name] for name in names if name in os.environ
    }


async def run_demo(workspace: Workspace, as_json: bool, in_process: bool = False) -> None:
    """Starts a server of its own on the workspace and walks through its tools.

    Args:
        workspace: where the model is saved.
        as_json: print only what each tool answered last, as JSON.
        in_process: run everything in that server's process.
    Raises:
        DemoFailed: a tool refused, or the training did not end well.
    """
    server = StdioServerParameters(
        command=sys.executable,
        args=[
            *("-m", "ktrdr_mcp", "--workspace", str(workspace.root)),
            *(["--in-process"] if in_process else []),
        ],
        env={**pass_on(), IDLE_VARIABLE: str(IDLE_S)},
    )
    console = output.console()
    console.quiet = as_json
    output.heading(console, "ktrdr-mcp", "one training over MCP stdio, on real bars")
    async with Client(server) as client:
        steps = Demo(client, console)
        await steps.look_at_data()
        task_id = await steps.start()
        await steps.wait(task_id)
        await steps.judge(task_id)
        await steps.keep(task_id)
        await steps.list_models()
    if as_json:
        output.print_json({"success": True, "replies": steps.replies})
