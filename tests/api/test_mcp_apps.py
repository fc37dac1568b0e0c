"""The view of a training in hosts that have MCP Apps, and its text in those that have none."""

from __future__ import annotations

import json

import pytest
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.types import TextContent, TextResourceContents

from tests.support import sample_replies
from tests.support.fake_service import FakeService
from tests.support.mcp_clients import Connect

URI = "ui://ktrdr/training.html"
TASK = {"task_id": sample_replies.UUID}


@pytest.mark.asyncio
async def test_one_tool_names_a_view_which_is_a_page_for_hosts_with_apps(connect: Connect) -> None:
    async with connect() as client:
        tools = (await client.list_tools()).tools
        protocol = client.protocol_version
        extensions = client.server_capabilities.extensions or {}
        (content,) = (await client.read_resource(URI)).contents
    views = {tool.name: tool.meta for tool in tools if tool.meta}
    assert views == {"show_training": {"ui": {"resourceUri": URI}}}
    # the SDK declares no extensions to clients of the older protocol, which know none
    assert (EXTENSION_ID in extensions) is (protocol == "2026-07-28")
    assert isinstance(content, TextResourceContents)
    assert (content.uri, content.mime_type) == (URI, APP_MIME_TYPE)
    assert content.text.startswith("<!doctype html>")


@pytest.mark.asyncio
async def test_a_shown_training_is_short_text_without_a_drawing(
    connect: Connect, service: FakeService
) -> None:
    async with connect() as client:
        result = await client.call_tool("show_training", TASK)
    (block,) = result.content
    assert isinstance(block, TextContent)
    assert result.structured_content == json.loads(block.text)
    assert "drawing" not in result.structured_content
    assert sample_replies.SHOWN.sparkline in block.text
    assert sample_replies.SHOWN.report in block.text
    assert len(block.text.encode()) < 500
    assert [request.draw for _, request in service.calls] == [False]


@pytest.mark.asyncio
async def test_the_view_asks_for_a_drawing(connect: Connect, service: FakeService) -> None:
    drawn = sample_replies.SHOWN.model_copy(update={"drawing": "<svg/>"})
    service.replies["show_training"] = drawn
    async with connect() as client:
        result = await client.call_tool("show_training", {**TASK, "draw": True})
    assert result.structured_content is not None
    assert result.structured_content["drawing"] == "<svg/>"
    assert [request.draw for _, request in service.calls] == [True]
