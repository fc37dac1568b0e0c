"""The OpenAPI document, made from the table of operations, and the page that shows it.

The page is HTML without script or network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from shlex import quote
from typing import Any, Final
from urllib.parse import urlencode

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ktrdr_mcp import __version__
from ktrdr_mcp.api.operations import JSON, Operation
from ktrdr_mcp.api.schema import Schema, drop_null, inline_references
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.responses import ErrorReply
from ktrdr_mcp.schemas.results import Json

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
BOUNDS: Final = {
    "minimum": "at least {:g}",
    "exclusiveMinimum": "above {:g}",
    "maximum": "at most {:g}",
    "exclusiveMaximum": "below {:g}",
    "minLength": "{} characters at least",
    "maxLength": "{} characters at most",
    "minItems": "{} items at least",
    "maxItems": "{} items at most",
    "pattern": "form {}",
}


def document(operations: Iterable[Operation[Any, Any]]) -> Json:
    """The whole document.

    Args:
        operations: whose routes there are.
    """
    described = list(operations)
    entries = [*((one.path, one.method.lower(), entry(one)) for one in described), *EVENTS]
    found: Json = {}
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


def entry(operation: Operation[Any, Any]) -> Json:
    """What one route takes and answers."""
    reply: Json = {"schema": reference(operation.reply)}
    if operation.reply_example is not None:
        reply["example"] = operation.reply_example
    content: Json = {JSON: reply}
    if operation.page is not None:
        content[operation.page_type] = {"schema": {"type": "string"}}
    success = {"description": operation.reply.__doc__, "content": content}
    described: Json = {
        "summary": operation.summary,
        "operationId": operation.name,
        "parameters": parameters(operation.request, operation.path, operation.method),
        "responses": {"200": success, **refusals({422, *operation.refusals})},
    }
    schema = body_schema(operation.request, operation.path)
    if operation.method == "POST" and schema is not None:
        body: Json = {"schema": schema}
        if operation.request_example is not None:
            body["example"] = operation.request_example
        described["requestBody"] = {"required": bool(schema["required"]), "content": {JSON: body}}
    return described


def refusals(statuses: Iterable[int]) -> Json:
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


def parameters(model: type[BaseModel], path: str, method: str) -> list[Json]:
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


def words(schema: Schema) -> str:
    """What a value may be, its bounds, its default and what it is for.

    Args:
        schema: of the value, without references.
    """
    parts = [kind(schema), *bounds(schema)]
    if "default" in schema and "properties" not in schema:
        parts.append(f"default {json.dumps(schema['default'])}")
    sentence = ", ".join(parts)
    return f"{sentence}: {schema['description']}" if "description" in schema else sentence


def kind(schema: Schema) -> str:
    """The type, or the values that there are."""
    if "anyOf" in schema:
        return " or ".join(", ".join([kind(one), *bounds(one)]) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"array of {kind(schema.get('items', {}))}"
    if "$ref" in schema:
        return "object"
    return str(schema.get("type", "any value"))


def bounds(schema: Schema) -> list[str]:
    """The limits of a value, and the form of a text."""
    return [text.format(schema[name]) for name, text in BOUNDS.items() if name in schema]


SECURITY: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE: Final = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem }
h2 code { font-size: 1.125rem }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace }
pre { padding: 0.75rem; overflow-x: auto; border: 1px solid #8886; border-radius: 4px }
table { border-collapse: collapse; width: 100% }
td, th { padding: 0.25rem 0.75rem 0.25rem 0; text-align: left; vertical-align: top }
tr + tr td { border-top: 1px solid #8884 }
td:first-child { white-space: nowrap }
summary { cursor: pointer; margin: 0.5rem 0 }
"""


def page(document: Json, address: str) -> str:
    """The page.

    Args:
        document: the OpenAPI document.
        address: scheme, host and port of the examples.
    """
    info = document["info"]
    operations = list(list_operations(document))
    title = escape(f"{info['title']} {info['version']}")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>",
            f"<p>{escape(info['description'])}",
            '<p>For programs: <a href="/openapi.json">/openapi.json</a>.',
            table(contents(operations)),
            *(section(document, address, *each) for each in operations),
            "</html>\n",
        ]
    )


def list_operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and description of every operation."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def contents(operations: list[tuple[str, str, Json]]) -> list[list[str]]:
    """A row for each operation, with a link to it."""
    return [
        [
            f'<a href="#{escape(operation["operationId"])}">{code(f"{method} {path}")}</a>',
            escape(operation["summary"]),
        ]
        for method, path, operation in operations
    ]


def section(document: Json, address: str, method: str, path: str, operation: Json) -> str:
    """What one operation takes and gives."""
    body = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
    return "\n".join(
        [
            f'<h2 id="{escape(operation["operationId"])}">{code(f"{method} {path}")}</h2>',
            f"<p>{escape(operation['summary'])}",
            arguments(operation, body),
            preformat(
                command(address + request_target(path, operation), method, body.get("example"))
            ),
            reply(document, operation["responses"]),
            refusals_table(operation["responses"]),
        ]
    )


def arguments(operation: Json, body: Json) -> str:
    """The parameters and the fields of the body."""
    rows = [
        (each["name"], each["in"], each["schema"], each["required"])
        for each in operation["parameters"]
    ]
    schema = body.get("schema", {})
    rows += [
        (name, "body", child, name in schema.get("required", []))
        for name, child in schema.get("properties", {}).items()
    ]
    return table(
        [
            [code(name), f"{place}, required" if required else place, describe(child)]
            for name, place, child, required in rows
        ]
    )


def describe(schema: Schema) -> str:
    """A schema in words, the fields of an object in a table that opens."""
    text = escape(words(schema))
    fields = fields_of(schema)
    if not fields:
        return text
    rows = table([[code(name), describe(child)] for name, child in fields.items()])
    return f"<details><summary>{text}</summary>{rows}</details>"


def fields_of(schema: Schema) -> dict[str, Schema]:
    """The fields of an object, or of the objects of a choice."""
    found = dict(schema.get("properties", {}))
    for option in schema.get("anyOf", []):
        found |= option.get("properties", {})
    return found


def request_target(path: str, operation: Json) -> str:
    """Path and query of a request, with capitals where a name is to be put in."""
    query = urlencode(
        {
            each["name"]: each["schema"].get("enum", [each["name"].upper()])[0]
            for each in operation["parameters"]
            if each["in"] == "query" and each["required"]
        }
    )
    filled = re.sub(r"\{(\w+)\}", lambda name: name[1].upper(), path)
    return f"{filled}?{query}" if query else filled


def command(url: str, method: str, example: object) -> str:
    """A command that sends the request."""
    if method == "GET":
        return f"curl {quote(url)}"
    sent = "{}" if example is None else json.dumps(example, indent=2)
    return f"curl {quote(url)} -H {quote(f'Content-Type: {JSON}')} -d {quote(sent)}"


def reply(document: Json, responses: Json) -> str:
    """What a request that succeeds is answered with: an example, or the fields."""
    answer = responses["200"]
    content = answer.get("content", {}).get(JSON)
    if content is None:
        return f"<p>{escape(answer['description'])}"
    if "example" in content:
        shown = preformat(json.dumps(content["example"], indent=2))
        return f"<details><summary>A reply</summary>{shown}</details>"
    name = content["schema"]["$ref"].rpartition("/")[2]
    fields = document["components"]["schemas"][name]["properties"]
    rows = table([[code(name), escape(words(child))] for name, child in fields.items()])
    return f"<details><summary>The reply</summary>{rows}</details>"


def refusals_table(responses: Json) -> str:
    """The statuses of errors."""
    rows = [
        [escape(status), escape(answer["description"])]
        for status, answer in responses.items()
        if status >= "4"
    ]
    return f"<details><summary>Errors</summary>{table(rows)}</details>"


def table(rows: list[list[str]]) -> str:
    """Rows of cells that are HTML already."""
    if not rows:
        return ""
    lines = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def code(text: str) -> str:
    """A text as code within a line."""
    return f"<code>{escape(text)}</code>"


def preformat(text: str) -> str:
    """A text as a block of code."""
    return f"<pre>{escape(text)}</pre>"
