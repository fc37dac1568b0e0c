"""Histories, model cards and strategy files by address."""

from __future__ import annotations

import json
import logging

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, TextResourceContents

from ktrdr_mcp.errors import DatabaseError, LabUnavailable
from tests.support import sample_replies
from tests.support.fake_service import FakeService
from tests.support.mcp_clients import Connect

UUID = sample_replies.UUID
BUILT_IN = ("default", "mean_reversion", "trend_following", "volatility_breakout")


async def read(connect: Connect, uri: str) -> TextResourceContents:
    """The only content at the address."""
    async with connect() as client:
        (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content


async def refused(connect: Connect, uri: str) -> MCPError:
    """The error that reading the address gives."""
    async with connect() as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
    return caught.value


@pytest.mark.asyncio
async def test_the_templates_are_listed(connect: Connect) -> None:
    async with connect() as client:
        templates = (await client.list_resource_templates()).resource_templates
    assert {template.uri_template: template.mime_type for template in templates} == {
        "training://{task_id}": "application/json",
        "explanation://{task_id}": "application/json",
        "sweep://{task_id}": "application/json",
        "sweep://{task_id}/{candidate}": "application/json",
        "model://{model_name}": "application/json",
        "strategy://{name}": "application/yaml",
        "equity://{model_name}/{start_date}/{end_date}/{symbol}/{cost_bps}/{sides}": (
            "application/json"
        ),
    }


@pytest.mark.asyncio
async def test_the_view_and_the_strategies_are_listed_and_the_workspaces_own_are_among_them(
    connect: Connect,
) -> None:
    async with connect() as client:
        listed = (await client.list_resources()).resources
    assert [(resource.uri, resource.mime_type) for resource in listed] == [
        ("ui://ktrdr/training.html", "text/html;profile=mcp-app"),
        *((f"strategy://{name}", "application/yaml") for name in (*BUILT_IN, "trend")),
    ]


@pytest.mark.asyncio
async def test_no_more_than_a_hundred_strategies_are_listed(
    connect: Connect, service: FakeService
) -> None:
    service.names["strategy"] = [f"a{number}" for number in range(500)]
    async with connect() as client:
        listed = (await client.list_resources()).resources
    assert len(listed) == 101
    assert {*BUILT_IN} <= {resource.name for resource in listed}


@pytest.mark.asyncio
async def test_without_a_server_the_built_in_strategies_are_listed(
    connect: Connect, service: FakeService
) -> None:
    service.failure = LabUnavailable("The server does not answer.", hint="Try again.")
    async with connect() as client:
        listed = (await client.list_resources()).resources
    assert [resource.name for resource in listed] == ["training_view", *BUILT_IN]


@pytest.mark.asyncio
async def test_a_history_is_compact_json(connect: Connect) -> None:
    content = await read(connect, f"training://{UUID}")
    assert content.mime_type == "application/json"
    assert json.loads(content.text)["epochs"] == [{"epoch": 1, "val_loss": 1.1}]
    assert ": " not in content.text


@pytest.mark.asyncio
async def test_a_model_card_is_json(connect: Connect) -> None:
    content = await read(connect, "model://alpha")
    assert json.loads(content.text) == {"model_name": "alpha", "description": "from Zürich"}


@pytest.mark.asyncio
async def test_a_strategy_is_its_own_text(connect: Connect) -> None:
    content = await read(connect, "strategy://default")
    assert (content.text, content.mime_type) == ("name: default\n", "application/yaml")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("training://nobody", "No task has the id 'nobody'. Call list_training_tasks."),
        ("model://nobody", "No model is named 'nobody'. Saved: alpha."),
        ("strategy://nobody", "No strategy is named 'nobody'. There is: default."),
    ],
)
async def test_an_unknown_name_is_not_found_with_our_sentence(
    connect: Connect, uri: str, sentence: str
) -> None:
    error = await refused(connect, uri)
    assert (error.code, error.message) == (INVALID_PARAMS, sentence)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "uri",
    [
        "training://%2E%2E",
        "training://..%2F..%2Fetc%2Fpasswd",
        "training://a%00b",
        f"training://{'a' * 10_000}",
        "model://..",
        "model://UPPER",
        "strategy://%2Fetc%2Fpasswd",
    ],
)
async def test_a_hostile_name_is_refused_before_the_server_is_asked(
    connect: Connect, service: FakeService, uri: str
) -> None:
    error = await refused(connect, uri)
    assert error.code == INVALID_PARAMS
    assert "must match ^" in error.message
    assert error.message.isascii()
    assert len(error.message) < 300
    assert service.calls == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "training://a/b", "nonsense", f"x://{'a' * 10_000}"]
)
async def test_an_address_of_no_known_form_is_told_the_forms(
    connect: Connect, service: FakeService, uri: str
) -> None:
    error = await refused(connect, uri)
    assert error.code == INVALID_PARAMS
    assert "training://{task_id}" in error.message
    assert "strategy://{name}" in error.message
    assert len(error.message) < 350
    assert service.calls == []


@pytest.mark.asyncio
async def test_a_storage_failure_is_told_as_such(connect: Connect, service: FakeService) -> None:
    service.failure = DatabaseError("The database cannot be read.", hint="Restore a backup.")
    error = await refused(connect, f"training://{UUID}")
    assert error.code == INTERNAL_ERROR
    assert error.message == "The database cannot be read. Restore a backup."


@pytest.mark.asyncio
async def test_a_defect_while_reading_is_logged_and_not_shown(
    connect: Connect, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.failure = RuntimeError("secret /root/path")
    with caplog.at_level(logging.ERROR):
        error = await refused(connect, f"training://{UUID}")
    assert error.code == INTERNAL_ERROR
    assert "internal error" in error.message
    assert "secret" not in error.message
    assert "secret /root/path" in caplog.text


@pytest.mark.asyncio
async def test_an_equity_curve_is_read_by_model_and_dates(
    connect: Connect, service: FakeService
) -> None:
    content = await read(connect, "equity://alpha/2025-01-01/-/AAPL/2.5/long")
    assert json.loads(content.text)["out_of_sample"][0]["equity"] == 1.01
    (_, request), *_ = service.calls
    assert (request.start_date, request.end_date) == ("2025-01-01", None)
    assert (request.symbol, request.cost_bps, request.long_only) == ("AAPL", 2.5, True)
