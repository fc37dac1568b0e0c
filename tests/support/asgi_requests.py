"""Requests straight to an ASGI application, with every header and chunk as a test wants it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

TOKEN = "0123456789abcdef0123456789abcdef"
LOCAL = ("Host", "localhost:8000")
JSON = ("Content-Type", "application/json")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error's details; fails unless the body has the one error shape."""
        document = json.loads(self.body)
        assert set(document) == {"success", "detail", "error"}
        assert document["success"] is False
        assert set(document["error"]) == {"code", "message", "hint", "field"}
        assert document["detail"] == document["error"]["message"]
        assert document["error"]["hint"]
        return dict(document["error"])


async def ask(
    app: Any,
    method: str,
    path: str,
    headers: list[tuple[str, str]] | None = None,
    *chunks: bytes,
) -> Answer:
    """Sends one request; the client stays connected until the response is complete."""
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in ([LOCAL] if headers is None else headers)
        ],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
    }
    parts = list(chunks) or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()  # the client neither says more nor leaves
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    received = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], received, body)
