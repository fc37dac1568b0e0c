"""The laboratory in another process: the same use cases over HTTP."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import httpx2
from pydantic import BaseModel, ValidationError

from ktrdr_mcp.contract import documents, requests, responses
from ktrdr_mcp.contract.lab import OnProgress
from ktrdr_mcp.errors import (
    Draining,
    KtrdrError,
    LabUnavailable,
    Unauthorized,
    kinds_by_code,
)
from ktrdr_mcp.lab.address import LabAddress

Answer = TypeVar("Answer", bound=responses.Reply)
Locate = Callable[[], LabAddress | None]
Find = Callable[[], Awaitable[LabAddress]]  # waits for it, or starts it

CONNECT_S: Final = 5.0
PRESENCE: Final = httpx2.Timeout(60.0, connect=CONNECT_S)  # it says every ten seconds that it lives
ANSWER_S: Final = 120.0  # the first bars of a large file take their time
TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})
NOTHING_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)
# answers of a process that did nothing: it listens at a place that was the laboratory's, or ends
NOTHING_DONE: Final = frozenset({Unauthorized.http_status, Draining.http_status})


START_ANEW: Final = "start a new ktrdr-mcp process, then look with list_training_tasks"
CALL_AGAIN: Final = "the next call starts it again; look with list_training_tasks"


def unavailable(reason: str, remedy: str = START_ANEW) -> LabUnavailable:
    """The refusal when the other process does not answer."""
    return LabUnavailable(
        f"The laboratory of this workspace does not answer: {reason}.",
        hint="The process that owns the workspace has ended or is ending. What was acknowledged is"
        f" kept; {remedy}.",
    )


def loopback_client() -> httpx2.AsyncClient:
    """A client without connections yet, for the loopback alone."""
    return httpx2.AsyncClient(
        verify=False,  # nothing is encrypted there
        trust_env=False,  # a proxy has no business there
        timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S),
        limits=httpx2.Limits(max_connections=None),
    )


class RemoteLab:
    """Implements `contract.Lab` over HTTP.

    Args:
        locate: gives the address of the laboratory; asked again when it has moved.
        find: asked instead, where a laboratory that has ended is to be started again.
    """

    def __init__(self, locate: Locate, find: Find | None = None) -> None:
        self._locate = locate
        self._find = find
        self._address = None if find else locate()
        self._client = loopback_client()
        self._retired: list[httpx2.AsyncClient] = []  # whose connections broke

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
        for client in (self._client, *self._retired):
            await client.aclose()

    async def health(self) -> documents.Health:
        """Whether the other process answers. Raises LabUnavailable."""
        return await self._get("/health", {}, documents.Health)

    async def stay(self, address: LabAddress) -> None:
        """Keeps a laboratory that ends when idle from ending; returns once it has ended."""
        with contextlib.suppress(httpx2.TransportError):
            response = await self._sent_to(address, "GET", "/presence", timeout=PRESENCE)
            async with aclosing(response):
                async for _ in response.aiter_raw():
                    pass

    async def stop(self) -> None:
        """Asks a detached laboratory to end. Raises KtrdrError."""
        await self._post("/lab/stop", None, documents.Stopping)

    async def start_training(self, request: requests.StartTraining) -> responses.TrainingStarted:
        """See `contract.Lab`."""
        return await self._post("/training/start", request, responses.TrainingStarted)

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        """See `contract.Lab`."""
        path = f"/training/{request.task_id}"
        if on_progress is None or request.wait_s <= 0:
            return await self._get(path, {"wait_s": request.wait_s}, responses.TrainingStatus)
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
        return await self._get("/data", query_of(request), responses.DataSummary)

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

    async def _get(self, path: str, query: Mapping[str, Any], reply: type[Answer]) -> Answer:
        """Reads. Raises KtrdrError."""
        async with self._asked("GET", path, params=query) as response:
            return read(reply, await response.aread())

    async def _post(self, path: str, request: BaseModel | None, reply: type[Answer]) -> Answer:
        """Changes something. Raises KtrdrError."""
        # What the caller left out stays out: the strategy may say otherwise than the defaults.
        body = None if request is None else request.model_dump(mode="json", exclude_unset=True)
        async with self._asked("POST", path, json=body) as response:
            return read(reply, await response.aread())

    async def _events(self, path: str) -> AsyncGenerator[responses.TrainingStatus]:
        """A task's statuses as they are told. Raises KtrdrError."""
        async with self._asked("GET", path) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield read(responses.TrainingStatus, line.removeprefix("data: ").encode())

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, **content: Any
    ) -> AsyncIterator[httpx2.Response]:
        """The response to a request, its body still to be read. Raises KtrdrError."""
        try:
            response = await self._sent(method, path, **content)
            try:
                if not response.is_success:
                    raise error_in(await response.aread())
                yield response
            finally:
                await response.aclose()
        except httpx2.TransportError as error:
            self._renew()
            remedy = CALL_AGAIN if self._find else START_ANEW
            raise unavailable(type(error).__name__, remedy) from error

    def _renew(self) -> None:
        """Begins with fresh connections; those of a laboratory that died break at later calls."""
        self._retired.append(self._client)
        self._client = loopback_client()

    async def _sent(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """The response, from the laboratory's new place if it has moved."""
        if self._address is None:
            await self._has_moved(None)
        tried = self._address
        if tried is None:
            raise unavailable("it has not said where it is")
        try:
            response = await self._sent_to(tried, method, path, **content)
        except (httpx2.NetworkError, httpx2.ProtocolError, httpx2.ConnectTimeout) as error:
            # Nothing was sent, or nothing can have been changed by it.
            repeatable = method == "GET" or isinstance(error, NOTHING_SENT)
            if not repeatable or not await self._has_moved(tried):
                raise
            self._renew()
        else:
            if response.status_code not in NOTHING_DONE:
                return response
            await response.aread()
            if not await self._has_moved(tried):
                return response
        return await self._sent_to(self._address or tried, method, path, **content)

    async def _sent_to(
        self, address: LabAddress, method: str, path: str, **content: Any
    ) -> httpx2.Response:
        """The response of the laboratory at an address, its body still to be read."""
        headers = {} if address.token is None else {"Authorization": f"Bearer {address.token}"}
        request = self._client.build_request(
            method, f"{address.url}{path}", headers=headers, **content
        )
        return await self._client.send(request, stream=True)

    async def _has_moved(self, tried: LabAddress | None) -> bool:
        """Looks for the laboratory again, unless another call has found it meanwhile.

        Args:
            tried: where it was.
        Returns:
            whether it is elsewhere now.
        Raises:
            KtrdrError: it cannot be started again.
        """
        if self._address == tried:
            self._address = (self._locate() if self._find is None else await self._find()) or tried
        return self._address != tried


def query_of(request: BaseModel) -> dict[str, Any]:
    """A request as query parameters, with its defaults: those of a route are others."""
    return request.model_dump(mode="json", exclude_none=True)


def read(reply: type[Answer], content: bytes) -> Answer:
    """A reply out of its JSON. Raises LabUnavailable."""
    try:
        return reply.model_validate_json(content)
    except ValidationError as error:
        raise unavailable("its reply is of another version") from error


def error_in(content: bytes) -> KtrdrError:
    """The error that the other process told, as the same class."""
    try:
        told = documents.ErrorReply.model_validate(json.loads(content)).error
    except ValueError:  # pydantic's and the decoder's are both of this kind
        return unavailable("something else answers at its address")
    kind = kinds_by_code().get(told.code, KtrdrError)
    return kind(told.message, hint=told.hint, field=told.field)
