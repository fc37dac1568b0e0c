"""Serving an ASGI application on a socket, inside a running event loop.

Where the log is one of JSON lines, each request has a name and a line that says how it ended.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, cast

import h11
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ktrdr_mcp.api.http import guard
from ktrdr_mcp.api.http.replies import error_response
from ktrdr_mcp.api.logs import REQUEST_ID, REQUESTS
from ktrdr_mcp.errors import (
    HostRefused,
    InvalidRequest,
    KtrdrError,
    Refused,
    RequestTimeout,
    quote,
)

BACKLOG: Final = 2048  # connections that wait to be accepted
ACCEPTED_AT_ONCE: Final = 64  # of them, before any is looked at
KEEP_ALIVE_S: Final = 75
HEAD_TIMEOUT_S: Final = 10.0  # from a connection's, or a head's, first byte to the head's end
BODY_TIMEOUT_S: Final = 30.0  # from the end of the head to the end of the body
LINGER_TIMEOUT_S: Final = 2.0  # for what is still sent to a connection whose refusal is written
LINGER_BYTES: Final = 8 * 1024**2  # of that, which are read and dropped
LAST_REPLIES_S: Final = 1  # for replies under way when the server stops
MAX_CONNECTIONS: Final = 512
MIN_CONNECTIONS: Final = 16
RESERVED_DESCRIPTORS: Final = 192  # for the database, bundles, checkpoints and bars
WANTED_DESCRIPTORS: Final = 4096
REQUEST_ID_HEADER: Final = b"x-request-id"
REQUEST_ID_FORM: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
PROBES: Final = frozenset({"/health", "/ready", "/lab/proof"})  # asked every few seconds

log = logging.getLogger(REQUESTS)


def descriptor_limit() -> int:
    """How many descriptors this process may have open; raised as far as the system lets it."""
    if sys.platform == "win32":
        return WANTED_DESCRIPTORS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= WANTED_DESCRIPTORS:
        return WANTED_DESCRIPTORS
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if wanted > soft:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft


def most_connections() -> int:
    """How many connections may be open, so that whoever holds many takes nothing from the store."""
    left = descriptor_limit() - RESERVED_DESCRIPTORS - ACCEPTED_AT_ONCE
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, left))


class TooManyChunks(h11.RemoteProtocolError):
    """A body comes in more chunks than any that is worth reading."""


class BoundedConnection(h11.Connection):
    """A connection that counts the chunks of a body: each costs time, and uvicorn joins them."""

    _chunks = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """See h11. Raises TooManyChunks."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            if self._chunks > guard.MAX_CHUNKS:
                raise TooManyChunks("too many chunks")
        return event


class Lingering:
    """A transport that lets a client finish sending before it closes.

    To close a connection with bytes that nobody has read resets it, and a reset may overtake the
    reply that was written before. So while a request is not whole, closing only ends what is
    written; what still comes is dropped, up to a bound in bytes and time.

    Args:
        transport: the real one.
        conn: what is known of the request.
        loop: the event loop.
    """

    def __init__(
        self, transport: asyncio.Transport, conn: h11.Connection, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._conn = conn
        self._loop = loop
        self._left_bytes = LINGER_BYTES
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        """Everything but closing is the real one's."""
        return getattr(self._transport, name)

    @property
    def lingers(self) -> bool:
        """Whether what comes is to be dropped."""
        return self._timer is not None

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Closes: at once if the whole request was read, or if called again."""
        whole = self._conn.their_state not in {h11.SEND_BODY, h11.ERROR}
        if whole or self.is_closing() or not self._transport.can_write_eof():
            self.end()
            return
        self._timer = self._loop.call_later(LINGER_TIMEOUT_S, self.end)
        self._transport.write_eof()
        self._transport.resume_reading()

    def drop(self, size_bytes: int) -> None:
        """Counts bytes that are not looked at."""
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            self.end()

    def end(self) -> None:
        """Closes now."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()


class Protocol(H11Protocol):
    """HTTP/1.1 with bounds on connections and waiting, whose refusals have our shape too."""

    most_connections = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = BoundedConnection(h11.SERVER)
        self._timer: asyncio.TimerHandle | None = None
        self._awaits_head = True
        self._began = False  # the head that is awaited

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection; where there are too many, the oldest without a request ends."""
        self._lingering = Lingering(transport, self.conn, self.loop)
        super().connection_made(cast(asyncio.Transport, self._lingering))
        self._limit(HEAD_TIMEOUT_S)
        if len(self.connections) > self.most_connections:
            others = [each for each in self.connections if isinstance(each, Protocol)]
            idle = [each for each in others if each._awaits_head and each._timer is not None]
            oldest = min(idle, key=lambda each: each._timer.when() if each._timer else 0.0)
            oldest.transport.abort()
            self.connections.discard(oldest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._limit(None)
        self._lingering.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes, and limits how long the rest of a head or body may take."""
        if self._lingering.lingers:
            self._lingering.drop(len(data))
            return
        super().data_received(data)
        state = self.conn.their_state
        awaits_head = state is h11.IDLE
        if awaits_head and not (self._awaits_head and self._timer):
            self._limit(HEAD_TIMEOUT_S)
        elif state is h11.SEND_BODY and (self._awaits_head or not self._timer):
            self._limit(BODY_TIMEOUT_S)
        elif not awaits_head and state is not h11.SEND_BODY:
            self._limit(None)
        self._awaits_head, self._began = awaits_head, awaits_head

    def _limit(self, seconds: float | None) -> None:
        """Ends the connection after so long, instead of after what was said before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        """Ends a connection whose request does not come to its end."""
        self._timer = None
        if self._awaits_head and not self._began:
            self.transport.close()
            return
        self._refuse(
            RequestTimeout(
                "The request did not come to its end in time.",
                hint=f"Send the head within {HEAD_TIMEOUT_S:.0f} s and the body within"
                f" {BODY_TIMEOUT_S:.0f} s.",
            )
        )
        self._lingering.end()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP and closes the connection."""
        reason = sys.exception()
        if isinstance(reason, TooManyChunks):
            refusal: KtrdrError = guard.too_many_pieces()
        elif reason is not None and "Host" in str(reason):
            refusal = HostRefused(
                "The request needs exactly one Host header.", hint="Send one Host header."
            )
        else:
            refusal = Refused("The request is not well-formed HTTP/1.1.", hint="See /docs.")
        self._refuse(refusal)

    def _refuse(self, refusal: KtrdrError) -> None:
        """Answers with a refusal, unless an answer has begun, and closes the connection."""
        response = error_response(refusal)
        head = h11.Response(
            status_code=response.status_code,
            headers=[*response.raw_headers, (b"connection", b"close")],
        )
        with suppress(h11.LocalProtocolError):
            for part in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; connections that come from now on wait for the server.

    Args:
        host: an address, or localhost.
        port: 0 takes a free one.
    Raises:
        InvalidRequest: the address cannot be used.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            "127.0.0.1" if host == "localhost" else host, port, type=socket.SOCK_STREAM
        )[0]
        # asyncio turns Nagle's algorithm off only for sockets that name the protocol.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise InvalidRequest(
            f"The server cannot listen on {quote(host)} port {port}: {error.strerror}.",
            hint="Choose another --host or --port; --port 0 takes a free one.",
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address at which a process of this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(app: ASGIApp, *listeners: socket.socket) -> AsyncIterator[None]:
    """Serves the application for as long as the block runs.

    Args:
        app: the application.
        listeners: from `listen`; closed at the end.
    """

    class Bounded(Protocol):
        """The protocol with the bound that this process can afford."""

        most_connections = most_connections()

    server = Server(
        uvicorn.Config(
            app,
            http=Bounded,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=ACCEPTED_AT_ONCE,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_REPLIES_S,
        )
    )
    running = asyncio.create_task(server.serve(sockets=list(listeners)), name="http-server")
    try:
        yield
    finally:
        server.should_exit = True
        await running


class RequestLog:
    """Gives each request an id, which its reply and its lines of the log bear.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http" or not log.isEnabledFor(logging.INFO):
            return await self.app(scope, receive, send)
        request_id = given_id(scope) or secrets.token_hex(8)
        REQUEST_ID.set(request_id)
        begun, status = time.monotonic(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (REQUEST_ID_HEADER, request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        finally:
            path = scope["path"]
            if path not in PROBES or status != 200:
                fields = {"status": status, "ms": round(1_000 * (time.monotonic() - begun), 1)}
                log.info("%s %s", scope["method"], path, extra={"fields": fields})


def given_id(scope: Scope) -> str | None:
    """The id that a client or a proxy gave the request, if it is one."""
    given = [value for name, value in scope["headers"] if name == REQUEST_ID_HEADER]
    if len(given) == 1 and REQUEST_ID_FORM.fullmatch(given[0]):
        return str(given[0].decode())
    return None
