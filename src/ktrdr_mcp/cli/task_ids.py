"""Task ids of which only the beginning is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from ktrdr_mcp.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ktrdr_mcp.schemas.service import ServiceProtocol

MIN_PREFIX_CHARACTERS: Final = 4  # of an id that is not written out
MAX_NAMED: Final = 5

Request = TypeVar("Request", bound="BaseModel")


async def complete_ids(service: ServiceProtocol, request: Request) -> Request:
    """The request with whole task ids in place of their beginnings. Raises InvalidRequest."""
    found: dict[str, Any] = {}
    if one := getattr(request, "task_id", None):
        found["task_id"] = await complete_id(service, one)
    if several := getattr(request, "task_ids", None):
        found["task_ids"] = [await complete_id(service, one) for one in several]
    return request.model_copy(update=found)


async def complete_id(service: ServiceProtocol, text: str) -> str:
    """The one task id that begins with a text; the text itself if none does.

    Raises:
        InvalidRequest: several do, and none is the text.
    """
    from ktrdr_mcp.api import operations
    from ktrdr_mcp.schemas import requests
    from ktrdr_mcp.schemas.parsing import parse

    if len(text) < MIN_PREFIX_CHARACTERS:
        return text
    request = parse(requests.CompleteName, {"kind": "task_id", "prefix": text})
    names = (await operations.COMPLETE(service, request)).names
    if len(names) <= 1 or text in names:
        return text if text in names or not names else names[0]
    raise InvalidRequest(
        f"Several tasks begin with {text}.",
        hint=f"Write more of it: {', '.join(names[:MAX_NAMED])}"
        f"{' and more' if len(names) > MAX_NAMED else ''}.",
        field="task_id",
    )
