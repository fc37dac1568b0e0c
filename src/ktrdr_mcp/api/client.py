"""The service in another process: the same operations over loopback HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
from pydantic import ValidationError

from ktrdr_mcp.api.connection import (
    ANSWER_TIMEOUT_S,
    READ_TIMEOUT_S,
    SIGN_TIMEOUT_S,
    Connection,
    Find,
    Locate,
    timeout,
    unavailable,
)
from ktrdr_mcp.api.operations import OPERATIONS, RESOURCE_STATES, TERMINAL, Operation
from ktrdr_mcp.errors import NotFound
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.config import Strict
from ktrdr_mcp.schemas.service import CODE_PATH, OnProgress

Answer = TypeVar("Answer", bound=responses.Reply)

# What handing a connection to a request costs grows with the connections there are, so that a
# burst of polls on hundreds of them takes several times as long as on a few.
POLLS_AT_ONCE: Final = 8


class ServiceClient:
    """Answers every operation of the table as the service of another process does.

    Args:
        locate: gives the address of the service; asked again when it has moved.
        find: asked instead, where a service that has ended is to be started again.
    """

    def __init__(self, locate: Locate, find: Find | None = None) -> None:
        self._connection = Connection(locate, find)
        self._locate = locate
        self._following: Connection | None = None  # which starts nothing again
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
        if self._following is not None:
            await self._following.close()

    def __getattr__(self, name: str) -> Callable[[Strict], Awaitable[Any]]:
        """The operation of this name, asked of the service."""
        if name not in OPERATIONS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self._ask, OPERATIONS[name])

    async def health(self, _: requests.Empty | None = None) -> responses.Health:
        """Whether the other process answers. Raises LabUnavailable."""
        return await self._get("/health", {}, responses.Health, SIGN_TIMEOUT_S)

    async def ping(self, address: DaemonAddress) -> None:
        """Keeps the daemon at an address from ending when idle; does not start it again."""
        await self._connection.ping(address)

    async def stop(self) -> None:
        """Asks a detached daemon to end. Raises KtrdrError."""
        await self._post("/lab/stop", None, responses.Stopping, SIGN_TIMEOUT_S)

    async def page_address(self) -> str:
        """Where a browser gets in, within half a minute and once. Raises KtrdrError."""
        reply = await self._post(CODE_PATH, {}, responses.BrowserCode, SIGN_TIMEOUT_S)
        address = self._connection.address
        return f"{address.url if address else ''}/#code={reply.code}"

    async def workers(self) -> list[responses.ShownWorker]:
        """The processes that compute for the daemon; none where it is too old to say."""
        with suppress(NotFound):
            return (await self._get("/lab/workers", {}, responses.Workers, SIGN_TIMEOUT_S)).workers
        return []

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        """A task's state; waits up to `wait_s` for its end and reports progress meanwhile."""
        path = f"/training/{request.task_id}"
        if request.wait_s <= 0:
            async with self._polling:
                return await self._get(path, {}, responses.TrainingStatus)
        if on_progress is None:
            query = {"wait_s": request.wait_s}
            return await self._get(
                path, query, responses.TrainingStatus, request.wait_s + READ_TIMEOUT_S
            )
        with anyio.move_on_after(request.wait_s):
            async with aclosing(self._events(f"{path}/events")) as statuses:
                async for status in statuses:
                    if status.status in TERMINAL:
                        return status
                    await on_progress(status)
        return await self._get(path, {}, responses.TrainingStatus)

    async def resource_states(
        self, request: requests.ReadResourceStates
    ) -> responses.ResourceStates:
        """Whether what can be read has changed; does not start a service that has ended."""
        if self._following is None:
            self._following = Connection(self._locate)
        reply, path = responses.ResourceStates, RESOURCE_STATES.path
        body = request.model_dump(mode="json", exclude_unset=True)
        async with self._following.response(
            "POST", path, json=body, timeout=timeout(request.wait_s + READ_TIMEOUT_S)
        ) as response:
            return read(reply, await response.aread())

    async def _ask(self, operation: Operation[Any, Answer], request: Strict) -> Answer:
        """The service's reply to an operation's request. Raises KtrdrError."""
        names = {name for name in type(request).model_fields if operation.in_path(name)}
        path = operation.path.format_map(request.model_dump(mode="json", include=names))
        if operation.method == "GET":
            # with its defaults: those of a route are others
            query = request.model_dump(mode="json", exclude=names, exclude_none=True)
            answer_s = ANSWER_TIMEOUT_S if operation.slow else READ_TIMEOUT_S
            return await self._get(path, query, operation.reply, answer_s)
        # What the caller left out stays out: the strategy may say otherwise than the defaults.
        body = request.model_dump(mode="json", exclude=names, exclude_unset=True)
        return await self._post(path, body, operation.reply)

    async def _get(
        self,
        path: str,
        query: Mapping[str, Any],
        reply: type[Answer],
        answer_s: float = READ_TIMEOUT_S,
    ) -> Answer:
        """Reads. Raises KtrdrError."""
        call = self._answer("GET", path, reply, params=query, timeout=timeout(answer_s))
        if answer_s <= READ_TIMEOUT_S:
            return await call
        return await self._connection.give_up_if_stuck(call)

    async def _post(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        reply: type[Answer],
        answer_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """Changes something. Raises KtrdrError."""
        call = self._answer("POST", path, reply, json=body, timeout=timeout(answer_s))
        return await self._connection.give_up_if_stuck(call)

    async def _answer(self, method: str, path: str, reply: type[Answer], **content: Any) -> Answer:
        """The reply to one request. Raises KtrdrError."""
        async with self._connection.response(method, path, **content) as response:
            return read(reply, await response.aread())

    async def _events(self, path: str) -> AsyncGenerator[responses.TrainingStatus]:
        """A task's statuses as they come. Raises KtrdrError."""
        async with self._connection.response(
            "GET", path, timeout=timeout(READ_TIMEOUT_S)
        ) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield read(responses.TrainingStatus, line.removeprefix("data: ").encode())


def read(reply: type[Answer], content: bytes) -> Answer:
    """A reply out of its JSON. Raises LabUnavailable."""
    try:
        return reply.model_validate_json(content)
    except ValidationError as error:
        raise unavailable("its reply is of another version") from error
