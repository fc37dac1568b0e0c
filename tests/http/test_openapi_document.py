"""The OpenAPI document says what the routes do."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from ktrdr_mcp.api.http import ktrdr_client
from ktrdr_mcp.api.operations import OPERATIONS as TABLE
from ktrdr_mcp.schemas.parsing import parse

pytestmark = pytest.mark.asyncio

OPERATIONS = {
    "start": "start_training",
    "status": "get_training_status",
    "performance": "get_model_performance",
    "save": "save_trained_model",
    "load": "load_trained_model",
    "predict": "test_model_prediction",
    "list": "list_trained_models",
}
# what the specification leaves open or says wrongly: no such time exists, paths are relative
OURS = {"created_at", "saved_at", "model_path", "config"}


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": document["components"]}


async def test_every_route_is_described_once_and_without_the_prefix(document, api) -> None:
    routes = {route.path for route in api.routes} - {"/openapi.json", "/docs", "/mcp"}
    routes -= {"/page/code", "/page/token"}  # between the command that opens the page and itself
    routes -= {path for _, path, _ in ktrdr_client.ROUTES}  # another program's, off the contract
    assert set(document["paths"]) == routes
    operations = [
        one["operationId"] for path in document["paths"].values() for one in path.values()
    ]
    assert len(set(operations)) == len(operations)


async def test_every_example_is_a_valid_reply_of_its_route(document) -> None:
    for route in TABLE.values():
        operation = document["paths"][route.path][route.method.lower()]
        content = operation["responses"]["200"]["content"]["application/json"]
        if route.reply_example is not None:
            jsonschema.validate(content["example"], resolved(document, content["schema"]))
            fields = route.reply.model_fields
            always = {name for name, field in fields.items() if field.exclude_if is None}
            assert always <= set(content["example"]) <= set(fields)
        if route.request_example is not None:
            body = operation["requestBody"]["content"]["application/json"]
            jsonschema.validate(body["example"], body["schema"])
            parse(route.request, body["example"])


def said_otherwise(example: Any, ours: Any, path: str = "") -> list[str]:
    """Every field of the specification's example that ours lacks or gives another value."""
    if isinstance(example, dict):
        names = [name for name in example if name not in OURS]
        return [
            found
            for name in names
            for found in said_otherwise(example[name], ours.get(name, "nothing"), f"{path}.{name}")
        ]
    if isinstance(example, list) and example and isinstance(example[0], dict):
        return [
            found
            for one, other in zip(example, ours, strict=True)
            for found in said_otherwise(one, other, path)
        ]
    return [] if example == ours else [f"{path}: {ours!r} instead of {example!r}"]


async def test_the_examples_are_the_specifications_own(specification) -> None:
    found = {
        name: said_otherwise(specification[name].response, TABLE[operation].reply_example)
        for name, operation in OPERATIONS.items()
    }
    assert found == {name: [] for name in OPERATIONS}
    for name, operation in OPERATIONS.items():
        if specification[name].request is not None:
            assert specification[name].request == TABLE[operation].request_example


async def test_no_description_holds_a_callers_text_or_a_path_of_this_machine(document) -> None:
    assert "/home" not in json.dumps(document)
    assert "/work" not in json.dumps(document)
