"""Pages over MCP: few rows, and no more bytes than a conversation can bear."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field

from ktrdr_mcp import limits
from ktrdr_mcp.contract import requests, responses
from ktrdr_mcp.errors import LimitExceeded, shown

Page = TypeVar("Page", responses.ModelList, responses.TaskList, responses.DataSummary)

ROWS_FIELD: Final[dict[type[responses.Success], str]] = {
    responses.ModelList: "models",
    responses.TaskList: "tasks",
    responses.DataSummary: "series",
}


def at_most_one_page(rows: int) -> int:
    """The limit itself, if a page may have so many rows. Raises LimitExceeded."""
    if rows > limits.MCP_PAGE_ROWS:
        raise LimitExceeded(
            f"limit is {shown(rows)}, but over MCP it must be at most {limits.MCP_PAGE_ROWS}.",
            hint=f"Ask for {limits.MCP_PAGE_ROWS} and go on with offset while has_more is true.",
            field="limit",
        )
    return rows


PageRows = Annotated[
    int,
    Field(ge=1, json_schema_extra={"maximum": limits.MCP_PAGE_ROWS}),
    AfterValidator(at_most_one_page),
]


class ListModels(requests.ListModels):
    """A page of the registry."""

    limit: PageRows = limits.MCP_PAGE_ROWS


class ListTasks(requests.ListTasks):
    """A page of the tasks."""

    limit: PageRows = limits.MCP_PAGE_ROWS


class SummarizeData(requests.SummarizeData):
    """A page of the stored series."""

    limit: PageRows = limits.MCP_PAGE_ROWS


def fitted(page: Page) -> Page:
    """The page without the last rows that would take it beyond its size; one row always stays.

    Args:
        page: a page as the laboratory gave it.
    """
    field = ROWS_FIELD[type(page)]
    rows = getattr(page, field)
    while len(rows) > 1 and len(page.model_dump_json().encode()) > limits.PAGE_BYTES:
        rows = rows[:-1]
        page = page.model_copy(update={field: rows, "returned": len(rows), "has_more": True})
    return page
