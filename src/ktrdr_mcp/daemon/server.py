"""Opens a workspace in this process and serves it to other processes over loopback HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import anyio.lowlevel
import anyio.to_thread

from ktrdr_mcp.daemon.executors import Place, executor_name, make_executor, place_of
from ktrdr_mcp.daemon.signals import end_process
from ktrdr_mcp.errors import KtrdrError, LimitExceeded, StorageError
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.ownership.lock import Ownership, ownership
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.service import ServiceProtocol

if TYPE_CHECKING:
    import socket

    from starlette.routing import BaseRoute

    from ktrdr_mcp.api.http.guard import Guard, Rules
    from ktrdr_mcp.api.http.presence import Activity
    from ktrdr_mcp.daemon.executors import Compute
    from ktrdr_mcp.jobs.executors.processes import WorkerState
    from ktrdr_mcp.jobs.queue import JobManager
    from ktrdr_mcp.service.service import Service
    from ktrdr_mcp.store.db import Database
    from ktrdr_mcp.store.stores import Stores
    from ktrdr_mcp.store.task_row import TaskRow
    from ktrdr_mcp.store.tasks import TaskStore


NO_MEMORY: Final = ("failed to map segment", "annot allocate memory")  # of the system's loader


def settle() -> None:
    """Exempts what has been imported until now from garbage collection, which may begin.

    It lives as long as the process. A full collection that looks at it holds every thread for about
    a fifth of a second once torch and pandas are loaded: for a status call and for a training.
    """
    gc.freeze()
    gc.enable()


@dataclass
class OpenWorkspace:
    """The service of a workspace that this process owns, and how it ends."""

    service: ServiceProtocol
    manager: JobManager
    tasks: TaskStore
    ownership: Ownership
    drain: Callable[[], Awaitable[None]]  # ends all runs; questions are still answered
    workers: Callable[[], list[WorkerState]]  # processes that compute now
    fetches: Callable[[], int]  # how many run or wait

    async def has_work(self) -> bool:
        """Whether a task runs or waits."""
        return (
            self.manager.running > 0 or self.fetches() > 0 or "pending" in await self.tasks.counts()
        )


@asynccontextmanager
async def open_workspace(
    workspace: Workspace, executor: Place = "threads"
) -> AsyncIterator[OpenWorkspace]:
    """The service of a workspace, owned by this process until the block ends.

    Args:
        workspace: the folder; made if it is missing.
        executor: where trainings run.
    Raises:
        WorkspaceLocked: another process owns it.
        WorkspaceNotTrusted: somebody else may have made it.
        StorageError: it cannot be read or written.
    """
    with ownership(workspace) as owned:
        from ktrdr_mcp.store.db import Database

        # First, because a database that cannot be used is refused sooner so.
        async with (
            await Database.open(workspace.database) as database,
            assemble(workspace, database, owned, executor) as opened,
        ):
            yield opened


@contextlib.contextmanager
def memory_to_load() -> Iterator[None]:
    """Says so where there is not enough memory to load torch. Raises LimitExceeded."""
    try:
        yield
    except (ImportError, MemoryError, OSError) as error:
        told = any(each in str(error) for each in NO_MEMORY)
        if not told and not isinstance(error, MemoryError):
            raise
        raise LimitExceeded(
            "There is not enough memory to load torch.",
            hint="Let this process have 2 GB or more of memory and of address space: see ulimit -v,"
            " and the limits of the container.",
        ) from error


async def build_service(
    workspace: Workspace, stores: Stores, executor: Place = "threads"
) -> tuple[Service, JobManager, Compute]:
    """The service over an open database, what runs its tasks once entered, and what computes."""
    # Only now, because these need pandas, and threads torch, which take seconds to import.
    with memory_to_load():
        compute = await anyio.to_thread.run_sync(make_executor, executor, workspace)
    if any(workspace.models.glob("*/*_v*")):  # which are probably asked next
        compute.warm()
        await anyio.lowlevel.checkpoint()  # it starts while this process goes on importing
    from ktrdr_mcp.data.catalog import BarCatalog
    from ktrdr_mcp.jobs.queue import JobManager
    from ktrdr_mcp.service import reconciliation, resources, training
    from ktrdr_mcp.service.service import Service
    from ktrdr_mcp.store.task_row import TaskSketches

    sources = BarCatalog(workspace)

    async def prepare(task: TaskRow) -> None:
        try:
            sketches = await stores.trial_log.sketches_of(task.task_id)
        except KtrdrError as error:  # no reason not to train
            log.warning("task %s: its sketches are not kept: %s", task.task_id, error.message)
            sketches = TaskSketches()
        await anyio.to_thread.run_sync(training.keep_request, workspace, task, sketches)

    loop = asyncio.get_running_loop()

    def clean_up(task_id: str) -> None:
        loop.call_soon_threadsafe(service.note_end)
        reconciliation.discard_checkpoints(workspace, task_id)

    manager = JobManager(
        stores.tasks,
        compute.executor,
        workspace.bundle_directory,
        clean_up,
        prepare,
        partial(resources.keep_epochs, workspace),
    )
    service = Service(workspace, stores, manager, sources, compute.calls, compute.speed)
    return service, manager, compute


@asynccontextmanager
async def assemble(
    workspace: Workspace, database: Database, owned: Ownership, executor: Place
) -> AsyncIterator[OpenWorkspace]:
    """The service over an open database, until the block ends. Raises StorageError."""
    from ktrdr_mcp.store.stores import Stores

    stores = Stores.of(database)
    service, manager, compute = await build_service(workspace, stores, executor)
    from ktrdr_mcp.service import reconciliation

    await reconciliation.recover(workspace, stores)
    try:
        async with AsyncExitStack() as jobs:
            await jobs.enter_async_context(manager)
            await jobs.enter_async_context(service.recording())
            await service.fetches.open()
            jobs.push_async_callback(service.fetches.close)
            yield OpenWorkspace(
                service,
                manager,
                stores.tasks,
                owned,
                jobs.aclose,
                compute.workers,
                lambda: service.fetches.running,
            )
    finally:
        await compute.close()


WATCH_INTERVAL_S: Final = 0.5

log = logging.getLogger(__name__)


async def watch_ownership(workspace: Workspace, owned: Ownership, place: DaemonAddress) -> None:
    """Looks after lock and address for as long as this process serves."""
    while True:
        await anyio.sleep(WATCH_INTERVAL_S)
        check_ownership(workspace, owned, place)


def check_ownership(workspace: Workspace, owned: Ownership, place: DaemonAddress) -> None:
    """Sees to it that others find this process, or none.

    An address that was changed is written anew. A detached daemon whose lock, address or workspace
    is gone ends at once and without a drain: another process may own the workspace by now, and
    nobody else would end this one.
    """
    lasts = owned.lasts()
    if place.kind == "detached" and not (lasts and address.file_of(workspace).exists()):
        log.error("The lock or the address of this daemon is gone, and so it ends at once")
        end_process(1)
    if lasts and address.read(workspace) != place:
        with contextlib.suppress(KtrdrError):  # at the next look, then
            address.write(workspace, place)
            log.warning("The address of this daemon was changed, and is written anew")


@dataclass
class ServedWorkspace(OpenWorkspace):
    """An open workspace that other processes may be working with."""

    activity: Activity
    place: DaemonAddress  # what others read


@asynccontextmanager
async def serve_workspace(
    workspace: Workspace,
    rules: Rules | None = None,
    listener: socket.socket | None = None,
    *,
    kind: address.Kind = "in_process",
    stop: Callable[[], None] | None = None,
    begun: Callable[[], None] = lambda: None,
    executor: Place | None = None,
) -> AsyncIterator[ServedWorkspace]:
    """The service of a workspace, open to other processes over HTTP until the block ends.

    Args:
        workspace: the folder; made if it is missing.
        rules: who may come in; by default whoever can read the token in the workspace.
        listener: where to listen; by default on the loopback, on a free port.
        kind: how this process came to be.
        stop: called when another process asks for the end; by default none may.
        begun: called before work can begin; until then, the process may end at any step.
        executor: where trainings run; by default as KTRDR_EXECUTOR says, else in processes, or in
            threads where all is to stay in this process.
    Raises:
        InvalidRequest: KTRDR_EXECUTOR names no executor, or a cluster has no address.
        LabUnavailable: the cluster cannot be joined.
        WorkspaceLocked: another process owns it.
        WorkspaceNotTrusted: somebody else may have made it.
        StorageError: it cannot be read or written.
    """
    default: Literal["threads", "processes"] = "threads" if kind == "in_process" else "processes"
    chosen = executor or place_of(executor_name(default))
    async with open_workspace(workspace, chosen) as opened:
        begun()
        # Only now, because a process that is refused or works through another needs none of it.
        from ktrdr_mcp.api.http import guard
        from ktrdr_mcp.api.http import server as http_server
        from ktrdr_mcp.api.http.presence import Activity, Prover, owner_routes
        from ktrdr_mcp.api.http.server import RequestLog
        from ktrdr_mcp.schemas import responses

        rules = rules or guard.Rules(token=secrets.token_urlsafe(32))
        listeners = [listener or http_server.listen("127.0.0.1", 0)]
        if not address.is_loopback(listeners[0].getsockname()[0]):
            # what other processes of this machine read is an address of this machine alone
            listeners.append(http_server.listen("127.0.0.1", 0))
        url = http_server.url_of(listeners[-1])
        # a number is no name that a page could point elsewhere, and our own clients come by it
        hosts = rules.hosts | {url.removeprefix("http://")}
        rules = replace(rules, instance=address.new_instance(), hosts=hosts)

        def workers() -> list[responses.ShownWorker]:
            return [responses.ShownWorker(**asdict(each)) for each in opened.workers()]

        secret, closing = secrets.token_hex(32), asyncio.Event()
        door, running = application(opened.service, rules, owner_routes(closing, stop, workers))
        door.app = activity = Activity(door.app)
        place = DaemonAddress(url, rules.token, kind=kind, instance=rules.instance, secret=secret)
        logged = RequestLog(Prover(door, secret))
        async with http_server.serving(logged, *listeners), running:
            address.write(workspace, place)
            watch = asyncio.create_task(watch_ownership(workspace, opened.ownership, place))
            try:
                yield ServedWorkspace(**vars(opened), activity=activity, place=place)
            finally:
                watch.cancel()  # nothing writes the address once it has been taken back
                await asyncio.gather(watch, return_exceptions=True)
                # Who comes now waits for the next one. The next owner removes what cannot be
                # removed now, and nobody goes by the address of one that owns nothing.
                with contextlib.suppress(StorageError):
                    address.remove(workspace)
                closing.set()
                await opened.drain()
                door.closed = True


def application(
    service: ServiceProtocol, rules: Rules, routes: Sequence[BaseRoute] = ()
) -> tuple[Guard, AbstractAsyncContextManager[None]]:
    """The HTTP application of a service with MCP in it, and what must run beside it."""
    from mcp.server.transport_security import TransportSecuritySettings

    from ktrdr_mcp.api.http import app
    from ktrdr_mcp.api.mcp.server import build_server

    server = build_server(service)
    ours = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard does it
    mcp = server.streamable_http_app(transport_security=ours).routes
    return app.build_api(service, rules, [*mcp, *routes]).guard, server.session_manager.run()
