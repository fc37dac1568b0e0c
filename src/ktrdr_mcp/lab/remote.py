"""The laboratory in another process: the same use cases over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import httpx2
from pydantic import BaseModel, ValidationError

from ktrdr_mcp.contract import documents, requests, responses
from ktrdr_mcp.contract.lab import OnProgress
from ktrdr_mcp.lab.address import LabAddress
from ktrdr_mcp.lab.connection import (
    ANSWER_S,
    LOOK_S,
    SIGN_S,
    Connection,
    Find,
    Locate,
    loopback_client,
    timeout,
    unavailable,
)

Answer = TypeVar("Answer", bound=responses.Reply)

PRESENCE: Final = timeout(60.0)  # it says every ten seconds that it lives
# What handing a connection to a request costs grows with the connections there are, so that a
# burst of polls on hundreds of them takes several times as long as on a few.
POLLS_AT_ONCE: Final = 8
TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})


class RemoteLab:
    """Implements `contract.Lab` over HTTP.

    Args:
        locate: gives the address of the laboratory; asked again when it has moved.
        find: asked instead, where a laboratory that has ended is to be started again.
    """

    def __init__(self, locate: Locate, find: Find | None = None) -> None:
        self._connection = Connection(locate, find)
        self._polling = anyio.CapacityLimiter(POLLS_AT_ONCE)

    async def __aenter__(self) -> Self:
        """Nothing is sent yet."""
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self._connection.close()

    async def health(self) -> documents.Health:
        """Whether the other process answers. Raises LabUnavailable."""
        return await self._get("/health", {}, documents.Health, SIGN_S)

    async def stay(self, address: LabAddress) -> None:
        """Keeps a laboratory that ends when idle from ending; returns once it has ended."""
        # On connections of its own, which last longer than those of calls.
        async with loopback_client() as client:
            with contextlib.suppress(httpx2.TransportError):
                response = await self._connection.sent_to(
                    address, "GET", "/presence", on=client, timeout=PRESENCE
                )
                async with aclosing(response):
                    async for _ in response.aiter_raw():
                        pass

    async def stop(self) -> None:
        """Asks a detached laboratory to end. Raises KtrdrError."""
        await self._post("/lab/stop", None, documents.Stopping, SIGN_S)

    async def start_training(self, request: requests.StartTraining) -> responses.TrainingStarted:
        """See `contract.Lab`."""
        return await self._post("/training/start", request, responses.TrainingStarted)

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        """See `contract.Lab`."""
        path = f"/training/{request.task_id}"
        if request.wait_s <= 0:
            async with self._polling:
                return await self._get(path, {}, responses.TrainingStatus)
        if on_progress is None:
            query = {"wait_s": request.wait_s}
            return await self._get(path, query, responses.TrainingStatus, request.wait_s + LOOK_S)
        with anyio.move_on_after(request.wait_s):
            async with aclosing(self._events(f"{path}/events")) as statuses:
                async for status in statuses:
                    if status.status in TERMINAL:
                        return status
                    await on_progress(status)
        return await self._get(path, {}, responses.TrainingStatus)

    async def get_model_performance(self, request: requests.TaskOnly) -> responses.ModelPerformance:
        """See `contract.Lab`."""
        path = f"/training/{request.task_id}/performance"
        return await self._get(path, {}, responses.ModelPerformance)

    async def save_trained_model(self, request: requests.SaveModel) -> responses.ModelSaved:
        """See `contract.Lab`."""
        return await self._post("/models/save", request, responses.ModelSaved)

    async def load_trained_model(self, request: requests.LoadModel) -> responses.ModelLoaded:
        """See `contract.Lab`."""
        return await self._post(f"/models/{request.model_name}/load", None, responses.ModelLoaded)

    async def test_model_prediction(self, request: requests.Predict) -> responses.ModelPrediction:
        """See `contract.Lab`."""
        return await self._post("/models/predict", request, responses.ModelPrediction)

    async def list_trained_models(self, request: requests.ListModels) -> responses.ModelList:
        """See `contract.Lab`."""
        return await self._get("/models", query_of(request), responses.ModelList)

    async def list_training_tasks(self, request: requests.ListTasks) -> responses.TaskList:
        """See `contract.Lab`."""
        return await self._get("/training", query_of(request), responses.TaskList)

    async def cancel_training(self, request: requests.TaskOnly) -> responses.TaskCancelled:
        """See `contract.Lab`."""
        return await self._post(
            f"/training/{request.task_id}/cancel", None, responses.TaskCancelled
        )

    async def get_market_data_summary(
        self, request: requests.SummarizeData
    ) -> responses.DataSummary:
        """See `contract.Lab`."""
        return await self._get("/data", query_of(request), responses.DataSummary, ANSWER_S)

    async def backtest_model(self, request: requests.BacktestModel) -> responses.ModelBacktest:
        """See `contract.Lab`."""
        path = f"/models/{request.model_name}/backtest"
        return await self._post(path, request, responses.ModelBacktest)

    async def compare_trainings(self, request: requests.CompareTrainings) -> responses.Comparison:
        """See `contract.Lab`."""
        return await self._post("/training/compare", request, responses.Comparison)

    async def reproduce_training(
        self, request: requests.ReproduceTraining
    ) -> responses.Reproduction:
        """See `contract.Lab`."""
        path = f"/training/{request.task_id}/reproduce"
        return await self._post(path, request, responses.Reproduction)

    async def equity_curve(self, request: requests.BacktestModel) -> dict[str, Any]:
        """See `contract.Lab`."""
        path = f"/models/{request.model_name}/equity"
        return (await self._post(path, request, documents.EquityCurve)).equity

    async def training_history(self, task_id: str) -> dict[str, Any]:
        """See `contract.Lab`."""
        path = f"/training/{task_id}/history"
        return (await self._get(path, {}, documents.TrainingHistory)).history

    async def model_card(self, model_name: str) -> dict[str, Any]:
        """See `contract.Lab`."""
        return (await self._get(f"/models/{model_name}", {}, documents.ModelCard)).card

    async def strategy_text(self, name: str) -> str:
        """See `contract.Lab`."""
        return (await self._get(f"/strategies/{name}", {}, documents.StrategyText)).text

    async def complete(self, kind: str, prefix: str) -> list[str]:
        """See `contract.Lab`."""
        query = {"kind": kind, "prefix": prefix}
        return (await self._get("/complete", query, documents.Names)).names

    async def _get(
        self, path: str, query: Mapping[str, Any], reply: type[Answer], answer_s: float = LOOK_S
    ) -> Answer:
        """Reads. Raises KtrdrError."""
        call = self._answer("GET", path, reply, params=query, timeout=timeout(answer_s))
        if answer_s <= LOOK_S:
            return await call
        return await self._connection.while_it_lives(call, SIGN_S)

    async def _post(
        self,
        path: str,
        request: BaseModel | None,
        reply: type[Answer],
        answer_s: float = ANSWER_S,
    ) -> Answer:
        """Changes something. Raises KtrdrError."""
        # What the caller left out stays out: the strategy may say otherwise than the defaults.
        body = None if request is None else request.model_dump(mode="json", exclude_unset=True)
        call = self._answer("POST", path, reply, json=body, timeout=timeout(answer_s))
        return await self._connection.while_it_lives(call, SIGN_S)

    async def _answer(self, method: str, path: str, reply: type[Answer], **content: Any) -> Answer:
        """The reply to one request. Raises KtrdrError."""
        async with self._connection.asked(method, path, **content) as response:
            return read(reply, await response.aread())

    async def _events(self, path: str) -> AsyncGenerator[responses.TrainingStatus]:
        """A task's statuses as they are told. Raises KtrdrError."""
        async with self._connection.asked("GET", path, timeout=timeout(LOOK_S)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield read(responses.TrainingStatus, line.removeprefix("data: ").encode())


def query_of(request: BaseModel) -> dict[str, Any]:
    """A request as query parameters, with its defaults: those of a route are others."""
    return request.model_dump(mode="json", exclude_none=True)


def read(reply: type[Answer], content: bytes) -> Answer:
    """A reply out of its JSON. Raises LabUnavailable."""
    try:
        return reply.model_validate_json(content)
    except ValidationError as error:
        raise unavailable("its reply is of another version") from error
