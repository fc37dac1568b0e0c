"""Ending a detached laboratory in another process, gently."""

from __future__ import annotations

import contextlib
import time
from typing import Final

import anyio

from ktrdr_mcp.errors import KtrdrError, LabUnavailable
from ktrdr_mcp.lab import address
from ktrdr_mcp.lab.ownership import is_owned, locked
from ktrdr_mcp.paths import Workspace

ENDS_S: Final = 15.0  # it drains for at most ten
POLL_S: Final = 0.05


class Asked:
    """What has been asked to end, and whether it has answered."""

    def __init__(self) -> None:
        self.owner: address.LabAddress | None = None
        self.answered = False

    async def ask(self, owner: address.LabAddress) -> None:
        """Asks a laboratory, unless it has said that it ends."""
        if self.answered and owner == self.owner:
            return
        self.owner, self.answered = owner, await ask(owner)


async def stop_lab(workspace: Workspace) -> address.LabAddress | None:
    """Ends the workspace's laboratory; what it trains goes back to the queue.

    Args:
        workspace: the folder.
    Returns:
        where it was; None if none was running.
    Raises:
        WorkspaceLocked: another kind of process owns the workspace, which only its user may end.
        LabUnavailable: it does not end.
    """
    asked = Asked()
    deadline = time.monotonic() + ENDS_S
    while is_owned(workspace):
        owner = address.read(workspace)  # None while it starts and while it ends
        if owner is not None and owner.kind != "detached":
            raise locked(workspace)
        if owner is not None:
            await asked.ask(owner)
        if time.monotonic() > deadline:
            raise endless(asked)
        await anyio.sleep(POLL_S)
    return asked.owner


async def ask(owner: address.LabAddress) -> bool:
    """Asks a laboratory to end; whether it answers. One that does not may be ending already."""
    from ktrdr_mcp.lab.remote import RemoteLab

    with contextlib.suppress(KtrdrError):
        async with RemoteLab(lambda: owner) as remote:
            await remote.stop()
            return True
    return False


def endless(asked: Asked) -> LabUnavailable:
    """The refusal when the owner does not end."""
    who = f"process {asked.owner.pid}" if asked.owner else "the process that owns this workspace"
    does = "does not end" if asked.answered else "is alive but does not answer"
    return LabUnavailable(
        f"The laboratory of this workspace, {who}, {does}.",
        hint=f"Wait and try again, or end {who} by hand; what was acknowledged is kept.",
    )
