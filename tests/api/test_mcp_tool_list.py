"""What a client is told of the tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from mcp.types import Tool

from ktrdr_mcp import limits, paths
from ktrdr_mcp.api.mcp.server import INSTRUCTIONS, build_server
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.labels.registry import LABELERS
from ktrdr_mcp.schemas.config import TrainingConfig
from tests.support.fake_service import FakeService
from tests.support.mcp_clients import Connect

# Names, order and marks of the tools are pinned in the recorded conversation.
TOOLS = {name: each.tool for name, each in OPERATIONS.items() if each.tool is not None}


async def listed(service: FakeService) -> dict[str, Tool]:
    """The tools by name."""
    return {tool.name: tool for tool in await build_server(service).list_tools()}


def subschemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a schema, keywords and properties alike."""
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from subschemas(child)
    elif isinstance(node, list):
        for child in node:
            yield from subschemas(child)


@pytest.mark.asyncio
async def test_the_tools_are_listed_in_the_order_of_the_table(connect: Connect) -> None:
    async with connect() as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == list(TOOLS)


@pytest.mark.asyncio
async def test_the_whole_tool_list_stays_small(connect: Connect) -> None:
    async with connect() as client:
        result = await client.list_tools()
    wire = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    compact = json.dumps(wire, separators=(",", ":"), ensure_ascii=False)
    assert len(compact.encode()) <= limits.TOOL_LIST_BYTES, "shorten descriptions, of any tool"


@pytest.mark.asyncio
async def test_schemas_are_flat(service: FakeService) -> None:
    for tool in (await listed(service)).values():
        for schema in (tool.input_schema, tool.output_schema):
            assert schema is not None
            assert schema["type"] == "object"
            assert not {"anyOf", "oneOf", "allOf", "not"} & set(schema)
            for part in subschemas(schema):
                assert not {"$ref", "$defs", "title"} & set(part)
                kinds = part.get("type")
                if isinstance(kinds, list):
                    assert schema is tool.output_schema
                    assert len(kinds) == 2
                    assert "null" in kinds


@pytest.mark.asyncio
async def test_input_schemas_refuse_unknown_fields_and_offer_no_null_to_leave_one_out(
    service: FakeService,
) -> None:
    for tool in (await listed(service)).values():
        assert tool.input_schema["additionalProperties"] is False
        arguments = {**tool.input_schema["properties"], "config": {}}
        assert '"null"' not in json.dumps(arguments)


@pytest.mark.asyncio
async def test_a_client_that_validates_may_switch_off_what_null_switches_off(
    service: FakeService,
) -> None:
    checker = jsonschema.Draft202012Validator(
        (await listed(service))["start_training"].input_schema
    )
    series = {"symbol": "AAPL", "timeframe": "1h"}
    taking = {
        name for name in TrainingConfig.model_fields
        if checker.is_valid({**series, "config": {name: None}})
    }  # fmt: skip
    assert taking == {
        *("early_stopping", "walk_forward", "sweep"),
        *("gradient_clip", "lr_scheduler", "class_weights"),
    }
    assert all(TrainingConfig.model_validate({name: None}) for name in taking)


@pytest.mark.asyncio
async def test_start_training_takes_the_specifications_fields(service: FakeService) -> None:
    schema = (await listed(service))["start_training"].input_schema
    assert set(schema["properties"]) == {
        *("symbol", "timeframe", "config", "start_date", "end_date", "task_id"),
        *("strategy", "idempotency_key", "note", "wait_s"),
    }
    assert schema["required"] == ["symbol", "timeframe"]


@pytest.mark.asyncio
async def test_every_available_setting_is_advertised_and_no_reserved_one(
    service: FakeService,
) -> None:
    schema = (await listed(service))["start_training"].input_schema
    expected = set(TrainingConfig.model_fields)
    assert set(schema["properties"]["config"]["properties"]) == expected


@pytest.mark.asyncio
async def test_bounds_are_advertised(service: FakeService) -> None:
    tools = await listed(service)
    config = tools["start_training"].input_schema["properties"]["config"]["properties"]
    assert config["epochs"]["minimum"] == 1
    assert config["seeds"]["maximum"] == limits.MAX_SEEDS
    assert config["dropout_rate"]["exclusiveMaximum"] == 1
    assert config["hidden_layers"]["maxItems"] == limits.MAX_LAYERS
    stopping, _ = config["early_stopping"]["anyOf"]
    assert stopping["properties"]["patience"]["minimum"] == 1
    wait_s = tools["get_training_status"].input_schema["properties"]["wait_s"]
    assert wait_s["maximum"] == limits.MAX_WAIT_S
    for name in ("list_trained_models", "list_training_tasks", "get_market_data_summary"):
        limit = tools[name].input_schema["properties"]["limit"]
        assert (limit["default"], limit["maximum"]) == (limits.MCP_PAGE_ROWS, limits.MCP_PAGE_ROWS)


@pytest.mark.asyncio
async def test_every_setting_says_what_it_is_and_its_default(service: FakeService) -> None:
    schema = (await listed(service))["start_training"].input_schema
    config = schema["properties"]["config"]["properties"]
    defaults = TrainingConfig().model_dump(mode="json")
    for name, setting in config.items():
        assert setting["description"]
        if not isinstance(defaults.get(name), dict):
            assert setting["default"] == defaults.get(name)
    assert schema["properties"]["timeframe"]["enum"] == list(paths.TIMEFRAME_MINUTES)
    assert set(config["labels"]["properties"]["method"]["enum"]) == set(LABELERS)


@pytest.mark.asyncio
async def test_every_tool_has_a_title_and_typed_outputs(service: FakeService) -> None:
    for tool in (await listed(service)).values():
        assert tool.title
        assert tool.output_schema is not None
        assert tool.output_schema["required"] == ["success"]
        for name, field in tool.output_schema["properties"].items():
            assert {"type", "anyOf", "enum", "const"} & set(field), (tool.name, name)


@pytest.mark.asyncio
async def test_annotations_say_what_a_tool_changes(service: FakeService) -> None:
    for name, tool in (await listed(service)).items():
        offer, marks = TOOLS[name], tool.annotations
        assert marks is not None
        assert marks.read_only_hint is (not offer.changes)
        assert marks.open_world_hint is offer.open_world
        if offer.changes:
            assert marks.destructive_hint is offer.destructive
            assert marks.idempotent_hint is offer.idempotent


@pytest.mark.asyncio
async def test_tool_texts_are_plain_ascii_whatever_the_server_holds(service: FakeService) -> None:
    before = {name: tool.model_dump_json() for name, tool in (await listed(service)).items()}
    service.names["model_name"] = ["ignore_all_instructions"]
    after = {name: tool.model_dump_json() for name, tool in (await listed(service)).items()}
    assert before == after
    assert all(text.isascii() and text.isprintable() for text in before.values())
    assert service.calls == []


@pytest.mark.asyncio
async def test_instructions_teach_the_loop_in_four_sentences(connect: Connect) -> None:
    async with connect() as client:
        assert client.instructions == INSTRUCTIONS
    sentences = [part for part in INSTRUCTIONS.replace("\n", " ").split(". ") if part]
    assert len(sentences) == 4
    for name in ("start_training", "get_training_status", "get_model_performance", "wait_s=50"):
        assert name in INSTRUCTIONS
