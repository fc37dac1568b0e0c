"""Replies stay small enough for a conversation."""

from __future__ import annotations

import pytest
import sample_replies
from fake_lab import FakeLab
from mcp.types import CallToolResult, TextContent
from mcp_clients import Connect

from ktrdr_mcp import limits
from ktrdr_mcp.contract import responses
from ktrdr_mcp.faces import pages

TASK = {"task_id": sample_replies.UUID}


def size_bytes(result: CallToolResult) -> int:
    """The reply's size; structured content and text are the same data."""
    (block,) = result.content
    assert isinstance(block, TextContent)
    return len(block.text.encode())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply", [sample_replies.PENDING, sample_replies.status(99_999), sample_replies.FAILED]
)
async def test_a_status_is_small(
    connect: Connect, lab: FakeLab, reply: responses.TrainingStatus
) -> None:
    lab.replies["get_training_status"] = reply
    async with connect() as client:
        result = await client.call_tool("get_training_status", TASK)
    assert size_bytes(result) <= limits.STATUS_BYTES


@pytest.mark.asyncio
async def test_a_performance_is_small(connect: Connect) -> None:
    async with connect() as client:
        result = await client.call_tool("get_model_performance", TASK)
    assert size_bytes(result) <= limits.PERFORMANCE_BYTES


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "name", ["list_trained_models", "list_training_tasks", "get_market_data_summary"]
)
async def test_a_full_page_of_usual_rows_fits(connect: Connect, name: str) -> None:
    async with connect() as client:
        result = await client.call_tool(name)
    assert size_bytes(result) <= limits.PAGE_BYTES
    assert result.structured_content is not None
    assert result.structured_content["returned"] == limits.MCP_PAGE_ROWS


@pytest.mark.asyncio
async def test_a_page_of_long_rows_is_cut_and_says_so(connect: Connect, lab: FakeLab) -> None:
    row = sample_replies.MODEL_ROW.model_copy(
        update={"description": "d" * limits.MAX_DESCRIPTION_CHARACTERS}
    )
    lab.replies["list_trained_models"] = responses.ModelList(
        models=[row] * 5, returned=5, has_more=False
    )
    async with connect() as client:
        result = await client.call_tool("list_trained_models")
    assert size_bytes(result) <= limits.PAGE_BYTES
    content = result.structured_content
    assert content is not None
    assert content["models"] == [row.model_dump()] * 3
    assert (content["returned"], content["has_more"]) == (3, True)


def test_a_page_that_fits_is_left_alone() -> None:
    assert pages.fitted(sample_replies.TASKS) is sample_replies.TASKS


def test_one_row_stays_however_long_it_is() -> None:
    row = sample_replies.SERIES.model_copy(update={"notes": ["n" * 3_000]})
    page = pages.fitted(responses.DataSummary(series=[row, row], returned=2, has_more=False))
    assert (page.series, page.returned, page.has_more) == ([row], 1, True)
    assert pages.fitted(page) is page
