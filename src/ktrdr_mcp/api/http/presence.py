"""Who is here: requests under way, and the streams by which fronts say that they are open."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ktrdr_mcp.api.http.replies import NOT_STORED, reply_response
from ktrdr_mcp.schemas import responses

KEEP_ALIVE_S: Final = 10.0
KEEP_ALIVE: Final = b": here\n\n"


class Presence:
    """Counts the requests that an application is answering, streams among them.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._visitors = 0
        self._last_left = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        self._visitors += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._visitors -= 1
            self._last_left = time.monotonic()

    @property
    def anybody(self) -> bool:
        """Whether somebody is here."""
        return self._visitors > 0

    @property
    def alone_s(self) -> float:
        """For how many seconds nobody has been here."""
        return 0.0 if self._visitors else time.monotonic() - self._last_left


def owner_routes(closing: asyncio.Event, stop: Callable[[], None] | None) -> list[BaseRoute]:
    """The routes by which other processes of this program deal with the owner of a workspace.

    Args:
        closing: set when the owner is about to end.
        stop: ends the owner; None where only its user may.
    """

    async def presence(request: Request) -> Response:
        return StreamingResponse(here(closing), headers=NOT_STORED, media_type="text/event-stream")

    routes: list[BaseRoute] = [Route("/presence", presence, methods=["GET"])]
    if stop is not None:

        async def stopping(request: Request) -> Response:
            stop()
            return reply_response(responses.Stopping())

        routes.append(Route("/lab/stop", stopping, methods=["POST"]))
    return routes


async def here(closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Says now and then that the owner lives, until it is about to end."""
    while not closing.is_set():
        yield KEEP_ALIVE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEEP_ALIVE_S):
                await closing.wait()
