"""What a route of the HTTP face is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ktrdr_mcp.contract import responses

Call = Callable[[Any], Awaitable[responses.Reply]]


@dataclass(frozen=True)
class LabRoute:
    """One use case over HTTP.

    Attributes:
        name: the operation's name; the same as the tool's, where there is one.
        refusals: the statuses, beside those that every route has, that it may answer with.
    """

    method: str
    path: str
    name: str
    request: type[BaseModel]
    reply: type[responses.Reply]
    call: Call
    summary: str
    refusals: tuple[int, ...] = ()
