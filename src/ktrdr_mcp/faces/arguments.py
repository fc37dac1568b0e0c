"""From an HTTP request's path, query and body to the raw arguments that the contract checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from starlette.requests import Request

from ktrdr_mcp.errors import InvalidRequest, shown
from ktrdr_mcp.faces.json_body import decode

INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?")


async def raw_arguments(request: Request, model: type[BaseModel]) -> object:
    """Everything that a request says, as one mapping.

    A GET takes its arguments from path and query, a POST from path and body.

    Args:
        request: the request; the guard has bounded its body.
        model: the request's model, which says how the text of a query is to be read.
    Raises:
        InvalidRequest: the body is not JSON, or something is said twice.
    """
    path: dict[str, Any] = dict(request.path_params)
    if request.method == "GET":
        return joined(path, from_query(model, request.query_params.multi_items()))
    if request.query_params:
        raise InvalidRequest(
            f"The query parameter {shown(next(iter(request.query_params)))} has no effect here.",
            hint="Send the fields of the request in a JSON body.",
        )
    body = decode(await request.body())
    return joined(path, body) if isinstance(body, Mapping) else body


def joined(path: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one, if they do not contradict each other. Raises InvalidRequest."""
    for name, value in path.items():
        if name in rest and rest[name] != value:
            raise InvalidRequest(
                f"{name} is {shown(rest[name])}, but the path says {shown(value)}.",
                hint=f"Say {name} in the path alone.",
                field=name,
            )
    return {**rest, **path}


def from_query(model: type[BaseModel], items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A query's arguments; where the model wants a number, its text is read as one.

    Args:
        model: the request's model.
        items: names and texts, decoded.
    Raises:
        InvalidRequest: a name is there twice.
    """
    arguments: dict[str, Any] = {}
    for name, text in items:
        if name in arguments:
            raise InvalidRequest(f"{shown(name)} is there twice.", hint=f"Send {shown(name)} once.")
        field = model.model_fields.get(name)
        arguments[name] = as_typed(text, field.annotation if field else None)
    return arguments


def as_typed(text: str, annotation: object) -> str | int | float:
    """The number that a text says, if one is wanted; else the text, for the contract to judge."""
    if annotation is int and INTEGER.fullmatch(text):
        return int(text)
    if annotation is float and NUMBER.fullmatch(text):
        return float(text)
    return text
