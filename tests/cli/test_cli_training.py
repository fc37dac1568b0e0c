"""Training from the command line, alone and beside a service."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from ktrdr_mcp.cli import session, training
from ktrdr_mcp.cli.session import Interrupted
from ktrdr_mcp.cli.training import TrainingEnded
from ktrdr_mcp.schemas import requests, responses
from tests.support.command_line import QUICK
from tests.support.service_calls import history_of

FOREVER = ("--epochs", "100000", "--set", "early_stopping=null")


def test_a_training_alone_shows_rows_result_and_next_step(run) -> None:
    result = run("train", "aapl", "1h", *QUICK)
    assert result.exit_code == 0, result.output
    for text in ("Training AAPL 1h", "validation", "Prediction: ", "always the majority"):
        assert text in result.stdout
    assert "ktrdr-mcp models save" in result.stdout
    assert "completed" in run("tasks").stdout


def test_settings_strategy_and_dates_reach_the_training(shop) -> None:
    line = ("--strategy", "mean_reversion", "--start", "2025-01-01", "--end", "2025-12-31")
    task = shop.reply("train", "AAPL", "1h", *QUICK, "--set", "early_stopping.patience=3", *line)
    history = shop.portal.call(history_of, shop.service, task["task_id"])
    assert history["strategy"] == "mean_reversion"
    assert history["config"]["early_stopping"]["patience"] == 3
    assert history["config"]["hidden_layers"] == [8]
    bars = history["performance"]["data"]
    assert bars["first_bar"].startswith("2025-01-02")
    assert bars["last_bar"].startswith("2025-12-31")


def test_a_model_of_the_command_line_is_the_services(shop, model) -> None:
    listed = shop.ask("list_trained_models", requests.ListModels)
    assert model in [row["model_name"] for row in listed["models"]]
    raw = {"model_name": model, "symbol": "AAPL", "timeframe": "1h"}
    assert shop.ask("test_model_prediction", requests.Predict, **raw)["success"]


def test_a_model_of_the_service_is_the_command_lines(shop) -> None:
    task_id = shop.train(seed=11)
    raw = {"task_id": task_id, "model_name": "second"}
    shop.ask("save_trained_model", requests.SaveModel, **raw)
    assert "second" in shop.run("models").stdout
    assert task_id in shop.run("tasks", "--status", "completed").stdout
    result = shop.run("predict", "second", "--date", "2025-06-09")
    assert result.stdout.split()[0] in {"BUY", "HOLD", "SELL"}
    assert "2025-06-09" in result.stdout


class StubService:
    """Answers with statuses in turn; waits for ever after the last."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)
        self.waits: list[float] = []
        self.cancelled: list[str] = []
        self.waiting = asyncio.Event()

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: Any = None
    ) -> responses.TrainingStatus:
        self.waits.append(request.wait_s)
        if not self.statuses:
            self.waiting.set()
            await asyncio.Event().wait()
        return responses.TrainingStatus.model_validate(
            {
                "task_id": request.task_id,
                "status": self.statuses.pop(0),
                "progress": 1,
                "current_epoch": 1,
                "total_epochs": 10,
                "symbol": "AAPL",
                "timeframe": "1h",
                "started_at": None,
                "estimated_completion": None,
                "current_metrics": {},
                "error": "It went wrong.",
                "error_code": "diverged",
            }
        )

    async def cancel_training(self, request: requests.TaskOnly) -> None:
        self.cancelled.append(request.task_id)
        self.statuses = ["cancelled"]


async def ignore(status: responses.TrainingStatus) -> None:
    """Shows nothing."""


async def interrupted(service: StubService) -> Interrupted:
    """What a Ctrl-C while waiting leads to."""
    waiting = asyncio.create_task(training.wait_for_completion(service, "task", ignore))
    await service.waiting.wait()
    waiting.cancel()
    with pytest.raises(Interrupted) as told:
        await waiting
    return told.value


@pytest.mark.asyncio
async def test_an_interrupted_training_of_this_process_is_cancelled(monkeypatch) -> None:
    monkeypatch.setattr(training, "runs_here", lambda service: True)
    service = StubService("training")
    told = await interrupted(service)
    assert service.cancelled == ["task"]
    assert "is cancelled" in told.message


@pytest.mark.asyncio
async def test_an_interrupted_training_of_another_process_goes_on() -> None:
    service = StubService("pending", "training")
    told = await interrupted(service)
    assert service.cancelled == []
    assert "goes on" in told.message
    assert "ktrdr-mcp status task --wait" in told.hint
    assert "ktrdr-mcp cancel task" in told.hint


@pytest.mark.parametrize(("status", "words"), [("failed", "failed"), ("cancelled", "cancelled")])
@pytest.mark.asyncio
async def test_a_training_that_ends_badly_is_an_error_with_its_own_code(status, words) -> None:
    with pytest.raises(TrainingEnded, match=words) as ended:
        await training.wait_for_completion(StubService(status), "task", ignore)
    assert ended.value.to_dict()["error"]["code"] == "diverged"
    assert ended.value.to_dict()["error"]["message"] == ended.value.message


@pytest.mark.asyncio
async def test_waiting_ends_with_its_time() -> None:
    service = StubService("training", "training", "training")
    status = await training.wait_for_end(service, "task", ignore, limit_s=0.0)
    assert status.status == "training"
    assert service.waits == [0.0]


@pytest.mark.asyncio
async def test_no_wait_is_longer_than_the_contract_allows() -> None:
    service = StubService("pending", "training", "completed")
    await training.wait_for_end(service, "task", ignore, limit_s=10_000.0)
    assert service.waits == [0.0, 2.0, 50.0]


@pytest.mark.asyncio
async def test_a_service_in_this_process_is_told_from_another(shop) -> None:
    assert session.runs_here(shop.service)
    assert not session.runs_here(StubService())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_ctrl_c_cancels_a_training_of_this_process_and_says_so(tmp_path) -> None:
    line = ["--workspace", str(tmp_path), "--in-process", "train", "AAPL", "1h"]
    command = [sys.executable, "-m", "ktrdr_mcp", *line, *FOREVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout.readline().startswith("Training AAPL 1h")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "is cancelled" in errors
    assert "Traceback" not in errors
