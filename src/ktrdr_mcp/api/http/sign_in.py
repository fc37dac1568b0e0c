"""How a browser gets in: a code that works once and soon, exchanged for a token of its own.

A cookie would go to every port of the host, so there is none: the page keeps its token for its tab
and sends it in a header.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ktrdr_mcp.api.http.arguments import raw_arguments
from ktrdr_mcp.api.http.replies import error_response, reply_response
from ktrdr_mcp.errors import KtrdrError, Unauthorized
from ktrdr_mcp.schemas import requests, responses, service
from ktrdr_mcp.schemas.parsing import parse

CODE_TIMEOUT_S: Final = 30.0
MOST_KEPT: Final = 64  # of codes, and of tokens; the oldest goes
OPEN: Final = frozenset({("GET", "/"), ("POST", service.EXCHANGE_PATH)})  # without a token


class BrowserKeys:
    """The codes and tokens of browsers, for as long as the server lives."""

    def __init__(self) -> None:
        self._codes: OrderedDict[str, float] = OrderedDict()
        self._tokens: OrderedDict[str, None] = OrderedDict()

    def new_code(self) -> str:
        """A code for one exchange within half a minute."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = time.monotonic() + CODE_TIMEOUT_S
        while len(self._codes) > MOST_KEPT:
            self._codes.popitem(last=False)
        return code

    def exchange(self, code: str) -> str:
        """A token for a code, which is used up. Raises Unauthorized."""
        until = self._codes.pop(code, None)
        if until is None or time.monotonic() > until:
            raise Unauthorized(
                "The code is used up, too old or unknown.",
                hint="Run 'ktrdr-mcp open' again; a code works once, within 30 seconds.",
            )
        token = secrets.token_urlsafe(32)
        self._tokens[token] = None
        while len(self._tokens) > MOST_KEPT:
            self._tokens.popitem(last=False)
        return token

    def allow(self, token: str) -> bool:
        """Whether a token was given out here."""
        given = token.encode("latin-1")
        return any(hmac.compare_digest(given, known.encode()) for known in self._tokens)


def sign_in_routes(keys: BrowserKeys) -> list[Route]:
    """Where a program with the token gets a code, and a page exchanges it."""

    async def code(request: Request) -> Response:
        return reply_response(responses.BrowserCode(code=keys.new_code()))

    async def exchange(request: Request) -> Response:
        try:
            wanted = parse(requests.ExchangeCode, await raw_arguments(request))
            return reply_response(responses.BrowserToken(token=keys.exchange(wanted.code)))
        except KtrdrError as error:
            return error_response(error)

    return [
        Route(service.CODE_PATH, code, methods=["POST"]),
        Route(service.EXCHANGE_PATH, exchange, methods=["POST"]),
    ]
