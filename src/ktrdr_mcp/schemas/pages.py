"""Pages of lists that must not be longer than so many bytes."""

from __future__ import annotations

from typing import TypeVar

from ktrdr_mcp.schemas.responses import Reply

Answer = TypeVar("Answer", bound=Reply)


def fit_page(reply: Answer, field: str, most_bytes: int) -> Answer:
    """A page without the last rows that would take it beyond its size; one row always stays.

    Args:
        reply: a page.
        field: which of its fields has the rows.
        most_bytes: of its compact JSON.
    """
    rows = getattr(reply, field)
    while len(rows) > 1 and len(reply.model_dump_json().encode()) > most_bytes:
        rows = rows[:-1]
        reply = reply.model_copy(update={field: rows, "returned": len(rows), "has_more": True})
    return reply
