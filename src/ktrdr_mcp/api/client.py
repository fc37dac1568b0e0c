"""The service in another process: the same operations over loopback HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import httpx2
from pydantic import ValidationError

from ktrdr_mcp.api.operations import OPERATIONS, TERMINAL, Operation
from ktrdr_mcp.errors import Draining, KtrdrError, LabUnavailable, Unauthorized, kinds_by_code
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.schemas import requests, responses, service
from ktrdr_mcp.schemas.config import Strict
from ktrdr_mcp.schemas.service import OnProgress

Value = TypeVar("Value")
Answer = TypeVar("Answer", bound=responses.Reply)
Locate = Callable[[], DaemonAddress | None]
Find = Callable[[], Awaitable[DaemonAddress]]  # waits for it, or starts it

CONNECT_S: Final = 5.0
ANSWER_S: Final = 120.0  # the first bars of a large file take their time
LOOK_S: Final = 30.0  # whatever only reads what is known; a busy machine may take seconds
SIGN_S: Final = 5.0  # health and stop, which are asked again
MOST_SILENCES: Final = 4  # of so long each, in which a laboratory gave no sign of life
OVER_S: Final = ANSWER_S + LOOK_S  # no call waits for longer than this
SENT_ON: Final = "ktrdr_mcp_client"  # where a request keeps what it was sent on
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


class Silent(LabUnavailable):
    """The laboratory's process lives and does not answer."""


def silent(address: DaemonAddress) -> Silent:
    """The refusal when a laboratory takes what it is asked and says nothing."""
    return Silent(
        f"The laboratory of this workspace, process {address.pid}, is alive but does not answer.",
        hint="It may be very busy, or be stopped: wait and call again, or end process"
        f" {address.pid}. What was acknowledged is kept; look with list_training_tasks.",
    )


def is_alive(pid: int) -> bool:
    """Whether there is such a process, as far as the system tells without touching it."""
    if os.name == "nt":  # there, the signal 0 would interrupt it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def timeout(answer_s: float) -> httpx2.Timeout:
    """How long to wait for each part of an answer."""
    return httpx2.Timeout(answer_s, connect=CONNECT_S)


def loopback_client() -> httpx2.AsyncClient:
    """A client without connections yet, for the loopback alone."""
    return httpx2.AsyncClient(
        verify=False,  # nothing is encrypted there
        trust_env=False,  # a proxy has no business there
        timeout=timeout(ANSWER_S),
        limits=httpx2.Limits(max_connections=None),
    )


class Connection:
    """Sends requests to the laboratory and finds it again when it has moved or died.

    Args:
        locate: gives the address of the laboratory; asked again when it has moved.
        find: asked instead, where a laboratory that has ended is to be started again.
    """

    def __init__(self, locate: Locate, find: Find | None = None) -> None:
        self._locate = locate
        self._find = find
        self.address = None if find else locate()  # None: to be looked for
        self._last = self.address
        self._client = loopback_client()
        self._retired: list[tuple[float, httpx2.AsyncClient]] = []  # when, because one broke

    async def close(self) -> None:
        """Closes the connections."""
        for client in (self._client, *(client for _, client in self._retired)):
            await client.aclose()

    @asynccontextmanager
    async def asked(self, method: str, path: str, **content: Any) -> AsyncIterator[httpx2.Response]:
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
            raise await self._broken(error) from error
        except LabUnavailable:
            self._forget()
            raise

    def _forget(self) -> None:
        """Lets the next call look for the laboratory first, where it can be started again."""
        if self._find is not None:
            self.address = None

    async def while_it_lives(self, call: Coroutine[Any, Any, Value], sign_s: float) -> Value:
        """The result of a call that may take long, unless the laboratory is stuck meanwhile.

        Args:
            call: the call, made over this connection.
            sign_s: how long the laboratory has to give a sign of life.
        Raises:
            Silent: it gave none several times.
            KtrdrError: as the call.
        """
        answer, silences = asyncio.create_task(call), 0
        try:
            while not (await asyncio.wait({answer}, timeout=sign_s))[0]:
                silences = 0 if await self._gives_sign(sign_s) else silences + 1
                if silences == MOST_SILENCES and self._last is not None:
                    self._forget()
                    raise silent(self._last)
            return answer.result()
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _gives_sign(self, sign_s: float) -> bool:
        """Whether the laboratory that was asked last says anything in time, or has ended."""
        if self._last is None:
            return True
        try:
            sign = await self.sent_to(self._last, "GET", "/health", timeout=timeout(sign_s))
            await sign.aread()
        except httpx2.TimeoutException:
            return False
        except httpx2.TransportError:
            return True  # the call breaks too, and tells of it
        return True

    async def _broken(self, error: httpx2.TransportError) -> LabUnavailable:
        """What a broken connection means."""
        await self._renew(error)
        self._forget()
        if isinstance(error, httpx2.TimeoutException) and self._last and is_alive(self._last.pid):
            return silent(self._last)
        return unavailable(type(error).__name__, CALL_AGAIN if self._find else START_ANEW)

    async def _renew(self, error: httpx2.TransportError) -> None:
        """Begins with fresh connections, unless another call has; the old may still be waited on.

        Args:
            error: what broke a connection; those of a laboratory that died break at later calls.
        """
        if error.request.extensions.get(SENT_ON) is not self._client:
            return
        now = time.monotonic()
        over = [client for since, client in self._retired if now - since > OVER_S]
        self._retired = [each for each in self._retired if each[1] not in over]
        self._retired.append((now, self._client))
        self._client = loopback_client()
        for client in over:
            await client.aclose()

    async def _sent(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """The response, from the laboratory's new place if it has moved."""
        if self.address is None:
            await self._has_moved(None)
        tried = self.address
        if tried is None:
            raise unavailable("it has not said where it is")
        try:
            response = await self.sent_to(tried, method, path, **content)
        except httpx2.TransportError as error:
            # Nothing was sent, or nothing can have been changed by it.
            repeatable = method == "GET" or isinstance(error, NOTHING_SENT)
            if not repeatable or not await self._has_moved(tried):
                raise
            await self._renew(error)
        else:
            if response.status_code not in NOTHING_DONE:
                return response
            await response.aread()
            if not await self._has_moved(tried):
                return response
        return await self.sent_to(self.address or tried, method, path, **content)

    async def sent_to(
        self,
        address: DaemonAddress,
        method: str,
        path: str,
        on: httpx2.AsyncClient | None = None,
        **content: Any,
    ) -> httpx2.Response:
        """The response of the laboratory at an address, its body still to be read."""
        head = {} if address.token is None else {"Authorization": f"Bearer {address.token}"}
        if address.instance is not None:
            head[service.INSTANCE] = address.instance
        client = on or self._client
        request = client.build_request(
            method,
            f"{address.url}{path}",
            headers=head,
            extensions={SENT_ON: client},
            **content,
        )
        return await client.send(request, stream=True)

    async def _has_moved(self, tried: DaemonAddress | None) -> bool:
        """Looks for the laboratory again, unless another call has found it meanwhile.

        Args:
            tried: where it was.
        Returns:
            whether it is elsewhere now.
        Raises:
            KtrdrError: it cannot be started again.
        """
        if self.address in (None, tried):
            self.address = (self._locate() if self._find is None else await self._find()) or tried
            self._last = self.address
        return self.address != tried


def error_in(content: bytes) -> KtrdrError:
    """The error that the other process told, as the same class."""
    try:
        told = responses.ErrorReply.model_validate(json.loads(content)).error
    except ValueError:  # pydantic's and the decoder's are both of this kind
        return unavailable("something else answers at its address")
    kind = kinds_by_code().get(told.code, KtrdrError)
    return kind(told.message, hint=told.hint, field=told.field)


PRESENCE: Final = timeout(60.0)  # it says every ten seconds that it lives
# What handing a connection to a request costs grows with the connections there are, so that a
# burst of polls on hundreds of them takes several times as long as on a few.
POLLS_AT_ONCE: Final = 8


class ServiceClient:
    """Answers every operation of the table as the service of another process does.

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

    def __getattr__(self, name: str) -> Callable[[Strict], Awaitable[Any]]:
        """The operation of this name, asked of the service."""
        if name not in OPERATIONS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self._asked, OPERATIONS[name])

    async def health(self, _: requests.Empty | None = None) -> responses.Health:
        """Whether the other process answers. Raises LabUnavailable."""
        return await self._get("/health", {}, responses.Health, SIGN_S)

    async def stay(self, address: DaemonAddress) -> None:
        """Keeps a daemon that ends when idle from ending; returns once it has ended."""
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
        """Asks a detached daemon to end. Raises KtrdrError."""
        await self._post("/lab/stop", None, responses.Stopping, SIGN_S)

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
            return await self._get(path, query, responses.TrainingStatus, request.wait_s + LOOK_S)
        with anyio.move_on_after(request.wait_s):
            async with aclosing(self._events(f"{path}/events")) as statuses:
                async for status in statuses:
                    if status.status in TERMINAL:
                        return status
                    await on_progress(status)
        return await self._get(path, {}, responses.TrainingStatus)

    async def _asked(self, operation: Operation[Any, Answer], request: Strict) -> Answer:
        """The service's reply to an operation's request. Raises KtrdrError."""
        names = {name for name in type(request).model_fields if operation.in_path(name)}
        path = operation.path.format_map(request.model_dump(mode="json", include=names))
        if operation.method == "GET":
            # with its defaults: those of a route are others
            query = request.model_dump(mode="json", exclude=names, exclude_none=True)
            answer_s = ANSWER_S if operation.slow else LOOK_S
            return await self._get(path, query, operation.reply, answer_s)
        # What the caller left out stays out: the strategy may say otherwise than the defaults.
        body = request.model_dump(mode="json", exclude=names, exclude_unset=True)
        return await self._post(path, body, operation.reply)

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
        body: Mapping[str, Any] | None,
        reply: type[Answer],
        answer_s: float = ANSWER_S,
    ) -> Answer:
        """Changes something. Raises KtrdrError."""
        call = self._answer("POST", path, reply, json=body, timeout=timeout(answer_s))
        return await self._connection.while_it_lives(call, SIGN_S)

    async def _answer(self, method: str, path: str, reply: type[Answer], **content: Any) -> Answer:
        """The reply to one request. Raises KtrdrError."""
        async with self._connection.asked(method, path, **content) as response:
            return read(reply, await response.aread())

    async def _events(self, path: str) -> AsyncGenerator[responses.TrainingStatus]:
        """A task's statuses as they come. Raises KtrdrError."""
        async with self._connection.asked("GET", path, timeout=timeout(LOOK_S)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield read(responses.TrainingStatus, line.removeprefix("data: ").encode())


def read(reply: type[Answer], content: bytes) -> Answer:
    """A reply out of its JSON. Raises LabUnavailable."""
    try:
        return reply.model_validate_json(content)
    except ValidationError as error:
        raise unavailable("its reply is of another version") from error
