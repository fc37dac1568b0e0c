"""From a caller's raw arguments to a request, or to one sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ktrdr_mcp.errors import InvalidRequest, KtrdrError, LimitExceeded, did_you_mean, shown

Request = TypeVar("Request", bound=BaseModel)
BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
EXPECTATIONS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_unicode": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "none_required": "null",
    "string_too_short": "text that is not empty",
}
COLLECTIONS = {"Dictionary": ("an object", "fields")}  # by pydantic's name; else lists
# Where pydantic adds to the path: the type within a union, and a mark for a key itself.
UNION_MARKS = frozenset({"str", "int", "float"})
KEY_MARK = "[key]"
MAX_PATH_CHARACTERS = 200


def parse(model: type[Request], raw: object) -> Request:
    """Checks raw arguments against a request model.

    Args:
        model: the request's model.
        raw: decoded JSON as the caller sent it.
    Raises:
        InvalidRequest: with the first thing wrong, where, and what to send instead.
    """
    if not isinstance(raw, Mapping):
        raise InvalidRequest(
            f"The request is {json_type(raw)}, not an object.",
            hint=f"Send an object with {', '.join(model.model_fields)}.",
        )
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        raise explained(model, error.errors(include_url=False)) from None


def explained(model: type[BaseModel], details: list[ErrorDetails]) -> KtrdrError:
    """The first of pydantic's complaints as one of ours, unknown keys before others."""
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    field = path_of(first)
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        return unknown_key(model, first)
    if kind == "missing":
        return InvalidRequest(f"{field} is missing.", hint=f"Send {field}.", field=field)
    if kind in BOUNDS:
        return out_of_bounds(first, field)
    if kind == "literal_error":
        return InvalidRequest(
            f"{field} is {shown(value)}, which is not known.{nearest_choice(first)}",
            hint=f"Use {first['ctx']['expected']}.",
            field=field,
        )
    if kind == "value_error":
        reason = str(first["ctx"]["error"])
        return InvalidRequest(
            f"{field or 'The request'}: {reason}.",
            hint="Change or leave out that field.",
            field=field,
        )
    return InvalidRequest(
        f"{field} is {shown(value)}, but it must be {expectation(first)}.",
        hint=f"Send {field} as {expectation(first)}.",
        field=field,
    )


def path_of(detail: ErrorDetails) -> str:
    """The dotted path of the value at fault, without pydantic's own marks, printable and short."""
    parts = [str(part) for part in detail["loc"] if part != KEY_MARK]
    if is_union_member(detail):
        parts.pop()
    return shown(".".join(parts), MAX_PATH_CHARACTERS).strip("'")


def is_union_member(detail: ErrorDetails) -> bool:
    """Whether the complaint is about one of several types that a value may have."""
    return detail["type"].endswith("_type") and detail["loc"][-1] in UNION_MARKS


def expectation(detail: ErrorDetails) -> str:
    """What a value should have been, in JSON's words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if is_union_member(detail):
        return "text or a number"
    if kind == "string_too_long":
        return f"text of at most {context['max_length']} characters"
    if kind in ("too_long", "too_short"):
        bound = context.get("max_length", context.get("min_length"))
        whole, part = COLLECTIONS.get(context["field_type"], ("a list", "items"))
        return f"{whole} of at {'most' if kind == 'too_long' else 'least'} {bound} {part}"
    return EXPECTATIONS.get(kind, detail["msg"].lower())


def out_of_bounds(detail: ErrorDetails, field: str) -> LimitExceeded:
    """A number beyond its bound."""
    key, words = BOUNDS[detail["type"]]
    bound = detail["ctx"][key]
    return LimitExceeded(
        f"{field} is {shown(detail['input'])}, but it must be {words} {bound:,}.",
        hint=f"Send a {field} {words} {bound:,}.",
        field=field,
    )


def unknown_key(model: type[BaseModel], detail: ErrorDetails) -> InvalidRequest:
    """A key that the model does not have, with the nearest that it has."""
    *parents, key = (str(part) for part in detail["loc"])
    known = fields_at(model, parents)
    where = f" in {'.'.join(parents)}" if parents else ""
    return InvalidRequest(
        f"{shown(key)} is not a known field{where}.{did_you_mean(key, known)}",
        hint=f"Known fields{where}: {', '.join(known)}.",
        field=path_of(detail),
    )


def fields_at(model: type[BaseModel], parents: list[str]) -> list[str]:
    """The field names of the model nested under the parents."""
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        nested = [
            option
            for option in (annotation, *get_args(annotation))
            if isinstance(option, type) and issubclass(option, BaseModel)
        ]
        model = nested[0]
    return list(model.model_fields)


def nearest_choice(detail: ErrorDetails) -> str:
    """A suggestion among the accepted words."""
    choices = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
    return did_you_mean(str(detail["input"]), choices)


def json_type(value: object) -> str:
    """A value's type in JSON's words."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "a list"}
    return names.get(type(value), "a number")
