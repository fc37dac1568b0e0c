"""The service in another process: the same operations over loopback HTTP.

The process that owns a workspace is found again when it has moved or ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import httpcore2
import httpx2
from pydantic import ValidationError

from ktrdr_mcp.api.operations import OPERATIONS, RESOURCE_STATES, TERMINAL, Operation
from ktrdr_mcp.errors import (
    Draining,
    KtrdrError,
    LabUnavailable,
    NotFound,
    Unauthorized,
    error_of,
)
from ktrdr_mcp.ownership.address import DaemonAddress, prove
from ktrdr_mcp.schemas import requests, responses, service
from ktrdr_mcp.schemas.config import Strict
from ktrdr_mcp.schemas.service import CODE_PATH, OnProgress

Answer = TypeVar("Answer", bound=responses.Reply)
Read = TypeVar("Read")
Locate = Callable[[], DaemonAddress | None]
Find = Callable[[], Awaitable[DaemonAddress]]  # waits for it, or starts it

# What handing a connection to a request costs grows with the connections there are, so that a
# burst of polls on hundreds of them takes several times as long as on a few.
POLLS_AT_ONCE: Final = 8
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 120.0  # the first bars of a large file take their time
READ_TIMEOUT_S: Final = 30.0  # whatever only reads what is known; a busy machine may take seconds
SIGN_INTERVAL_S: Final = 5.0  # between looks whether a service that takes long is stuck
SIGN_TIMEOUT_S: Final = 15.0  # of health and stop, which cost it nothing
MAX_PROOF_BYTES: Final = 4096
NOTHING_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)
# answers of a process that did nothing: it listens at a place that was the owner's, or ends
NOTHING_DONE: Final = frozenset({Unauthorized.http_status, Draining.http_status})

START_ANEW: Final = "start a new ktrdr-mcp process, then look with list_training_tasks"
CALL_AGAIN: Final = "the next call starts it again; look with list_training_tasks"


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


def unavailable(reason: str, remedy: str = START_ANEW) -> LabUnavailable:
    """The refusal when the other process does not answer."""
    return LabUnavailable(
        f"The service of this workspace does not answer: {reason}.",
        hint="The process that owns the workspace has ended or is ending. What was acknowledged is"
        f" kept; {remedy}.",
    )


class Stuck(LabUnavailable):
    """The owner's process lives and does not answer."""


def stuck(address: DaemonAddress) -> Stuck:
    """The refusal when the owner takes requests and says nothing."""
    return Stuck(
        f"The service of this workspace, process {address.pid}, is alive but does not answer.",
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
    return httpx2.Timeout(answer_s, connect=CONNECT_TIMEOUT_S)


class ProvingBackend(httpcore2.AnyIOBackend):
    """Connects only to processes that prove who they are, before anything else is sent.

    Each connection is proven, because a port can be another process's a moment later.
    """

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, int], str] = {}  # by host and port; of others, none is asked

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the owner. Raises ConnectError if it cannot prove that it is that."""
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        secret = self.secrets.get((host, port))
        try:
            if secret is not None:
                await require_proof(stream, host, secret)
        except BaseException:
            await stream.aclose()
            raise
        return stream


async def require_proof(stream: httpcore2.AsyncNetworkStream, host: str, secret: str) -> None:
    """Asks whoever is at the other end for a proof, as the first request of a connection.

    Raises:
        ConnectError: it does not know the secret of the address.
    """
    challenge, reply = secrets.token_hex(16), b""
    line = f"GET {service.PROOF_PATH}?{challenge} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    try:
        await stream.write(line.encode(), SIGN_TIMEOUT_S)
        while not reply.endswith(b"}") and len(reply) < MAX_PROOF_BYTES:
            part = await stream.read(MAX_PROOF_BYTES, SIGN_TIMEOUT_S)
            if not part:
                break
            reply += part
        proof = json.loads(reply.partition(b"\r\n\r\n")[2])["proof"]
    except (httpcore2.ReadError, httpcore2.WriteError, ValueError, KeyError, TypeError) as error:
        raise httpcore2.ConnectError("something else listens there") from error
    if not secrets.compare_digest(str(proof).encode(), prove(secret, challenge).encode()):
        raise httpcore2.ConnectError("another process listens there")


class ProvenTransport(httpx2.AsyncHTTPTransport):
    """The HTTP client's transport over proven connections.

    Args:
        backend: makes them.
    """

    def __init__(self, backend: ProvingBackend) -> None:
        super().__init__(verify=False)  # nothing is encrypted there
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=None, max_keepalive_connections=20, network_backend=backend
        )


class Connection:
    """Sends requests to the owner of a workspace and finds it again when it has moved or ended.

    Args:
        locate: gives its address; asked again when it has moved.
        find: asked instead, where a service that has ended is to be started again.
    """

    def __init__(self, locate: Locate, find: Find | None = None) -> None:
        self._locate = locate
        self._find = find
        self.address = None if find else locate()  # None: to be looked for
        self._last = self.address
        self._backend = ProvingBackend()
        self._client_name = secrets.token_hex(8)
        self._client = httpx2.AsyncClient(
            transport=ProvenTransport(self._backend),
            trust_env=False,  # a proxy has no business on the loopback
            timeout=timeout(ANSWER_TIMEOUT_S),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def response(
        self, method: str, path: str, **content: Any
    ) -> AsyncIterator[httpx2.Response]:
        """The response to a request, its body still to be read. Raises KtrdrError."""
        try:
            response = await self._send_anywhere(method, path, **content)
            try:
                if not response.is_success:
                    raise error_in(await response.aread())
                yield response
            finally:
                await response.aclose()
        except httpx2.TransportError as error:
            raise self._describe_break(error) from error
        except LabUnavailable:
            self._forget()
            raise

    async def ping(self, owner: DaemonAddress) -> None:
        """Makes a request of an owner, if it is still there."""
        with suppress(httpx2.TransportError):
            await self._sign(owner)

    async def give_up_if_stuck(self, call: Coroutine[Any, Any, Read]) -> Read:
        """The result of a call that may take long, unless the owner gets stuck meanwhile.

        Args:
            call: the call, made over this connection.
        Raises:
            LabUnavailable: the owner gave no sign of life in time; Stuck if its process is there.
            KtrdrError: as the call.
        """
        answer, looking = asyncio.create_task(call), asyncio.create_task(self._wait_until_stuck())
        try:
            await asyncio.wait({answer, looking}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise self._describe_break(looking.result())
        finally:
            for task in (answer, looking):
                task.cancel()
            await asyncio.gather(answer, looking, return_exceptions=True)

    async def _wait_until_stuck(self) -> httpx2.TimeoutException:
        """Returns once the owner that was asked last gives no sign of life in time."""
        while True:
            await asyncio.sleep(SIGN_INTERVAL_S)
            if (owner := self._last) is not None:
                try:
                    await self._sign(owner)
                except httpx2.TimeoutException as silence:
                    return silence
                except httpx2.TransportError:
                    pass  # the call breaks too, and tells of it

    async def _sign(self, owner: DaemonAddress) -> None:
        """Waits for a sign of life. Raises TransportError."""
        sign = await self._send(owner, "GET", "/health", timeout=timeout(SIGN_TIMEOUT_S))
        await sign.aread()

    def _forget(self) -> None:
        """Lets the next call look for the owner first, where it can be started again."""
        if self._find is not None:
            self.address = None

    def _describe_break(self, error: httpx2.TransportError) -> LabUnavailable:
        """What a broken connection means."""
        self._forget()
        if isinstance(error, httpx2.TimeoutException) and self._last and is_alive(self._last.pid):
            return stuck(self._last)
        return unavailable(type(error).__name__, CALL_AGAIN if self._find else START_ANEW)

    async def _send_anywhere(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """The response, from the owner's new place if it has moved."""
        if self.address is None:
            await self._has_moved(None)
        tried = self.address
        if tried is None:
            raise unavailable("it has not said where it is")
        try:
            response = await self._send(tried, method, path, **content)
        except httpx2.TransportError as error:
            # Nothing was sent, or nothing can have been changed by it.
            repeatable = method == "GET" or isinstance(error, NOTHING_SENT)
            if not repeatable or not await self._has_moved(tried):
                raise
        else:
            if response.status_code not in NOTHING_DONE:
                return response
            await response.aread()
            if not await self._has_moved(tried):
                return response
        return await self._send(self.address or tried, method, path, **content)

    async def _send(
        self, address: DaemonAddress, method: str, path: str, **content: Any
    ) -> httpx2.Response:
        """The response of the process at an address, its body still to be read."""
        url = httpx2.URL(address.url)
        if address.secret is not None and url.port is not None:
            self._backend.secrets[url.host, url.port] = address.secret
        head = {"Accept": "application/json"}
        if address.token is not None:
            head["Authorization"] = f"Bearer {address.token}"
        if address.instance is not None:
            head[service.INSTANCE] = address.instance
        head[service.CLIENT] = self._client_name
        request = self._client.build_request(method, url.join(path), headers=head, **content)
        return await self._client.send(request, stream=True)

    async def _has_moved(self, tried: DaemonAddress | None) -> bool:
        """Looks for the owner again, unless another call has found it meanwhile.

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
    return error_of(
        {"code": told.code, "message": told.message, "hint": told.hint, "field": told.field}
    )
