"""MCP over standard input and output; every line with an id is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from pydantic_core import ErrorDetails

ANSWER_TIMEOUT_S: Final = 5.0  # for what is not answered yet when the input ends
CANCELLED: Final = "notifications/cancelled"
LISTEN: Final = "subscriptions/listen"  # is answered when the client leaves, and not before


@asynccontextmanager
async def answer_stdio() -> AsyncIterator[tuple[Messages, Answers]]:
    """The SDK's stdio transport, with an answer to every line that has an id."""
    async with stdio_server() as (reader, writer):
        yield answer_all(reader, writer)


def answer_all(reader: Any, writer: Any) -> tuple[Messages, Answers]:
    """A client's messages and the answers to them, in the SDK's forms of a stream.

    Args:
        reader: gives messages, and an exception for each line that is none.
        writer: takes answers.
    """
    answers = Answers(writer)
    return Messages(reader, answers), answers


class Stream:
    """A stream of the SDK that is passed on.

    Args:
        inner: the stream itself.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def aclose(self) -> None:
        """Closes the stream."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class Answers(Stream):
    """What is sent to a client; knows which of its requests have no answer yet.

    Args:
        inner: takes answers.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._awaited: list[str | int] = []
        self._ended = False
        self._complete = anyio.Event()

    async def send(self, item: SessionMessage) -> None:
        """Sends an answer or a notification."""
        await self._inner.send(item)
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._settle([each for each in self._awaited if each == item.message.id])

    def expect(self, message: JSONRPCMessage) -> None:
        """Notes that a request waits for its answer; one that is cancelled gets none."""
        if isinstance(message, JSONRPCRequest) and message.method != LISTEN:
            self._awaited.append(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == CANCELLED:
            cancelled = (message.params or {}).get("requestId")
            self._settle([each for each in self._awaited if str(each) == str(cancelled)])

    def _settle(self, identifiers: list[str | int]) -> None:
        """Takes the first of these requests off those that wait."""
        if identifiers:
            self._awaited.remove(identifiers[0])
        if self._ended and not self._awaited:
            self._complete.set()

    async def complete(self) -> None:
        """Waits until all requests are answered; what takes too long is left."""
        self._ended = True
        self._settle([])
        with anyio.move_on_after(ANSWER_TIMEOUT_S):
            await self._complete.wait()


class Messages(Stream):
    """The messages of a client; they end when those that were read are answered.

    The SDK cancels what still runs at the end.

    Args:
        inner: gives messages, and an exception for each line that is none.
        answers: takes answers.
    """

    def __init__(self, inner: Any, answers: Answers) -> None:
        super().__init__(inner)
        self._answers = answers

    async def receive(self) -> SessionMessage:
        """The next message; what is none is answered on the way."""
        while True:
            try:
                item = await self._inner.receive()
            except anyio.EndOfStream:
                await self._answers.complete()
                raise
            if isinstance(item, SessionMessage):
                self._answers.expect(item.message)
            if not isinstance(item, ValidationError):
                return item  # type: ignore[no-any-return]
            message = message_or_refusal(item)
            if isinstance(message, JSONRPCError):
                await self._answers.send(SessionMessage(message))
            elif message is not None:
                self._answers.expect(message)
                return SessionMessage(message)

    async def __anext__(self) -> SessionMessage:
        """The next message."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def __aiter__(self) -> Self:
        return self

    @property
    def last_context(self) -> Any:
        """The context in which the last message was sent."""
        return getattr(self._inner, "last_context", None)


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
