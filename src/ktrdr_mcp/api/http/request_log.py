"""Names each request and logs how it ended, where the log is one of JSON lines."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ktrdr_mcp.api.logs import REQUEST_ID, REQUESTS

NAME: Final = b"x-request-id"
FORM: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
PROBES: Final = frozenset({"/health", "/ready", "/lab/proof"})  # asked every few seconds

log = logging.getLogger(REQUESTS)


class RequestLog:
    """Gives each request an id, which its reply and its lines of the log bear.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http" or not log.isEnabledFor(logging.INFO):
            return await self.app(scope, receive, send)
        request_id = given_id(scope) or secrets.token_hex(8)
        REQUEST_ID.set(request_id)
        begun, status = time.monotonic(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (NAME, request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        finally:
            path = scope["path"]
            if path not in PROBES or status != 200:
                fields = {"status": status, "ms": round(1_000 * (time.monotonic() - begun), 1)}
                log.info("%s %s", scope["method"], path, extra={"fields": fields})


def given_id(scope: Scope) -> str | None:
    """The id that a client or a proxy gave the request, if it is one."""
    given = [value for name, value in scope["headers"] if name == NAME]
    if len(given) == 1 and FORM.fullmatch(given[0]):
        return str(given[0].decode())
    return None
