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
    asked: address.LabAddress | None = None
    deadline = time.monotonic() + ENDS_S
    while is_owned(workspace):
        owner = address.read(workspace)  # None while it starts and while it ends
        if owner is not None and owner.kind != "detached":
            raise locked(workspace)
        if owner is not None and owner != asked:
            asked = owner
            await ask(owner)
        if time.monotonic() > deadline:
            raise LabUnavailable(
                f"{f'Process {asked.pid}' if asked else 'The process'} that owns this workspace"
                " does not end.",
                hint="End it by hand; what was acknowledged is kept.",
            )
        await anyio.sleep(POLL_S)
    return asked


async def ask(owner: address.LabAddress) -> None:
    """Asks a laboratory to end; one that does not answer may be ending already."""
    from ktrdr_mcp.lab.remote import RemoteLab

    with contextlib.suppress(KtrdrError):
        async with RemoteLab(lambda: owner) as remote:
            await remote.stop()
