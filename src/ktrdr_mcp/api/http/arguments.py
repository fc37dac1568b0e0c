"""Parses an HTTP request's path, query and JSON body into raw arguments for the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from starlette.requests import Request

from ktrdr_mcp.errors import InvalidRequest, LimitExceeded, quote

MAX_DEPTH: Final = 32
# A string without an end matches too, and nothing is tried twice: the time grows with the length.
STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def decode(body: bytes) -> Any:
    """The value that a body says.

    Args:
        body: the whole body; empty means an object without fields.
    Raises:
        InvalidRequest: it is not UTF-8 or not JSON, or a key is there twice.
        LimitExceeded: it is nested too deeply.
    """
    if not body.strip():
        return {}
    refuse_depth(body)
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=refuse_repetition, parse_constant=refuse
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"The body is not UTF-8 at byte {error.start}.", hint="Send JSON in UTF-8."
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            hint="Send one JSON object.",
        ) from None
    except ValueError:  # Python refuses to read integers of thousands of digits
        raise InvalidRequest(
            "The body has a number of thousands of digits.", hint="Send a shorter number."
        ) from None


def refuse_depth(body: bytes) -> None:
    """Refuses what no request needs and what would exhaust the stack. Raises LimitExceeded."""
    depth = 0
    for match in STRING_OR_BRACKET.finditer(body):
        if (mark := match[0]) in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise LimitExceeded(
                f"The body is nested more than {MAX_DEPTH} levels deep.",
                hint="Send the fields of the request; none is nested that deep.",
            )


def refuse_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, if no key is there twice. Raises InvalidRequest."""
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise InvalidRequest(
                f"The key {quote(key)} is there twice.", hint="Send each key once."
            )
        fields[key] = value
    return fields


def refuse(literal: str) -> NoReturn:
    """NaN and infinities are Python's, not JSON's. Raises InvalidRequest."""
    raise InvalidRequest(f"{literal} is not JSON.", hint="Send a finite number, or null.")


async def raw_arguments(request: Request) -> object:
    """Everything that a request says, as one mapping.

    A GET takes its arguments from path and query, a POST from path and body.

    Args:
        request: the request; the guard has bounded its body.
    Raises:
        InvalidRequest: the body is not JSON, or something is said twice.
    """
    path: dict[str, Any] = dict(request.path_params)
    if request.method == "GET":
        return join(path, from_query(request.query_params.multi_items()))
    if request.query_params:
        raise InvalidRequest(
            f"The query parameter {quote(next(iter(request.query_params)))} has no effect here.",
            hint="Send the fields of the request in a JSON body.",
        )
    body = decode(await request.body())
    return join(path, body) if isinstance(body, Mapping) else body


def join(path: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one, if they do not contradict each other. Raises InvalidRequest."""
    for name, value in path.items():
        if name in rest and rest[name] != value:
            raise InvalidRequest(
                f"{name} is {quote(rest[name])}, but the path says {quote(value)}.",
                hint=f"Say {name} in the path alone.",
                field=name,
            )
    return {**rest, **path}


def from_query(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A query's arguments as texts, which are read as JSON where something else belongs.

    Args:
        items: names and texts, decoded.
    Raises:
        InvalidRequest: a name is there twice.
    """
    arguments: dict[str, str] = {}
    for name, text in items:
        if name in arguments:
            raise InvalidRequest(f"{quote(name)} is there twice.", hint=f"Send {quote(name)} once.")
        arguments[name] = text
    return arguments
