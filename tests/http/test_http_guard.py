"""Who is let in: every route and every method, every kind of uninvited request."""

from __future__ import annotations

import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.api.http.guard import make_rules
from ktrdr_mcp.api.http.sign_in import OPEN
from ktrdr_mcp.errors import InvalidRequest
from tests.support.asgi_requests import JSON, LOCAL, TOKEN, ask

pytestmark = pytest.mark.asyncio

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
BEARER = ("Authorization", f"Bearer {TOKEN}")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
MEBIBYTE = b"{" + b" " * (limits.MAX_BODY_BYTES - 2) + b"}"


def host(value: str) -> list[tuple[str, str]]:
    return [("Host", value), BEARER]


def origin(value: str) -> list[tuple[str, str]]:
    return [LOCAL, BEARER, ("Origin", value)]


def token(value: str) -> list[tuple[str, str]]:
    return [LOCAL, ("Authorization", value)]


# what is sent: status, headers, query, chunks of the body
UNINVITED: dict[str, tuple[int, list[tuple[str, str]], str, list[bytes]]] = {
    "evil host": (421, host("evil.com"), "", []),
    "host that begins like ours": (421, host("localhost.evil.com"), "", []),
    "host that resolves to us": (421, host("127.0.0.1.nip.io"), "", []),
    "host with a final dot": (421, host("localhost."), "", []),
    "host with another port than allowed": (421, host("lab:9001"), "", []),
    "host with a user": (421, host("localhost@evil.com"), "", []),
    "no host": (421, [BEARER], "", []),
    "two hosts": (421, [LOCAL, LOCAL, BEARER], "", []),
    "evil origin": (403, origin("http://evil.com"), "", []),
    "origin that begins like ours": (403, origin("http://localhost.evil.com"), "", []),
    "allowed origin over another scheme": (403, origin("http://lab.example"), "", []),
    "origin of a sandboxed page": (403, origin("null"), "", []),
    "origin with a user": (403, origin("http://localhost@evil.com"), "", []),
    "empty origin": (403, origin(""), "", []),
    "two origins": (403, [*origin("http://localhost"), ("Origin", "http://localhost")], "", []),
    "no token": (401, [LOCAL], "", []),
    "wrong token": (401, token("Bearer wrong"), "", []),
    "token with more behind it": (401, token(f"Bearer {TOKEN}x"), "", []),
    "token of another scheme": (401, token(f"Basic {TOKEN}"), "", []),
    "two tokens": (401, [LOCAL, BEARER, BEARER], "", []),
    "token that is not ASCII": (401, token("Bearer \xe9"), "", []),
    "token in the query": (401, [LOCAL], f"?token={TOKEN}&access_token={TOKEN}", []),
    "form": (415, [LOCAL, BEARER, FORM], "", [b"symbol=AAPL"]),
    "text": (415, [LOCAL, BEARER, ("Content-Type", "text/plain")], "", [b"{}"]),
    "no type": (415, [LOCAL, BEARER], "", [b"{}"]),
    "two types": (415, [LOCAL, BEARER, JSON, JSON], "", [b"{}"]),
    "compressed": (415, [LOCAL, BEARER, JSON, ("Content-Encoding", "gzip")], "", [b"{}"]),
    "2 MiB, declared": (
        413,
        [LOCAL, BEARER, JSON, ("Content-Length", str(len(MEBIBYTE) * 2))],
        "",
        [],
    ),
    "a byte too many, in chunks": (413, [LOCAL, BEARER, JSON], "", [MEBIBYTE, b" "]),
}


def every_route(api) -> list[str]:
    """The router's own paths, with and without prefix and slash, and two unknown ones."""
    paths = [route.path for route in api.routes]
    assert {"/mcp", "/docs", "/openapi.json", "/health", "/training/start"} <= set(paths)
    forms = [form for path in paths for form in (path, f"/api/v1{path}/")]
    return [*forms, "/", "/nowhere"]


def methods_for(kind: str, route: int) -> list[str]:
    """All where routes differ in whom they let in; else one, another for each route and kind."""
    if kind == "no token":
        return METHODS
    return [METHODS[(route + list(UNINVITED).index(kind)) % len(METHODS)]]


@pytest.mark.parametrize("kind", UNINVITED)
async def test_no_route_and_no_method_lets_an_uninvited_request_in(guarded, kind) -> None:
    status, headers, query, chunks = UNINVITED[kind]
    for route, path in enumerate(every_route(guarded)):
        for method in methods_for(kind, route):
            if status == 401 and (method, path) in OPEN:
                continue  # a page without data, and the exchange of a code
            answer = await ask(guarded.guard, method, path + query, headers, *chunks)
            assert (answer.status, bool(answer.error["code"])) == (status, True), (method, path)
            assert TOKEN.encode() not in answer.body
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_only_a_missing_token_is_answered_with_a_challenge(guarded) -> None:
    answer = await ask(guarded.guard, "GET", "/health", [LOCAL])
    assert answer.headers["www-authenticate"] == "Bearer"


INVITED = {
    "loopback name": host("localhost"),
    "loopback name in capitals": host("LOCALHOST:8000"),
    "loopback address": host("127.0.0.1:65535"),
    "loopback address of version 6": host("[::1]:8000"),
    "allowed host": host("backend"),
    "allowed host with a port": host("backend:8000"),
    "allowed host with its port": host("lab:9000"),
    "page of this machine": origin("http://localhost:3000"),
    "allowed origin": origin("https://lab.example"),
    "own page": [("Host", "backend:8000"), BEARER, ("Origin", "http://backend:8000")],
    "scheme in small letters": token(f"bearer {TOKEN}"),
}


@pytest.mark.parametrize("headers", INVITED.values(), ids=INVITED.keys())
async def test_an_invited_request_is_answered(guarded, headers) -> None:
    assert (await ask(guarded.guard, "GET", "/health", headers)).status == 200


async def test_every_route_answers_an_invited_request_without_a_defect(guarded) -> None:
    for path in every_route(guarded):
        if "/mcp" in path or "/events" in path:
            continue  # they stay open; tests of their own ask them
        for method in METHODS:
            answer = await ask(guarded.guard, method, path, [LOCAL, BEARER])
            assert answer.status in {200, 404, 405, 422}, (method, path, answer)
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_body_of_exactly_one_mebibyte_is_read(api) -> None:
    answer = await ask(api.guard, "POST", "/training/start", [LOCAL, JSON], MEBIBYTE)
    assert answer.status == 422
    assert "missing" in answer.error["message"]


async def test_a_post_without_a_body_needs_no_type(api) -> None:
    for headers in ([LOCAL], [LOCAL, FORM], [LOCAL, ("Content-Length", "0")]):
        assert (await ask(api.guard, "POST", "/models/alpha/load", headers)).status == 200


async def test_json_may_say_its_character_set(api) -> None:
    headers = [LOCAL, ("Content-Type", "Application/JSON; charset=utf-8")]
    assert (await ask(api.guard, "POST", "/models/alpha/load", headers, b"{}")).status == 200


async def test_without_a_token_everyone_on_the_loopback_may_come(api) -> None:
    assert (await ask(api.guard, "GET", "/health")).status == 200
    assert (await ask(api.guard, "GET", "/health", token("Bearer anything"))).status == 200


async def test_a_websocket_is_closed(api) -> None:
    sent = []

    async def send(message) -> None:
        sent.append(message)

    await api.guard({"type": "websocket", "path": "/", "headers": []}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_client_that_leaves_in_mid_body_reaches_no_use_case(api, service) -> None:
    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/training/start", "headers": headers}
    await api.guard(scope, receive, None)
    assert service.calls == []


async def test_a_closed_guard_says_that_the_server_is_shutting_down(api) -> None:
    api.guard.closed = True
    try:
        answer = await ask(api.guard, "GET", "/health")
    finally:
        api.guard.closed = False
    assert (answer.status, answer.error["code"]) == (503, "draining")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("name", ["http://lab", "la b", "", "*", "lab:port"])
async def test_a_host_that_can_never_match_is_refused(name) -> None:
    with pytest.raises(InvalidRequest, match="not a host"):
        make_rules(None, [name], [])


@pytest.mark.parametrize("name", ["lab", "ftp://lab", "https://lab/page", "*"])
async def test_an_origin_that_can_never_match_is_refused(name) -> None:
    with pytest.raises(InvalidRequest, match="not an origin"):
        make_rules(None, [], [name])
