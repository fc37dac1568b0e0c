"""Serving in the foreground: MCP over standard input and output, or HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NoReturn

from ktrdr_mcp.daemon.connection import Connector, connect, stop_daemon
from ktrdr_mcp.daemon.executors import Place
from ktrdr_mcp.daemon.reading import RefusingService, read_workspace, why_only_read
from ktrdr_mcp.daemon.server import application, serve_workspace, settle
from ktrdr_mcp.daemon.signals import end_at_internal_errors, end_at_once, end_process, termination
from ktrdr_mcp.errors import InvalidRequest, KtrdrError, StorageError, quote
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.service import ServiceProtocol

if TYPE_CHECKING:
    import socket

    from ktrdr_mcp.api.http.guard import Rules

log = logging.getLogger(__name__)


async def serve_stdio(workspace: Workspace, *, in_process: bool = False) -> NoReturn:
    """Serves MCP over standard input and output until the client leaves or a signal comes.

    The service is in another process, which goes on. Ends the process itself: the thread that reads
    standard input cannot be interrupted, and with the service in here, a thread inside a step of
    torch would abort the interpreter's own exit.

    Args:
        workspace: the folder to serve.
        in_process: run the service in this process if nobody owns the workspace.
    """
    from ktrdr_mcp.api.logs import configure_logging

    configure_logging()
    stopped = asyncio.ensure_future(termination())
    reason = only_read(workspace)
    if reason is None and not in_process:
        async with Connector(workspace) as connector:
            connector.begin()
            await asyncio.sleep(0)  # so that the daemon starts while this process imports
            end_process(await speak(connector.service, stopped))
    if reason is not None:
        end_process(await speak_of_what_is_read(workspace, reason, stopped))
    begun = end_at_once(stopped)
    with end_at_internal_errors():
        async with connect(workspace, in_process=True, begun=begun) as service:
            begun()  # also where another process has the service
            code = await speak(service, stopped)
    end_process(code)


def only_read(workspace: Workspace) -> StorageError | None:
    """Why a workspace is only read, if it is; a broken one says so at the first call."""
    with contextlib.suppress(KtrdrError):
        return why_only_read(workspace)
    return None


async def speak_of_what_is_read(
    workspace: Workspace, reason: StorageError, stopped: asyncio.Future[None]
) -> int:
    """Answers the client out of a workspace that is only read; returns the exit code."""
    service: ServiceProtocol
    async with AsyncExitStack() as stack:
        try:
            service = await stack.enter_async_context(read_workspace(workspace, reason))
        except KtrdrError as error:  # which the agent hears at its first call
            service = RefusingService(error)
        return await speak(service, stopped)


async def speak(service: ServiceProtocol, stopped: asyncio.Future[None]) -> int:
    """Answers the client until it leaves or the future is done; returns the exit code."""
    from ktrdr_mcp.api.mcp.server import build_server

    server = build_server(service)
    settle()
    serving = asyncio.ensure_future(server.run_stdio_async())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done() and serving.exception() is not None:
        log.error("the protocol stream broke", exc_info=serving.exception())
        return 1
    return 0


async def serve_http(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = 8000,
    rules: Rules | None = None,
    executor: Place | None = None,
) -> NoReturn:
    """Serves HTTP, and MCP at /mcp, until a signal comes; then ends the process.

    A daemon of this workspace is ended first.

    Args:
        workspace: the folder to own and to serve.
        host: the address to listen on; one that other machines reach needs a token.
        port: 0 takes a free one.
        rules: who may come in; by default everyone who reaches the port.
        executor: where trainings run; see serve_workspace.
    Raises:
        InvalidRequest: the address cannot be used, or needs a token.
        WorkspaceLocked: another process owns the workspace.
        StorageError: it cannot be read or written.
    """
    from ktrdr_mcp.api.http import guard
    from ktrdr_mcp.api.http import server as http_server
    from ktrdr_mcp.api.logs import configure_logging

    rules = rules or guard.Rules()
    if rules.token is None and not http_server.is_loopback(host):
        raise InvalidRequest(
            f"{quote(host)} can be reached from other machines, so it needs a token.",
            hint="Add --token-file FILE, or leave --host out.",
        )
    listener = http_server.listen(host, port)
    configure_logging()
    stopped = asyncio.ensure_future(termination())
    if (reason := why_only_read(workspace)) is not None:
        end_process(await serve_what_is_read(workspace, reason, rules, listener, stopped))
    begun = end_at_once(stopped)
    if (owner := await stop_daemon(workspace)) is not None:
        log.info("Takes over from the daemon, process %d", owner.pid)
    with end_at_internal_errors():
        async with serve_workspace(
            workspace, rules, listener, kind="serve", begun=begun, executor=executor
        ):
            settle()
            log.info("Serving at %s, documentation at /docs", http_server.url_of(listener))
            if rules.token is None:
                log.warning(
                    "There is no token: any user of this machine may use the server. Start it with"
                    " --token-file FILE to ask for one."
                )
            await stopped
    end_process(0)


async def serve_what_is_read(
    workspace: Workspace,
    reason: StorageError,
    rules: Rules,
    listener: socket.socket,
    stopped: asyncio.Future[None],
) -> int:
    """Serves a workspace that is only read, until a signal comes; returns the exit code."""
    from ktrdr_mcp.api.http import server as http_server
    from ktrdr_mcp.api.http.server import RequestLog

    log.warning("%s %s", reason.message, reason.hint)
    async with read_workspace(workspace, reason) as service:
        door, running = application(service, rules)
        async with http_server.serving(RequestLog(door), listener), running:
            log.info("Serving at %s, documentation at /docs", http_server.url_of(listener))
            await stopped
    return 0
