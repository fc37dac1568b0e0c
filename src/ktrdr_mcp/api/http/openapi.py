"""The OpenAPI document, made from the table of operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ktrdr_mcp import __version__
from ktrdr_mcp.api.operations import JSON, Operation
from ktrdr_mcp.api.schema import Schema, drop_null, inline_references
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.responses import ErrorReply

EVENTS_PATH: Final = "/training/{task_id}/events"
ALL_EVENTS_PATH: Final = "/events"
DESCRIPTION: Final = (
    "Train, judge, save and use neural networks on market data. Every route exists with and "
    "without the prefix /api/v1, with and without a trailing slash. MCP Streamable HTTP is at "
    "/mcp."
)
REFUSALS: Final = {
    404: "Nothing has this name; the hint says what there is.",
    409: "It contradicts what is stored, or the task is not completed.",
    410: "The task's result was removed to free space; the hint says how to have it again.",
    422: "A body, parameter or value that is not valid, or too little data.",
    429: "Too many tasks are waiting.",
    503: "The service is shutting down, or takes no work.",
    507: "No space is left.",
}
CLASSES_OF_REFUSALS: Final = {
    "4XX": "401, 403, 405, 413, 415, 421: not let in.",
    "5XX": "The service or its storage failed.",
}


def document(operations: Iterable[Operation[Any, Any]]) -> dict[str, Any]:
    """The whole document.

    Args:
        operations: whose routes there are.
    """
    described = list(operations)
    entries = [*((one.path, one.method.lower(), entry(one)) for one in described), *EVENTS]
    found: dict[str, Any] = {}
    for path, method, one in entries:
        found.setdefault(path, {})[method] = one
    return {
        "openapi": "3.1.0",
        "info": {"title": "ktrdr-mcp", "description": DESCRIPTION, "version": __version__},
        "paths": found,
        "components": {"schemas": schemas([*(one.reply for one in described), ErrorReply])},
    }


def schemas(models: Iterable[type[BaseModel]]) -> dict[str, Schema]:
    """The schemas of replies and of what they hold, by name."""
    _, found = models_json_schema(
        [(model, "serialization") for model in dict.fromkeys(models)],
        ref_template="#/components/schemas/{model}",
    )
    return dict(found["$defs"])


def entry(operation: Operation[Any, Any]) -> dict[str, Any]:
    """What one route takes and answers."""
    reply: dict[str, Any] = {"schema": reference(operation.reply)}
    if operation.reply_example is not None:
        reply["example"] = operation.reply_example
    content: dict[str, Any] = {JSON: reply}
    if operation.page is not None:
        content[operation.page_type] = {"schema": {"type": "string"}}
    success = {"description": operation.reply.__doc__, "content": content}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.name,
        "parameters": parameters(operation.request, operation.path, operation.method),
        "responses": {"200": success, **refusals({422, *operation.refusals})},
    }
    schema = body_schema(operation.request, operation.path)
    if operation.method == "POST" and schema is not None:
        body: dict[str, Any] = {"schema": schema}
        if operation.request_example is not None:
            body["example"] = operation.request_example
        described["requestBody"] = {"required": bool(schema["required"]), "content": {JSON: body}}
    return described


def refusals(statuses: Iterable[int]) -> dict[str, Any]:
    """What a route answers with instead of a reply."""
    described = {str(status): REFUSALS[status] for status in sorted(statuses)}
    error = {JSON: {"schema": reference(ErrorReply)}}
    return {
        status: {"description": text, "content": error}
        for status, text in {**described, **CLASSES_OF_REFUSALS}.items()
    }


def reference(model: type[BaseModel]) -> Schema:
    """Where the document has a model's schema."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def parameters(model: type[BaseModel], path: str, method: str) -> list[dict[str, Any]]:
    """A request's arguments in the path, and those of a GET in the query.

    Args:
        model: the request's model.
        path: the route's path.
        method: the route's method.
    """
    schema = inline_references(model)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "path" if in_path(name, path) else "query",
            "required": name in required,
            "schema": parameter_schema(child),
        }
        for name, child in schema["properties"].items()
        if in_path(name, path) or method == "GET"
    ]


def parameter_schema(child: Schema) -> Schema:
    """A parameter's schema; a parameter cannot be null, it can only be left out."""
    schema = drop_null(child)
    return {key: value for key, value in schema.items() if (key, value) != ("default", None)}


def body_schema(model: type[BaseModel], path: str) -> Schema | None:
    """The schema of a request's body; None if everything stands in the path."""
    schema = inline_references(model)
    kept = {name: child for name, child in schema["properties"].items() if not in_path(name, path)}
    required = [name for name in schema.get("required", []) if name in kept]
    return {**schema, "properties": kept, "required": required} if kept else None


def in_path(name: str, path: str) -> bool:
    """Whether a route takes the argument from its path."""
    return f"{{{name}}}" in path


EVENTS: Final = (
    (
        ALL_EVENTS_PATH,
        "get",
        {
            "summary": "The progress of every task that runs, as server-sent events, without end.",
            "operationId": "all_events",
            "parameters": [],
            "responses": {
                "200": {
                    "description": "`progress` and `end` events with a status as data;"
                    " `tasks` where the list of tasks has changed.",
                    "content": {"text/event-stream": {}},
                },
                **refusals({422}),
            },
        },
    ),
    (
        EVENTS_PATH,
        "get",
        {
            "summary": "A task's progress as server-sent events, until its end.",
            "operationId": "training_events",
            "parameters": parameters(requests.TaskOnly, EVENTS_PATH, "GET"),
            "responses": {
                "200": {
                    "description": "`progress` events with a status as data, and one `end`.",
                    "content": {"text/event-stream": {}},
                },
                "204": {"description": "Last-Event-ID says that the end was seen."},
                **refusals({404, 422}),
            },
        },
    ),
)
