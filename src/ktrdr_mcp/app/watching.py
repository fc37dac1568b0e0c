"""Looking after the lock and the address of the laboratory in this process."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

from ktrdr_mcp.app.ending import end_process
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.lab import address
from ktrdr_mcp.lab.ownership import Ownership
from ktrdr_mcp.paths import Workspace

WATCH_S: Final = 0.5

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(workspace: Workspace, owned: Ownership, place: address.LabAddress) -> Iterator[None]:
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
                    look_after(workspace, owned, place)

    thread = threading.Thread(target=watch, name="lock-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with looking:  # nothing writes the address once it has been taken back
            leaving.set()
        thread.join()


def look_after(workspace: Workspace, owned: Ownership, place: address.LabAddress) -> None:
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
