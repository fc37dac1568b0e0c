"""Opens a workspace in this process and serves it to other processes over loopback HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from ktrdr_mcp.daemon.signals import end_process
from ktrdr_mcp.errors import KtrdrError, StorageError
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.lock import Ownership, ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.service import ServiceProtocol

if TYPE_CHECKING:
    import socket

    from ktrdr_mcp.api.http.guard import Rules
    from ktrdr_mcp.api.http.presence import Presence
    from ktrdr_mcp.context import Context
    from ktrdr_mcp.jobs.queue import JobManager
    from ktrdr_mcp.schemas.results import Json
    from ktrdr_mcp.store.db import Database
    from ktrdr_mcp.store.task_row import TaskRow
    from ktrdr_mcp.store.tasks import TaskStore


def settle() -> None:
    """Exempts what has been imported until now from garbage collection.

    It lives as long as the process. A full collection that looks at it holds every thread for about
    a fifth of a second once torch and pandas are loaded: for a status call and for a training.
    """
    gc.freeze()


@dataclass
class OpenWorkspace:
    """A running laboratory and how it ended."""

    lab: ServiceProtocol
    manager: JobManager
    tasks: TaskStore
    ownership: Ownership
    drain: Callable[[], Awaitable[None]]  # ends all runs; questions are still answered

    async def has_work(self) -> bool:
        """Whether a task runs or waits."""
        return self.manager.running > 0 or "pending" in await self.tasks.counts()


@asynccontextmanager
async def open_workspace(workspace: Workspace) -> AsyncIterator[OpenWorkspace]:
    """The laboratory of a workspace, owned by this process until the block ends.

    Args:
        workspace: the folder; made if it is missing.
    Raises:
        WorkspaceLocked: another process owns it.
        StorageError: it cannot be read or written.
    """
    with ownership(workspace) as owned:
        from ktrdr_mcp.store.db import Database

        # First, because a database that cannot be used is refused sooner so.
        async with (
            await Database.open(workspace.database) as database,
            assemble(workspace, database, owned) as opened,
        ):
            yield opened


@asynccontextmanager
async def assemble(
    workspace: Workspace, database: Database, owned: Ownership
) -> AsyncIterator[OpenWorkspace]:
    """The laboratory over an open database, until the block ends. Raises StorageError."""
    # Only now, because these need torch and pandas, which take seconds to import.
    from ktrdr_mcp.jobs.executors.threads import ThreadExecutor, configure_process, load_torch

    configure_process()
    await anyio.to_thread.run_sync(load_torch)
    from ktrdr_mcp.data.catalog import BarCatalog
    from ktrdr_mcp.evaluation import baselines
    from ktrdr_mcp.jobs.queue import JobManager
    from ktrdr_mcp.service import reconciliation, training
    from ktrdr_mcp.service.service import Service
    from ktrdr_mcp.store.stores import Stores
    from ktrdr_mcp.training import estimate, pipeline

    sources = BarCatalog(workspace)

    def run(spec: Json, directory: Path, context: Context) -> Json:
        return pipeline.run(spec, directory, context, sources).to_json()

    def prepare(task: TaskRow) -> None:
        training.keep_request(workspace, task)

    def clean_up(task_id: str) -> None:
        reconciliation.discard_checkpoints(workspace, task_id)

    await anyio.to_thread.run_sync(baselines.load)
    measured = await anyio.to_thread.run_sync(estimate.measure)
    stores = Stores.of(database)
    await reconciliation.recover(workspace, stores)
    async with AsyncExitStack() as jobs:
        manager = await jobs.enter_async_context(
            JobManager(
                stores.tasks, ThreadExecutor(run), workspace.bundle_directory, clean_up, prepare
            )
        )
        lab = Service(workspace, stores, manager, sources, measured)
        yield OpenWorkspace(lab, manager, stores.tasks, owned, jobs.aclose)


WATCH_S: Final = 0.5

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watching_ownership(
    workspace: Workspace, owned: Ownership, place: address.DaemonAddress
) -> Iterator[None]:
    """Looks after a laboratory until the block ends, in a thread that a busy loop does not delay.

    Args:
        workspace: what it owns.
        owned: its lock.
        place: the address that it has written.
    """
    leaving, looking = threading.Event(), threading.Lock()

    def watch() -> None:
        while not leaving.wait(WATCH_S):
            with looking:
                if not leaving.is_set():
                    watch_ownership(workspace, owned, place)

    thread = threading.Thread(target=watch, name="lock-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with looking:  # nothing writes the address once it has been taken back
            leaving.set()
        thread.join()


def watch_ownership(workspace: Workspace, owned: Ownership, place: address.DaemonAddress) -> None:
    """Writes an address anew that was changed, so that others find the laboratory.

    A detached one whose lock, address or workspace is gone ends instead, at once and without a
    drain: another process may own the workspace by now, and nobody else would end this one.
    """
    lasts = owned.lasts()
    if place.kind == "detached" and not (lasts and address.file_of(workspace).exists()):
        log.error("The laboratory's lock or address is gone, and so it ends at once")
        end_process(1)
    if lasts and address.read(workspace) != place:
        with contextlib.suppress(KtrdrError):  # at the next look, then
            address.write(workspace, place)
            log.warning("The laboratory's address was changed, and is written anew")


@dataclass
class ServedWorkspace(OpenWorkspace):
    """A running laboratory that others may be working with."""

    presence: Presence
    place: address.DaemonAddress  # what it has told others


@asynccontextmanager
async def serve_workspace(
    workspace: Workspace,
    rules: Rules | None = None,
    listener: socket.socket | None = None,
    *,
    kind: address.Kind = "in_process",
    stop: Callable[[], None] | None = None,
    begun: Callable[[], None] = lambda: None,
) -> AsyncIterator[ServedWorkspace]:
    """The laboratory of a workspace, open to other processes over HTTP until the block ends.

    Args:
        workspace: the folder; made if it is missing.
        rules: who may come in; by default whoever can read the token in the workspace.
        listener: where to listen; by default on the loopback, on a free port.
        kind: how this process came to be.
        stop: called when another process asks for the end; by default none may.
        begun: called before work can begin; until then, the process may end at any step.
    Raises:
        WorkspaceLocked: another process owns it.
        StorageError: it cannot be read or written.
    """
    async with open_workspace(workspace) as opened:
        begun()
        # Only now, because a process that is refused or works through another needs none of it.
        from mcp.server.transport_security import TransportSecuritySettings

        from ktrdr_mcp.api.http import app, guard
        from ktrdr_mcp.api.http import server as http_server
        from ktrdr_mcp.api.http.presence import Presence, owner_routes
        from ktrdr_mcp.api.mcp.tools import build_server

        rules = rules or guard.Rules(token=secrets.token_urlsafe(32))
        listener = listener or http_server.listen("127.0.0.1", 0)
        url = http_server.url_of(listener)
        # a number is no name that a page could point elsewhere, and fronts come by it
        hosts = rules.hosts | {url.removeprefix("http://")}
        rules = replace(rules, instance=address.new_instance(), hosts=hosts)
        closing = asyncio.Event()
        server = build_server(opened.lab)
        ours = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard does it
        mcp = server.streamable_http_app(transport_security=ours).routes
        door = app.build_api(opened.lab, rules, [*mcp, *owner_routes(closing, stop)]).guard
        door.app = presence = Presence(door.app)
        place = address.DaemonAddress(url, rules.token, kind=kind, instance=rules.instance)
        async with http_server.serving(door, listener), server.session_manager.run():
            address.write(workspace, place)
            try:
                with watching_ownership(workspace, opened.ownership, place):
                    yield ServedWorkspace(**vars(opened), presence=presence, place=place)
            finally:
                # Who comes now waits for the next one. The next owner removes what cannot be
                # removed now, and nobody goes by the address of one that owns nothing.
                with contextlib.suppress(StorageError):
                    address.remove(workspace)
                closing.set()
                await opened.drain()
                door.closed = True
