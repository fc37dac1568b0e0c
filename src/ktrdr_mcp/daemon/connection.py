"""Finds the daemon of a workspace, launches it where there is none, and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final, Literal, Self

import anyio

from ktrdr_mcp import __version__
from ktrdr_mcp.api.client import MOST_SILENCES, ServiceClient, Silent
from ktrdr_mcp.daemon import launch
from ktrdr_mcp.daemon.server import serve_workspace
from ktrdr_mcp.errors import KtrdrError, LabUnavailable, WorkspaceLocked
from ktrdr_mcp.ownership import address
from ktrdr_mcp.ownership.address import DaemonAddress
from ktrdr_mcp.ownership.lock import is_owned, workspace_locked
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import CONTRACT_VERSION
from ktrdr_mcp.schemas.service import ServiceProtocol

ENDS_S: Final = 15.0  # it drains for at most ten
POLL_S: Final = 0.05


class StopRequest:
    """What has been asked to end, and whether it has answered."""

    def __init__(self) -> None:
        self.owner: address.DaemonAddress | None = None
        self.answered = False

    async def ask(self, owner: address.DaemonAddress) -> None:
        """Asks a laboratory, unless it has said that it ends."""
        if self.answered and owner == self.owner:
            return
        self.owner, self.answered = owner, await request_stop(owner)


async def stop_daemon(workspace: Workspace) -> address.DaemonAddress | None:
    """Ends the workspace's laboratory; what it trains goes back to the queue.

    Args:
        workspace: the folder.
    Returns:
        where it was; None if none was running.
    Raises:
        WorkspaceLocked: another kind of process owns the workspace, which only its user may end.
        LabUnavailable: it does not end.
    """
    asked = StopRequest()
    deadline = time.monotonic() + ENDS_S
    while is_owned(workspace):
        owner = address.read(workspace)  # None while it starts and while it ends
        if owner is not None and owner.kind != "detached":
            raise workspace_locked(workspace)
        if owner is not None:
            await asked.ask(owner)
        if time.monotonic() > deadline:
            raise endless(asked)
        await anyio.sleep(POLL_S)
    return asked.owner


async def request_stop(owner: address.DaemonAddress) -> bool:
    """Asks a laboratory to end; whether it answers. One that does not may be ending already."""
    from ktrdr_mcp.api.client import ServiceClient

    with contextlib.suppress(KtrdrError):
        async with ServiceClient(lambda: owner) as remote:
            await remote.stop()
            return True
    return False


def endless(asked: StopRequest) -> LabUnavailable:
    """The refusal when the owner does not end."""
    who = f"process {asked.owner.pid}" if asked.owner else "the process that owns this workspace"
    does = "does not end" if asked.answered else "is alive but does not answer"
    return LabUnavailable(
        f"The laboratory of this workspace, {who}, {does}.",
        hint=f"Wait and try again, or end {who} by hand; what was acknowledged is kept.",
    )


STARTS_S: Final = (
    45.0  # of the minute that clients wait; until the owner of a workspace says where it is
)
MOST_LAUNCHES: Final = 5  # of processes that found another one first, which then ended


@asynccontextmanager
async def connect(
    workspace: Workspace, *, in_process: bool = False, begun: Callable[[], None] = lambda: None
) -> AsyncIterator[ServiceProtocol]:
    """A laboratory to work with, until the block ends.

    Args:
        workspace: the folder; made if it is missing.
        in_process: run it here if nobody owns the workspace, rather than in a process of its own.
        begun: called before work can begin in this process; see `announced`.
    Raises:
        WorkspaceLocked: another process owns it and does not answer.
        LabUnavailable: the owner is of another version, or none can be started.
        StorageError: the workspace cannot be read or written.
    """
    if in_process:
        async with AsyncExitStack() as stack:
            yield await open_here(workspace, stack, begun)
    else:
        async with Connector(workspace) as reaching:
            await reaching.find()
            yield reaching.lab


async def open_here(
    workspace: Workspace, stack: AsyncExitStack, begun: Callable[[], None]
) -> ServiceProtocol:
    """The owner's laboratory, or one in this process, to be left with the stack."""
    deadline = time.monotonic() + STARTS_S
    while True:
        try:
            return (await stack.enter_async_context(serve_workspace(workspace, begun=begun))).lab
        except WorkspaceLocked:
            if await find_usable(workspace) is not None:
                reaching = await stack.enter_async_context(Connector(workspace))
                await reaching.find()  # and stays: it must not end for want of clients
                return reaching.lab
            if time.monotonic() > deadline:
                raise
        await anyio.sleep(POLL_S)


class Connector:
    """Looks for the laboratory once for all calls that need it, and stays with it.

    Args:
        workspace: its folder.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.lab = ServiceClient(lambda: address.read(workspace), self.find)
        self._workspace = workspace
        self._search: asyncio.Task[DaemonAddress] | None = None
        self._stay: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Nothing is looked for yet."""
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the laboratory; it goes on."""
        tasks = [task for task in (self._search, self._stay) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.lab.__aexit__(error_type, error, traceback)

    def begin(self) -> asyncio.Task[DaemonAddress]:
        """Looks for the laboratory, or starts it, beside whatever else happens."""
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._found(), name="reaching")
            # if nobody waits for it, the next call tells of the same failure
            self._search.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._search

    async def find(self) -> DaemonAddress:
        """Where the laboratory is; a caller that gives up does not end the search of others.

        Raises:
            KtrdrError: it cannot be reached or started.
        """
        return await asyncio.shield(self.begin())

    async def _found(self) -> DaemonAddress:
        """Where the laboratory is, and this process stays in it."""
        found = await find_or_launch(self._workspace)
        if self._stay is not None:
            self._stay.cancel()
        self._stay = asyncio.create_task(self.lab.stay(found), name="staying")
        return found


async def find_or_launch(workspace: Workspace) -> DaemonAddress:
    """Where the workspace's laboratory answers; starts it if nobody owns the workspace.

    Raises:
        WorkspaceLocked: another process owns the workspace and does not answer.
        LabUnavailable: its version does not fit, or it does not start.
        KtrdrError: why it could not start, as it said it.
    """
    deadline = time.monotonic() + STARTS_S
    started: subprocess.Popen[bytes] | None = None
    launches = logged = 0
    while True:
        found = await find_usable(workspace, ours=started.pid if started else None)
        if found is not None:
            return found
        if started is not None and (code := started.poll()) is not None:
            reason = launch.reason_of(workspace, code, logged)
            if reason is not None or launches == MOST_LAUNCHES:
                raise reason or workspace_locked(workspace)
            started = None
        if started is None and not is_owned(workspace):
            logged = launch.log_size(workspace)
            started, launches = launch.launch(workspace), launches + 1
        if time.monotonic() > deadline:
            raise workspace_locked(workspace) if started is None else still_starting()
        await anyio.sleep(POLL_S)


def still_starting() -> LabUnavailable:
    """The refusal when a laboratory takes long to start."""
    return LabUnavailable(
        f"The laboratory of this workspace has been starting for {STARTS_S:.0f} s.",
        hint=f"Call again in a moment. {launch.LOG_HINT}",
    )


async def find_usable(workspace: Workspace, ours: int | None = None) -> DaemonAddress | None:
    """Where the owner of the workspace answers; None if none does, or not yet.

    An older detached laboratory is ended first.

    Args:
        workspace: its folder.
        ours: the process that was started for this search; a newer one there is not.
    Raises:
        LabUnavailable: it speaks another version of the contract, or gives no sign of life.
    """
    owner = announced_owner(workspace)
    if owner is None or not await answers(workspace, owner):
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
    """The owner of the workspace, if there is one and it has said where it is."""
    # the address of a workspace that nobody owns is a crash's, and anyone may have its port by now
    return address.read(workspace) if is_owned(workspace) else None


async def answers(workspace: Workspace, owner: DaemonAddress) -> bool:
    """Whether an owner answers; not if it has ended or is about to.

    Args:
        workspace: its folder.
        owner: where it said that it is.
    Raises:
        LabUnavailable: it is alive and has given no sign of it several times.
    """
    silences = 0
    while True:
        try:
            async with ServiceClient(lambda: owner) as remote:
                await remote.health()
            return True
        except Silent:
            silences += 1
            if announced_owner(workspace) != owner:
                return False
            if silences == MOST_SILENCES:
                raise
        except KtrdrError:
            return False


def fitness(owner: DaemonAddress) -> Literal["use", "replace", "refuse"]:
    """What to do with the laboratory that there is.

    Only a newer version replaces an older one, and only one that ends by itself anyway.
    """
    if owner.kind == "detached" and release(owner.version) < release(__version__):
        return "replace"
    majors = {text.partition(".")[0] for text in (owner.contract_version, CONTRACT_VERSION)}
    return "use" if len(majors) == 1 else "refuse"


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
