"""The one door of the HTTP API: no request passes it unchecked, whatever its route or method."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ktrdr_mcp import limits
from ktrdr_mcp.api.http.replies import error_response
from ktrdr_mcp.api.http.sign_in import OPEN, BrowserKeys
from ktrdr_mcp.errors import (
    BodyTooLarge,
    Draining,
    HostRefused,
    InvalidRequest,
    KtrdrError,
    NotJson,
    OriginRefused,
    Refused,
    Unauthorized,
    quote,
)
from ktrdr_mcp.schemas import service

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
AUTHORITY: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
ORIGIN: Final = re.compile(r"https?://(?P<authority>[^/@?#]+)")
LENGTH: Final = re.compile(r"[0-9]{1,20}")
ABSOLUTE: Final = re.compile(r"https?://(?P<authority>[^/?#]+)(?P<path>/.*)?", re.IGNORECASE)
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_CHUNKS: Final = 4_096  # of one body
JSON_TYPE: Final = "application/json"
INSTANCE: Final = service.INSTANCE.lower().encode()
CLIENT: Final = service.CLIENT.lower().encode()
MAX_CALLER_CHARACTERS: Final = 64


class Unframed(Refused):
    """A request whose end cannot be relied upon."""


@dataclass(frozen=True)
class Rules:
    """Who may come in.

    Attributes:
        token: the bearer token, or None if everyone who reaches the port may.
        hosts: further host names, with or without a port; loopback names always pass.
        origins: further origins of web pages that may change something.
        instance: which daemon this is, for clients that say which one they mean.
        read_token: another token, which may read and change nothing; None if there is none.
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    instance: str | None = None
    read_token: str | None = None


def make_rules(
    token: str | None,
    hosts: Iterable[str],
    origins: Iterable[str],
    read_token: str | None = None,
) -> Rules:
    """Rules from what a user typed.

    Raises:
        InvalidRequest: a host or an origin can never match, or the tokens cannot be told apart.
    """
    if read_token is not None and token in (None, read_token):
        raise InvalidRequest(
            "The token that only reads must be another one than the server's own, and has no "
            "effect without that.",
            hint="Name two files with two tokens: --token-file and --read-token-file.",
        )
    names = frozenset(host.lower() for host in hosts)
    pages = frozenset(origin.lower().rstrip("/") for origin in origins)
    for name in names:
        if not AUTHORITY.fullmatch(name):
            raise InvalidRequest(
                f"{quote(name)} is not a host.", hint="Send a name, or a name and a port: lab:8000."
            )
    for page in pages:
        if not ORIGIN.fullmatch(page):
            raise InvalidRequest(
                f"{quote(page)} is not an origin.", hint="Send a scheme and a host: https://lab."
            )
    return Rules(token, names, pages, read_token=read_token)


class Guard:
    """Checks host, origin, token, type and size before anything else sees a request.

    Args:
        app: what it guards.
        rules: who may come in.
        keys: of browsers, beside the token.
    """

    def __init__(self, app: ASGIApp, rules: Rules, keys: BrowserKeys | None = None) -> None:
        self.app = app
        self._keys = keys or BrowserKeys()
        self.rules = rules
        self.closed = False  # nobody comes in any more

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        try:
            scope = to_origin_form(scope)
            may_change = self.check(scope)
            first = await read_body(scope, receive)
        except KtrdrError as refusal:
            response = error_response(refusal)
            response.headers["Connection"] = "close"  # who is refused holds no connection open
            return await response(scope, receive, send)
        if first is None:
            return None
        service.CALLER.set(caller_of(scope))
        service.MAY_CHANGE.set(may_change)
        return await self.app(scope, replay(first, receive), send)

    def check(self, scope: Scope) -> bool:
        """Checks the head of a request; whether it may change anything. Raises KtrdrError."""
        host = check_host(header_values(scope, b"host"), self.rules.hosts)
        reads = scope["method"] in SAFE_METHODS
        check_origin(header_values(scope, b"origin"), host, self.rules.origins, reads=reads)
        check_framing(scope)
        may_change = True
        if (scope["method"], scope["path"]) not in OPEN:
            values = header_values(scope, b"authorization")
            may_change = check_token(values, self.rules, self._keys)
        check_instance(header_values(scope, INSTANCE), self.rules.instance)
        if self.closed:
            raise Draining(
                "The server is shutting down.", hint="Start it again, then repeat the request."
            )
        return may_change


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header, as it stands in the request."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def caller_of(scope: Scope) -> str:
    """Who sends a request, as far as it says: its client's word, an MCP session or a machine."""
    for name in (CLIENT, b"mcp-session-id"):
        if values := header_values(scope, name):
            return values[0][:MAX_CALLER_CHARACTERS]
    client = scope.get("client")
    return str(client[0]) if client else ""


def check_host(values: list[str], allowed: frozenset[str]) -> str:
    """The authority that the request is addressed to, if it is ours. Raises HostRefused."""
    host = values[0].lower() if len(values) == 1 else ""
    match = AUTHORITY.fullmatch(host)
    if match and (match["name"] in LOOPBACK or match["name"] in allowed or host in allowed):
        return host
    said = quote(values[0]) if len(values) == 1 else "no single host"
    raise HostRefused(
        f"The request is addressed to {said}, which is not a name of this server.",
        hint="Use localhost, or start the server with --allow-host NAME.",
    )


def to_origin_form(scope: Scope) -> Scope:
    """The head of a request whose target may be a whole URL, as proxies send it, with its path.

    Raises:
        InvalidRequest: the target is no URL of HTTP.
    """
    path: str = scope["path"]
    if path.startswith("/"):
        return scope
    match = ABSOLUTE.fullmatch(path)
    if match is None:
        raise InvalidRequest("The target is not a path.", hint="See /docs.")
    # what the target says counts, as RFC 9112 has it
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    host = (b"host", match["authority"].encode("latin-1", errors="replace"))
    return {**scope, "path": match["path"] or "/", "headers": [host, *headers]}


def check_framing(scope: Scope) -> None:
    """Refuses a body that has two lengths, which two programs would read in two ways.

    Raises:
        Unframed: it has a length and a transfer encoding.
    """
    if header_values(scope, b"content-length") and header_values(scope, b"transfer-encoding"):
        raise Unframed(
            "The request has both Content-Length and Transfer-Encoding.",
            hint="Send one of them.",
        )


def check_origin(values: list[str], host: str, allowed: frozenset[str], *, reads: bool) -> None:
    """Lets this server's own pages and allowed origins in. Raises OriginRefused.

    Pages of other servers on this machine may read, as far as a browser shows them the replies;
    whatever changes something is refused to them.

    Args:
        values: the Origin headers; programs that are not browsers send none.
        host: the authority of this server, checked before.
        allowed: further origins.
        reads: whether the request changes nothing.
    """
    if not values:
        return
    origin = values[0].lower() if len(values) == 1 else ""
    page = ORIGIN.fullmatch(origin)
    authority = AUTHORITY.fullmatch(page["authority"]) if page else None
    if authority and (
        authority.group() == host or origin in allowed or (reads and authority["name"] in LOOPBACK)
    ):
        return
    raise OriginRefused(
        f"Pages of {quote(values[0])} may not use this server.",
        hint="Where a reverse proxy, an extension or a page of this machine that you trust sends "
        "such requests, start the server with --allow-origin ORIGIN; in browsers, no page of "
        "another origin can read replies.",
    )


def check_token(values: list[str], rules: Rules, keys: BrowserKeys) -> bool:
    """Compares the bearer token in constant time; whether it may change anything.

    Args:
        values: the Authorization headers.
        rules: the server's tokens; without one, everybody may change something.
        keys: of browsers, which have tokens of their own.
    Raises:
        Unauthorized: it is none of them.
    """
    if rules.token is None:
        return True
    scheme, _, given = (values[0] if len(values) == 1 else "").partition(" ")
    given = given.strip()
    changes = is_token(given, rules.token) or keys.allow(given)
    reads = rules.read_token is not None and is_token(given, rules.read_token)
    if scheme.lower() != "bearer" or not (changes or reads):
        raise Unauthorized(
            "The bearer token is missing or wrong.",
            hint="Send the header 'Authorization: Bearer TOKEN' with the server's token.",
        )
    return changes


def is_token(given: str, token: str) -> bool:
    """Whether it is this token, in a time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode("latin-1"), token.encode("utf-8"))


def check_instance(values: list[str], instance: str | None) -> None:
    """Refuses what is meant for another server, whose port this one has. Raises Unauthorized.

    Args:
        values: which one is meant; clients other than our own do not say it.
        instance: which one this is.
    """
    if values and values != [instance]:
        raise Unauthorized(
            "The request is meant for another server than the one that answers here.",
            hint="Read the address of yours again, in .ktrdr/lab.json of its workspace.",
        )


async def read_body(scope: Scope, receive: Receive) -> Message | None:
    """The request's body in one message; None if the client left before its end.

    Args:
        scope: the request's head.
        receive: gives the parts of the body.
    Raises:
        BodyTooLarge: it declares or has more bytes than allowed.
        Unframed: it comes in too many pieces.
        NotJson: it has bytes and is not declared as JSON.
    """
    for declared in header_values(scope, b"content-length"):
        if LENGTH.fullmatch(declared) and int(declared) > limits.MAX_BODY_BYTES:
            raise too_large()
    body = bytearray()
    for _ in range(MAX_CHUNKS):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limits.MAX_BODY_BYTES:
            raise too_large()
        if body:
            check_type(scope)
        if not message.get("more_body", False):
            return {"type": "http.request", "body": bytes(body), "more_body": False}
    raise too_many_pieces()


def too_many_pieces() -> KtrdrError:
    """The refusal of a body in many small pieces."""
    return Unframed(
        f"The body comes in more than {MAX_CHUNKS:,} pieces.", hint="Send it in larger ones."
    )


def too_large() -> KtrdrError:
    """The refusal of a large body."""
    return BodyTooLarge(
        f"The body has more than {limits.MAX_BODY_BYTES:,} bytes.",
        hint="Send only the fields of the request.",
    )


def check_type(scope: Scope) -> None:
    """Refuses what a web page's form could send. Raises NotJson."""
    types = [value.partition(";")[0] for value in header_values(scope, b"content-type")]
    encodings = header_values(scope, b"content-encoding")
    if [kind.strip().lower() for kind in types] != [JSON_TYPE] or encodings not in (
        [],
        ["identity"],
    ):
        raise NotJson(
            "The body is not declared as plain JSON.",
            hint=f"Send JSON with the header 'Content-Type: {JSON_TYPE}'.",
        )


def replay(first: Message, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then whatever comes after it."""
    messages = [first]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message
