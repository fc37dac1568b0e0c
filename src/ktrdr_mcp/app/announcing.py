"""A laboratory in this process that other processes can reach."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ktrdr_mcp.app.opening import OpenLab, open_lab
from ktrdr_mcp.app.watching import watched
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.lab import address
from ktrdr_mcp.paths import Workspace

if TYPE_CHECKING:
    import socket

    from ktrdr_mcp.faces.guard import Rules
    from ktrdr_mcp.faces.presence import Presence


@dataclass
class Announced(OpenLab):
    """A running laboratory that others may be working with."""

    presence: Presence
    place: address.LabAddress  # what it has told others


@asynccontextmanager
async def announced(
    workspace: Workspace,
    rules: Rules | None = None,
    listener: socket.socket | None = None,
    *,
    kind: address.Kind = "in_process",
    stop: Callable[[], None] | None = None,
    begun: Callable[[], None] = lambda: None,
) -> AsyncIterator[Announced]:
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
    async with open_lab(workspace) as opened:
        begun()
        # Only now, because a process that is refused or works through another needs none of it.
        from mcp.server.transport_security import TransportSecuritySettings

        from ktrdr_mcp.faces import guard, http, http_server
        from ktrdr_mcp.faces.presence import Presence, owner_routes
        from ktrdr_mcp.faces.tools import build_server

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
        door = http.build_face(opened.lab, rules, [*mcp, *owner_routes(closing, stop)]).guard
        door.app = presence = Presence(door.app)
        place = address.LabAddress(url, rules.token, kind=kind, instance=rules.instance)
        async with http_server.serving(door, listener), server.session_manager.run():
            address.write(workspace, place)
            try:
                with watched(workspace, opened.ownership, place):
                    yield Announced(**vars(opened), presence=presence, place=place)
            finally:
                # Who comes now waits for the next one. The next owner removes what cannot be
                # removed now, and nobody goes by the address of one that owns nothing.
                with contextlib.suppress(StorageError):
                    address.remove(workspace)
                closing.set()
                await opened.drain()
                door.closed = True
