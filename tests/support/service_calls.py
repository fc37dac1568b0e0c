"""The server called with raw arguments, as MCP and HTTP do call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ktrdr_mcp.api.operations import COMPLETE, MODEL_CARD, STRATEGY_TEXT, TRAINING_HISTORY
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

BOOKKEEPING = {
    *("lab.lock", "lab.json", "owner.json", "workspace.json"),
    *("trials.db", "trials.db-journal", "research.json"),
}
SHORT = {"epochs": 3, "hidden_layers": [8]}


@dataclass
class Bench:
    """The server and its folder."""

    service: ServiceProtocol
    workspace: Workspace

    async def start(self, **arguments: Any) -> responses.TrainingStarted:
        raw = {"symbol": "AAPL", "timeframe": "1h", "config": SHORT, **arguments}
        return await self.service.start_training(parse(requests.StartTraining, raw))

    async def status(self, task_id: str, wait_s: float = 0.0) -> responses.TrainingStatus:
        raw = {"task_id": task_id, "wait_s": wait_s}
        return await self.service.get_training_status(parse(requests.GetTrainingStatus, raw))

    async def finish(self, task_id: str) -> responses.TrainingStatus:
        return await self.status(task_id, wait_s=50.0)

    async def performance(self, task_id: str) -> responses.ModelPerformance:
        return await self.service.get_model_performance(self.task(task_id))

    async def cancel(self, task_id: str) -> responses.TaskCancelled:
        return await self.service.cancel_training(self.task(task_id))

    async def save(self, task_id: str, model_name: str, text: str = "") -> responses.ModelSaved:
        raw = {"task_id": task_id, "model_name": model_name, "description": text}
        return await self.service.save_trained_model(parse(requests.SaveModel, raw))

    async def load(self, model_name: str) -> responses.ModelLoaded:
        return await self.service.load_trained_model(
            parse(requests.LoadModel, {"model_name": model_name})
        )

    async def predict(self, model_name: str, **more: Any) -> responses.ModelPrediction:
        raw = {"model_name": model_name, "symbol": "AAPL", "timeframe": "1h", **more}
        return await self.service.test_model_prediction(parse(requests.Predict, raw))

    def task(self, task_id: str) -> requests.TaskOnly:
        return parse(requests.TaskOnly, {"task_id": task_id})

    async def trained(self, **arguments: Any) -> str:
        started = await self.start(**arguments)
        assert (await self.finish(started.task_id)).status == "completed"
        return started.task_id

    def snapshot(self) -> dict[str, bytes]:
        """Every file that a user would see."""
        return {
            self.workspace.relative(path): path.read_bytes()
            for path in sorted(self.workspace.root.rglob("*"))
            if path.is_file() and path.name not in BOOKKEEPING and "ktrdr.db" not in path.name
        }


async def history_of(service: ServiceProtocol, task_id: str) -> dict[str, Any]:
    return (await TRAINING_HISTORY.answer(service, {"task_id": task_id})).history


async def card_of(service: ServiceProtocol, model_name: str) -> dict[str, Any]:
    return (await MODEL_CARD.answer(service, {"model_name": model_name})).card


async def strategy_of(service: ServiceProtocol, name: str) -> str:
    return (await STRATEGY_TEXT.answer(service, {"name": name})).text


async def names_of(service: ServiceProtocol, kind: str, prefix: str = "") -> list[str]:
    return (await COMPLETE.answer(service, {"kind": kind, "prefix": prefix})).names
