"""Serving an ASGI application on a socket, inside a running event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ktrdr_mcp.api.http.replies import error_response
from ktrdr_mcp.errors import HostRefused, InvalidRequest, KtrdrError, Refused, shown

BACKLOG: Final = 2048
KEEP_ALIVE_S: Final = 75
LAST_REPLIES_S: Final = 1  # for replies under way when the server stops


class Protocol(H11Protocol):
    """HTTP/1.1 whose refusals of malformed requests have our shape too."""

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP and closes the connection."""
        reason = sys.exception()
        if reason is not None and "Host" in str(reason):
            refusal: KtrdrError = HostRefused(
                "The request needs exactly one Host header.", hint="Send one Host header."
            )
        else:
            refusal = Refused("The request is not well-formed HTTP/1.1.", hint="See /docs.")
        response = error_response(refusal)
        head = h11.Response(
            status_code=response.status_code,
            headers=[*response.raw_headers, (b"connection", b"close")],
        )
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
            f"The server cannot listen on {shown(host)} port {port}: {error.strerror}.",
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
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serves the application for as long as the block runs.

    Args:
        app: the application.
        listener: from `listen`; closed at the end.
    """
    server = Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_REPLIES_S,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
    try:
        yield
    finally:
        server.should_exit = True
        await running
