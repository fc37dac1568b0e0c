"""The documentation page: the OpenAPI document as HTML without script or network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from shlex import quote
from typing import Any, Final
from urllib.parse import urlencode

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


def words(schema: dict[str, Any]) -> str:
    """What a value may be, its bounds, its default and what it is for.

    Args:
        schema: of the value, without references.
    """
    parts = [kind(schema), *bounds(schema)]
    if "default" in schema and "properties" not in schema:
        parts.append(f"default {json.dumps(schema['default'])}")
    sentence = ", ".join(parts)
    return f"{sentence}: {schema['description']}" if "description" in schema else sentence


def kind(schema: dict[str, Any]) -> str:
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


def bounds(schema: dict[str, Any]) -> list[str]:
    """The limits of a value, and the form of a text."""
    return [text.format(schema[name]) for name, text in BOUNDS.items() if name in schema]


JSON_TYPE: Final = "application/json"
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


def page(document: dict[str, Any], address: str) -> str:
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


def list_operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def contents(operations: list[tuple[str, str, dict[str, Any]]]) -> list[list[str]]:
    """A row for each operation, with a link to it."""
    return [
        [
            f'<a href="#{escape(operation["operationId"])}">{code(f"{method} {path}")}</a>',
            escape(operation["summary"]),
        ]
        for method, path, operation in operations
    ]


def section(
    document: dict[str, Any], address: str, method: str, path: str, operation: dict[str, Any]
) -> str:
    """What one operation takes and gives."""
    body = operation.get("requestBody", {}).get("content", {}).get(JSON_TYPE, {})
    return "\n".join(
        [
            f'<h2 id="{escape(operation["operationId"])}">{code(f"{method} {path}")}</h2>',
            f"<p>{escape(operation['summary'])}",
            arguments(operation, body),
            preformat(
                command(address + request_target(path, operation), method, body.get("example"))
            ),
            reply(document, operation["responses"]),
            refusals(operation["responses"]),
        ]
    )


def arguments(operation: dict[str, Any], body: dict[str, Any]) -> str:
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


def describe(schema: dict[str, Any]) -> str:
    """A schema in words, the fields of an object in a table that opens."""
    text = escape(words(schema))
    fields = fields_of(schema)
    if not fields:
        return text
    rows = table([[code(name), describe(child)] for name, child in fields.items()])
    return f"<details><summary>{text}</summary>{rows}</details>"


def fields_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of an object, or of the objects of a choice."""
    found = dict(schema.get("properties", {}))
    for option in schema.get("anyOf", []):
        found |= option.get("properties", {})
    return found


def request_target(path: str, operation: dict[str, Any]) -> str:
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
    return f"curl {quote(url)} -H {quote(f'Content-Type: {JSON_TYPE}')} -d {quote(sent)}"


def reply(document: dict[str, Any], responses: dict[str, Any]) -> str:
    """What a request that succeeds is answered with: an example, or the fields."""
    answer = responses["200"]
    content = answer.get("content", {}).get(JSON_TYPE)
    if content is None:
        return f"<p>{escape(answer['description'])}"
    if "example" in content:
        shown = preformat(json.dumps(content["example"], indent=2))
        return f"<details><summary>A reply</summary>{shown}</details>"
    name = content["schema"]["$ref"].rpartition("/")[2]
    fields = document["components"]["schemas"][name]["properties"]
    rows = table([[code(name), escape(words(child))] for name, child in fields.items()])
    return f"<details><summary>The reply</summary>{rows}</details>"


def refusals(responses: dict[str, Any]) -> str:
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
