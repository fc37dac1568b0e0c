"""What the owner of a workspace adds to its HTTP service for other processes of this program."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ktrdr_mcp.api.http.replies import NOT_STORED, reply_response
from ktrdr_mcp.ownership.address import prove
from ktrdr_mcp.schemas import responses, service

SIGN_INTERVAL_S: Final = 10.0
SIGN: Final = b": here\n\n"
CHALLENGE: Final = re.compile(rb"[0-9a-f]{32,64}")


class Activity:
    """Knows how long an application has had no request.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._under_way = 0
        self._last_end = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        self._under_way += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._under_way -= 1
            self._last_end = time.monotonic()

    @property
    def idle_s(self) -> float:
        """For how many seconds no request has been under way."""
        return 0.0 if self._under_way else time.monotonic() - self._last_end


class Prover:
    """Answers a challenge before any token is sent, so that a client knows whom it speaks to.

    Args:
        app: what answers everything else.
        secret: as in the address that the owner has written.
    """

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self.app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http" and scope["path"] == service.PROOF_PATH:
            challenge = scope["query_string"]
            if CHALLENGE.fullmatch(challenge):
                proof = prove(self._secret, challenge.decode())
                return await JSONResponse({"proof": proof})(scope, receive, send)
        return await self.app(scope, receive, send)


def owner_routes(
    closing: asyncio.Event,
    stop: Callable[[], None] | None,
    workers: Callable[[], list[responses.ShownWorker]] = list,
) -> list[BaseRoute]:
    """The routes by which other processes of this program deal with the owner of a workspace.

    Args:
        closing: set when the owner is about to end.
        stop: ends the owner; None where only its user may.
        workers: the processes that compute for it.
    """

    async def presence(request: Request) -> Response:
        return StreamingResponse(signs(closing), headers=NOT_STORED, media_type="text/event-stream")

    # older clients hold this stream open for as long as they need the owner
    routes: list[BaseRoute] = [Route("/presence", presence, methods=["GET"])]

    async def list_workers(request: Request) -> Response:
        return reply_response(responses.Workers(workers=workers()))

    routes.append(Route("/lab/workers", list_workers, methods=["GET"]))
    if stop is not None:

        async def stopping(request: Request) -> Response:
            stop()
            return reply_response(responses.Stopping())

        routes.append(Route("/lab/stop", stopping, methods=["POST"]))
    return routes


async def signs(closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Says now and then that the owner lives, until it is about to end."""
    while not closing.is_set():
        yield SIGN
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SIGN_INTERVAL_S):
                await closing.wait()
