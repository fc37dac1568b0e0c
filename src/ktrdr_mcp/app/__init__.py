"""The only place where parts are put together: workspace, store, jobs, laboratory, faces."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio
import anyio.to_thread
import filelock

from ktrdr_mcp import durable
from ktrdr_mcp.context import Context
from ktrdr_mcp.contract import CONTRACT_VERSION, Lab
from ktrdr_mcp.errors import InvalidRequest, KtrdrError, LabUnavailable, WorkspaceLocked, shown
from ktrdr_mcp.jobs.executor import Work, configure_process, load_torch
from ktrdr_mcp.jobs.manager import JobManager
from ktrdr_mcp.lab import address
from ktrdr_mcp.paths import Workspace

if TYPE_CHECKING:
    from ktrdr_mcp.faces.guard import Rules
    from ktrdr_mcp.lab.remote import RemoteLab

LOCK: Final = "lab.lock"
OWNER_STARTS_S: Final = 30.0  # until the owner of a workspace says where it is
OWNER_POLL_S: Final = 0.1

log = logging.getLogger(__name__)


@dataclass
class OpenLab:
    """A running laboratory and how it ended."""

    lab: Lab
    manager: JobManager
    drain: Callable[[], Awaitable[None]]  # ends all runs; questions are still answered


@asynccontextmanager
async def open_lab(workspace: Workspace) -> AsyncIterator[OpenLab]:
    """The laboratory of a workspace, owned by this process until the block ends.

    Args:
        workspace: the folder; made if it is missing.
    Raises:
        WorkspaceLocked: another process owns it.
        StorageError: it cannot be read or written.
    """
    with ownership(workspace):
        configure_process()
        await anyio.to_thread.run_sync(load_torch)
        # Only now, because these need torch and pandas, which take seconds to import.
        from ktrdr_mcp.data.sources import BarSources
        from ktrdr_mcp.lab import recovery
        from ktrdr_mcp.lab.local import LocalLab
        from ktrdr_mcp.learn import speed
        from ktrdr_mcp.learn.judge import baselines
        from ktrdr_mcp.research import pipeline
        from ktrdr_mcp.store.db import Database
        from ktrdr_mcp.store.stores import Stores

        sources = BarSources(workspace)

        def run(spec: Mapping[str, Any], directory: Path, context: Context) -> dict[str, Any]:
            return pipeline.run(spec, directory, context, sources)

        def clean_up(task_id: str) -> None:
            recovery.clean_up(workspace, task_id)

        work = Work(run, workspace.bundle_directory, clean_up)
        await anyio.to_thread.run_sync(baselines.load)
        measured = await anyio.to_thread.run_sync(speed.measure)
        async with await Database.open(workspace.database) as database:
            stores = Stores.of(database)
            await recovery.recover(workspace, stores)
            async with AsyncExitStack() as jobs:
                manager = await jobs.enter_async_context(JobManager(stores.tasks, work))
                lab = LocalLab(workspace, stores, manager, sources, measured)
                yield OpenLab(lab, manager, jobs.aclose)


@asynccontextmanager
async def announced(
    workspace: Workspace, rules: Rules | None = None, listener: socket.socket | None = None
) -> AsyncIterator[OpenLab]:
    """The laboratory of a workspace, open to other processes over HTTP until the block ends.

    Args:
        workspace: the folder; made if it is missing.
        rules: who may come in; by default whoever can read the token in the workspace.
        listener: where to listen; by default on the loopback, on a free port.
    Raises:
        WorkspaceLocked: another process owns it.
        StorageError: it cannot be read or written.
    """
    async with open_lab(workspace) as opened:
        # Only now, because a process that is refused or works through another needs none of it.
        from mcp.server.transport_security import TransportSecuritySettings

        from ktrdr_mcp.faces import guard, http, http_server
        from ktrdr_mcp.faces.tools import build_server

        rules = rules or guard.Rules(token=secrets.token_urlsafe(32))
        listener = listener or http_server.listen("127.0.0.1", 0)
        server = build_server(opened.lab)
        ours = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard does it
        routes = server.streamable_http_app(transport_security=ours).routes
        face = http.build_face(opened.lab, rules, routes)
        url = http_server.url_of(listener)
        async with http_server.serving(face.guard, listener), server.session_manager.run():
            address.write(workspace, address.LabAddress(url, rules.token))
            try:
                yield opened
            finally:
                await opened.drain()
                face.guard.closed = True
                address.remove(workspace)


@asynccontextmanager
async def connect(workspace: Workspace) -> AsyncIterator[Lab]:
    """A laboratory to work with: the owner's, or one in this process if nobody owns the workspace.

    Args:
        workspace: the folder; made if it is missing.
    Raises:
        WorkspaceLocked: another process owns it and does not answer.
        LabUnavailable: the owner is of another version.
        StorageError: it cannot be read or written.
    """
    async with AsyncExitStack() as stack:
        yield await reach(workspace, stack)


async def reach(workspace: Workspace, stack: AsyncExitStack) -> Lab:
    """The laboratory of `connect`, to be left with the stack."""
    deadline = time.monotonic() + OWNER_STARTS_S
    while True:
        try:
            return (await stack.enter_async_context(announced(workspace))).lab
        except WorkspaceLocked:
            remote = await answering(workspace)
            if remote is not None:
                return await stack.enter_async_context(remote)
            if time.monotonic() > deadline:
                raise
        await anyio.sleep(OWNER_POLL_S)


async def answering(workspace: Workspace) -> RemoteLab | None:
    """The laboratory of the process that owns the workspace; None if it does not answer yet.

    Raises:
        LabUnavailable: it speaks another version of the contract.
    """
    from ktrdr_mcp.lab.remote import RemoteLab

    owner = address.read(workspace)
    if owner is None:
        return None
    remote = RemoteLab(lambda: address.read(workspace))
    try:
        health = await remote.health()
    except KtrdrError:  # an address that a crash left, or an owner that is about to end
        await remote.__aexit__(None, None, None)
        return None
    if health.contract_version.partition(".")[0] != CONTRACT_VERSION.partition(".")[0]:
        await remote.__aexit__(None, None, None)
        raise LabUnavailable(
            f"Process {owner.pid} owns this workspace and is version {health.version}.",
            hint="End that process, or use the same version of ktrdr-mcp.",
        )
    return remote


@contextmanager
def ownership(workspace: Workspace) -> Iterator[None]:
    """Holds the workspace's lock; the system frees it however the process ends.

    Args:
        workspace: the folder to own.
    Raises:
        WorkspaceLocked: another process owns it.
    """
    with durable.storage_errors("opening the workspace"):
        workspace.internal.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = filelock.FileLock(workspace.internal / LOCK, blocking=False)
    with durable.storage_errors("locking the workspace"):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise locked(workspace) from None
    try:
        address.remove(workspace)  # what a process that was killed left
        yield
    finally:
        lock.release()


def locked(workspace: Workspace) -> WorkspaceLocked:
    """The refusal that names the owner, if it has said who it is."""
    owner = address.read(workspace)
    who = f" (process {owner.pid}, since {owner.started_at})" if owner else ""
    return WorkspaceLocked(
        f"Another ktrdr-mcp process{who} owns this workspace.",
        hint="End that process, or choose another folder with --workspace.",
    )


async def serve_stdio(workspace: Workspace) -> NoReturn:
    """Serves MCP over standard input and output until the client leaves or a signal comes.

    Ends the process itself, once everything is stored and closed: the thread that reads standard
    input cannot be interrupted, and a thread inside a step of torch would abort the interpreter's
    own exit.

    Args:
        workspace: the folder to serve; if another process owns it, through that process.
    """
    from ktrdr_mcp.faces.logs import configure_logging
    from ktrdr_mcp.faces.tools import build_server

    configure_logging()
    stopped = asyncio.ensure_future(termination())
    async with connect(workspace) as lab:
        serving = asyncio.ensure_future(build_server(lab).run_stdio_async())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    failed = serving.done() and serving.exception() is not None
    if failed:
        log.error("the protocol stream broke", exc_info=serving.exception())
    end_process(1 if failed else 0)


async def serve_http(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
) -> NoReturn:
    """Serves HTTP, and MCP at /mcp, until a signal comes; then ends the process.

    Args:
        workspace: the folder to own and to serve.
        host: the address to listen on; one that other machines reach needs a token.
        port: 0 takes a free one.
        token: the bearer token to ask for.
        allow_hosts: further host names that requests may be addressed to.
        allow_origins: further origins of web pages that may send requests.
    Raises:
        InvalidRequest: the address cannot be used, or needs a token.
        WorkspaceLocked: another process owns the workspace.
        StorageError: it cannot be read or written.
    """
    from ktrdr_mcp.faces import guard, http_server
    from ktrdr_mcp.faces.logs import configure_logging

    if token is None and not http_server.is_loopback(host):
        raise InvalidRequest(
            f"{shown(host)} can be reached from other machines, so it needs a token.",
            hint="Add --token-file FILE, or leave --host out.",
        )
    rules = guard.make_rules(token, allow_hosts, allow_origins)
    listener = http_server.listen(host, port)
    configure_logging()
    stopped = asyncio.ensure_future(termination())
    async with announced(workspace, rules, listener):
        log.info("Serving at %s, documentation at /docs", http_server.url_of(listener))
        await stopped
    end_process(0)


def end_process(code: int) -> NoReturn:
    """Ends this process without waiting for threads; everything is stored and closed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def termination() -> None:
    """Returns on SIGTERM or SIGINT; a second one ends the process at once."""
    if os.name == "nt":  # no signal receivers there; closing standard input ends the server
        await asyncio.Event().wait()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return
