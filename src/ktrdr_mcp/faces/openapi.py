"""The routes as OpenAPI describes them, with the specification's examples."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from ktrdr_mcp import paths
from ktrdr_mcp.contract.documents import ErrorReply
from ktrdr_mcp.faces.examples import REPLIES, REQUESTS
from ktrdr_mcp.faces.lab_route import LabRoute
from ktrdr_mcp.faces.schema_inlining import Schema, inlined, without_null

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
    503: "The laboratory is shutting down.",
    507: "No space is left.",
}
ANY_REFUSAL: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorReply, "description": "401, 403, 405, 413, 415, 421: not let in."},
    "5XX": {"model": ErrorReply, "description": "The laboratory or its storage failed."},
}
EVENTS_REPLIES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "`progress` events with a status as data, and one `end`.",
        "content": {"text/event-stream": {}},
    },
    204: {"description": "Last-Event-ID says that the end was seen."},
    404: {"model": ErrorReply, "description": REFUSALS[404]},
    422: {"model": ErrorReply, "description": REFUSALS[422]},
    **ANY_REFUSAL,
}
# The contract checks names by itself and says more than a pattern can; programs read the pattern.
FORMS: Final[dict[str, Schema]] = {
    "task_id": {"pattern": paths.TASK_ID_PATTERN},
    "model_name": {"pattern": paths.NAME_PATTERN},
    "strategy": {"pattern": paths.NAME_PATTERN},
    "name": {"pattern": paths.NAME_PATTERN},
    "symbol": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9.=^-]{0,31}$"},
    "timeframe": {"enum": list(paths.TIMEFRAME_MINUTES)},
}


def replies(route: LabRoute) -> dict[int | str, dict[str, Any]]:
    """What a route may answer."""
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorReply, "description": REFUSALS[status]}
        for status in sorted({422, *route.refusals})
    }
    return {200: {"description": route.reply.__doc__}, **refusals, **ANY_REFUSAL}


def arguments(route: LabRoute) -> dict[str, Any]:
    """What a route takes: parameters, and for a POST the rest as a body."""
    described: dict[str, Any] = {"parameters": parameters(route.request, route.path, route.method)}
    if route.method == "POST" and (schema := body_schema(route.request, route.path)):
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": bool(schema["required"]), "content": content}
    return described


def add_examples(document: dict[str, Any]) -> dict[str, Any]:
    """Puts the examples in their places; FastAPI would leave out what is null in them.

    Args:
        document: the OpenAPI document; changed.
    """
    for path in document["paths"].values():
        for operation in path.values():
            name = operation["operationId"]
            if name in REPLIES:
                reply = operation["responses"]["200"]["content"]["application/json"]
                reply["example"] = REPLIES[name]
            if name in REQUESTS:
                operation["requestBody"]["content"]["application/json"]["example"] = REQUESTS[name]
    return document


def parameters(model: type[BaseModel], path: str, method: str = "GET") -> list[dict[str, Any]]:
    """A request's arguments in the path, and those of a GET in the query.

    Args:
        model: the request's model.
        path: the route's path.
        method: the route's method.
    """
    schema = described_form(model)
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
    schema = without_null(child)
    return {key: value for key, value in schema.items() if (key, value) != ("default", None)}


def body_schema(model: type[BaseModel], path: str) -> Schema | None:
    """The schema of a request's body; None if everything stands in the path."""
    schema = described_form(model)
    kept = {name: child for name, child in schema["properties"].items() if not in_path(name, path)}
    required = [name for name in schema.get("required", []) if name in kept]
    return {**schema, "properties": kept, "required": required} if kept else None


def in_path(name: str, path: str) -> bool:
    """Whether a route takes the argument from its path."""
    return f"{{{name}}}" in path


def described_form(model: type[BaseModel]) -> Schema:
    """A request's schema with the form of every name at its top level."""
    schema = inlined(model)
    properties = {
        name: with_form(child, FORMS.get(name, {})) for name, child in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def with_form(schema: Schema, form: Schema) -> Schema:
    """The form in the schema of a text, or in the text of a choice."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [with_form(option, form) for option in schema["anyOf"]]}
    return {**schema, **form} if schema.get("type") == "string" else schema
