"""Finds the daemon of a workspace, launches it where there is none, and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final, Literal, Self

import anyio

from ktrdr_mcp import __version__
from ktrdr_mcp.api.client import ServiceClient, Stuck
from ktrdr_mcp.daemon import launch
from ktrdr_mcp.daemon.log import LOG_HINT, log_size
from ktrdr_mcp.daemon.process import idle_limit_s
from ktrdr_mcp.daemon.reading import read_workspace, why_only_read
from ktrdr_mcp.daemon.server import serve_workspace
from ktrdr_mcp.errors import KtrdrError, LabUnavailable, WorkspaceLocked
from ktrdr_mcp.ownership import address, trust
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.ownership.lock import is_owned, workspace_locked
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import CONTRACT_VERSION
from ktrdr_mcp.schemas.service import ServiceProtocol

POLL_INTERVAL_S: Final = 0.05
STOP_TIMEOUT_S: Final = 15.0  # it drains for at most ten
START_TIMEOUT_S: Final = 45.0  # of the minute that clients wait; until the owner says where it is
MAX_LAUNCHES: Final = 5  # of processes that found another one first, which then ended
PING_INTERVAL_S: Final = 60.0
MIN_PING_INTERVAL_S: Final = 0.5
PINGS_WITHIN_IDLE: Final = 3  # where the daemon ends sooner than after some minutes


@asynccontextmanager
async def connect(
    workspace: Workspace, *, in_process: bool = False, begun: Callable[[], None] = lambda: None
) -> AsyncIterator[ServiceProtocol]:
    """A service to work with, until the block ends.

    Args:
        workspace: the folder; made if it is missing.
        in_process: run it here if nobody owns the workspace, rather than in a process of its own.
        begun: called before work can begin in this process; see `end_at_once`.
    Raises:
        WorkspaceLocked: another process owns it and does not answer.
        LabUnavailable: the owner is of another version, or none can be started.
        StorageError: the workspace cannot be read or written.
    """
    async with AsyncExitStack() as stack:
        if (reason := why_only_read(workspace)) is not None:
            yield await stack.enter_async_context(read_workspace(workspace, reason))
        elif in_process:
            yield await open_here(workspace, stack, begun)
        else:
            connector = await stack.enter_async_context(Connector(workspace))
            await connector.find()
            yield connector.service


async def open_here(
    workspace: Workspace, stack: AsyncExitStack, begun: Callable[[], None]
) -> ServiceProtocol:
    """The owner's service, or one in this process, to be left with the stack."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return (
                await stack.enter_async_context(serve_workspace(workspace, begun=begun))
            ).service
        except WorkspaceLocked:
            if await find_usable(workspace) is not None:
                connector = await stack.enter_async_context(Connector(workspace))
                await connector.find()
                return connector.service
            if time.monotonic() > deadline:
                raise
        await anyio.sleep(POLL_INTERVAL_S)


class Connector:
    """Looks for the daemon once for all calls that need it, and keeps it from ending idle.

    Args:
        workspace: its folder.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.service = ServiceClient(lambda: address.read(workspace), self.find)
        self._workspace = workspace
        self._search: asyncio.Task[DaemonAddress] | None = None
        self._pings: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Nothing is looked for yet."""
        self._pings = asyncio.create_task(self._ping(), name="pings")
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the daemon; it goes on."""
        tasks = [task for task in (self._search, self._pings) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.service.__aexit__(error_type, error, traceback)

    def begin(self) -> asyncio.Task[DaemonAddress]:
        """Looks for the daemon, or starts it, beside whatever else happens."""
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(find_or_launch(self._workspace), name="search")
            # if nobody waits for it, the next call tells of the same failure
            self._search.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._search

    async def find(self) -> DaemonAddress:
        """Where the daemon is; a caller that gives up does not end the search of others.

        Raises:
            KtrdrError: it cannot be reached or started.
        """
        return await asyncio.shield(self.begin())

    async def _ping(self) -> None:
        """Makes a request now and then, for as long as this process may need the daemon."""
        with contextlib.suppress(KtrdrError):  # an idle time that is none; the daemon says so
            idle_s = idle_limit_s(os.environ)
            often_s = max(MIN_PING_INTERVAL_S, idle_s / PINGS_WITHIN_IDLE)
            while True:
                await anyio.sleep(min(PING_INTERVAL_S, often_s))
                if self._search is not None and self._search.done():
                    with contextlib.suppress(KtrdrError):
                        await self.service.ping(self._search.result())


async def find_or_launch(workspace: Workspace) -> DaemonAddress:
    """Where the workspace's daemon answers; starts it if nobody owns the workspace.

    Raises:
        WorkspaceLocked: another process owns the workspace and does not answer.
        LabUnavailable: its version does not fit, or it does not start.
        KtrdrError: why it could not start, as it said it.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    started: subprocess.Popen[bytes] | None = None
    launches = logged = 0
    while True:
        found = await find_usable(workspace, ours=started.pid if started else None)
        if found is not None:
            return found
        if started is not None and (code := started.poll()) is not None:
            reason = launch.reason_of(workspace, code, logged)
            if reason is not None or launches == MAX_LAUNCHES:
                raise reason or workspace_locked(workspace)
            started = None
        if started is None and not is_owned(workspace):
            if trust.is_foreign(workspace):
                raise trust.not_trusted()
            logged = log_size(workspace)
            started, launches = launch.launch(workspace), launches + 1
        if time.monotonic() > deadline:
            raise workspace_locked(workspace) if started is None else slow_start()
        await anyio.sleep(POLL_INTERVAL_S)


def slow_start() -> LabUnavailable:
    """The refusal when a daemon takes long to start."""
    return LabUnavailable(
        f"The service of this workspace has been starting for {START_TIMEOUT_S:.0f} s.",
        hint=f"Call again in a moment. {LOG_HINT}",
    )


async def find_usable(workspace: Workspace, ours: int | None = None) -> DaemonAddress | None:
    """Where the owner of the workspace answers; None if none does, or not yet.

    An older daemon is ended first.

    Args:
        workspace: its folder.
        ours: the process that was started for this search; a newer one there is not.
    Raises:
        LabUnavailable: it speaks another version of the contract, or gives no sign of life.
    """
    owner = announced_owner(workspace)
    if owner is None or not await answers(owner):
        return None
    fit = fitness(owner)
    if fit == "use" or owner.pid == ours:
        return owner
    if fit == "replace":
        await stop_daemon(workspace)
        return None
    remedy = (
        "Upgrade ktrdr-mcp to that version."
        if release(owner.version) > release(__version__)
        else "End that process, or use the same version of ktrdr-mcp."
    )
    raise LabUnavailable(
        f"Process {owner.pid} owns this workspace and is version {owner.version}, contract"
        f" {owner.contract_version}; this is {__version__}, contract {CONTRACT_VERSION}.",
        hint=remedy,
    )


def announced_owner(workspace: Workspace) -> DaemonAddress | None:
    """The owner of the workspace, if there is one and it has said where it is.

    Raises:
        WorkspaceNotTrusted: other users could hold the lock.
        StorageError: the workspace's own folder is not this user's.
    """
    # the address of a workspace that nobody owns is a crash's, and anyone may have its port by now
    owner = address.read(workspace) if is_owned(workspace) else None
    if owner is not None and not trust.is_trusted(workspace):
        # An older version leaves no marker; that it holds the lock shows whose workspace it is.
        trust.require_closed(workspace)
        trust.adopt(workspace)
    return owner


async def answers(owner: DaemonAddress) -> bool:
    """Whether an owner answers; not if it has ended or is about to.

    Raises:
        LabUnavailable: it is alive and gave no sign of it in time.
    """
    try:
        async with ServiceClient(lambda: owner) as client:
            await client.health()
    except Stuck:
        raise
    except KtrdrError:
        return False
    return True


def fitness(owner: DaemonAddress) -> Literal["use", "replace", "refuse"]:
    """What to do with the owner that there is.

    Only a newer version replaces an older one, and only one that ends by itself anyway. One without
    a secret, which no client can be sure of, is older.
    """
    older = owner.secret is None or release(owner.version) < release(__version__)
    if owner.kind == "detached" and older:
        return "replace"
    majors = {text.partition(".")[0] for text in (owner.contract_version, CONTRACT_VERSION)}
    return "use" if len(majors) == 1 else "refuse"


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


async def stop_daemon(workspace: Workspace) -> DaemonAddress | None:
    """Ends the workspace's daemon; what it trains goes back to the queue.

    Args:
        workspace: the folder.
    Returns:
        where it was; None if none was running.
    Raises:
        WorkspaceLocked: another kind of process owns the workspace, which only its user may end.
        LabUnavailable: it does not end.
    """
    asked: DaemonAddress | None = None
    answered = False
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_owned(workspace):
        owner = announced_owner(workspace)  # None while it starts and while it ends
        if owner is not None and owner.kind != "detached":
            raise workspace_locked(workspace)
        if owner is not None and not (answered and owner == asked):
            asked, answered = owner, await request_stop(owner)
        if time.monotonic() > deadline:
            raise does_not_end(asked, answered)
        await anyio.sleep(POLL_INTERVAL_S)
    return asked


async def request_stop(owner: DaemonAddress) -> bool:
    """Asks a daemon to end; whether it answers. One that does not may be ending already."""
    with contextlib.suppress(KtrdrError):
        async with ServiceClient(lambda: owner) as client:
            await client.stop()
            return True
    return False


def does_not_end(owner: DaemonAddress | None, answered: bool) -> LabUnavailable:
    """The refusal when the owner does not end."""
    who = f"process {owner.pid}" if owner else "the process that owns this workspace"
    does = "does not end" if answered else "is alive but does not answer"
    return LabUnavailable(
        f"The service of this workspace, {who}, {does}.",
        hint=f"Wait and try again, or end {who} by hand; what was acknowledged is kept.",
    )
