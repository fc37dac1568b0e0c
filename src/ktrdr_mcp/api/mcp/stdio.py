"""MCP over standard input and output; every line with an id is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from pydantic_core import ErrorDetails


@asynccontextmanager
async def answer_stdio() -> AsyncIterator[tuple[Messages, Any]]:
    """The SDK's stdio transport, with answers where it would only log what is no message."""
    async with stdio_server() as (reader, writer):
        yield Messages(reader, writer), writer


class Messages:
    """The messages of a client, in the SDK's form of a stream.

    Args:
        reader: gives messages, and an exception for each line that is none.
        writer: takes answers.
    """

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> SessionMessage:
        """The next message; what is none is answered on the way."""
        while True:
            item = await self._reader.receive()
            if not isinstance(item, ValidationError):
                return item  # type: ignore[no-any-return]
            message = message_or_refusal(item)
            if isinstance(message, JSONRPCError):
                await self._writer.send(SessionMessage(message))
            elif message is not None:
                return SessionMessage(message)

    async def __anext__(self) -> SessionMessage:
        """The next message."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def __aiter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        """Closes the stream."""
        await self._reader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def last_context(self) -> Any:
        """The context in which the last message was sent."""
        return getattr(self._reader, "last_context", None)


def message_or_refusal(error: ValidationError) -> JSONRPCMessage | None:
    """What a line that the SDK could not read is: a message after all, or the refusal to send.

    Half of a surrogate pair is no Unicode; Python reads what pydantic refuses, and it is replaced.

    Returns:
        None for an empty line.
    """
    details = error.errors(include_url=False)
    lines = [each["input"] for each in details if each["type"] == "json_invalid"]
    if lines and not lines[0].strip():
        return None
    try:
        value = json.loads(lines[0]) if lines else decode_input(details)
    except (ValueError, RecursionError):
        return refusal(PARSE_ERROR, "The line is not JSON.", None)
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace")
    try:
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValidationError:
        identifier = value.get("id") if isinstance(value, dict) else None
        known = isinstance(identifier, str | int) and not isinstance(identifier, bool)
        form = "a batch, which is not supported" if isinstance(value, list) else "no request"
        return refusal(
            INVALID_REQUEST,
            f"The line is {form}: send one JSON-RPC 2.0 object with jsonrpc, id and method.",
            identifier if known else None,
        )


def decode_input(details: list[ErrorDetails]) -> object:
    """The JSON value about which pydantic complains: the whole, not a part of it."""
    whole = [each["input"] for each in details if each["type"] == "missing"]
    return whole[0] if whole else details[0]["input"]


def refusal(code: int, message: str, identifier: str | int | None) -> JSONRPCError:
    """An error to answer a line with."""
    return JSONRPCError(jsonrpc="2.0", id=identifier, error=ErrorData(code=code, message=message))
