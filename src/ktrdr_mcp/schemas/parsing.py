"""From a caller's raw arguments to a request, or to one sentence that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import UnionType
from typing import Annotated, Final, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from ktrdr_mcp.errors import InvalidRequest, KtrdrError, LimitExceeded, did_you_mean, quote

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
MAX_PROBLEMS: Final = 5  # that one refusal names
MAX_CHARACTERS: Final = 800  # of all problems and hints, unless one alone is longer
MAX_ENTRIES: Final = 1_000  # of an object whose keys are free
REFUSED: Final = "refused"  # the type of a complaint that carries one of our errors


def parse(model: type[Request], raw: object) -> Request:
    """Checks raw arguments against a request model.

    Args:
        model: the request's model.
        raw: decoded JSON as the caller sent it.
    Raises:
        InvalidRequest: with everything that is wrong, where, and what to send instead.
    """
    raw = as_meant(model, raw)
    if not isinstance(raw, Mapping):
        raise InvalidRequest(
            f"The request is {json_type(raw)}, not an object.",
            hint=f"Send an object with {', '.join(model.model_fields)}.",
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise explain(model, error.errors(include_url=False)) from None


def as_meant(annotation: object, value: object) -> object:
    """A value as its sender meant it; what cannot be meant so is left to the model to refuse.

    JSON text becomes the object, list, number or truth value that belongs there, a whole number
    may be written 2.0, and null is left out where it has no meaning of its own.

    Args:
        annotation: of the field.
        value: decoded JSON.
    """
    kinds = kinds_of(annotation)
    if isinstance(value, str):
        value = decode(value, kinds)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, Mapping):
            return fields_as_meant(kind, value)
        if get_origin(kind) is list and isinstance(value, list):
            (item,) = get_args(kind)
            # No list may be so long; what is left is refused for its length.
            return [as_meant(item, each) for each in value[:MAX_ENTRIES]]
        if get_origin(kind) is dict and isinstance(value, Mapping):
            return dict(islice(value.items(), MAX_ENTRIES))
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    return value


def fields_as_meant(
    model: type[BaseModel], given: Mapping[str, object], most_unknown: int = MAX_PROBLEMS + 1
) -> dict[str, object]:
    """The fields of an object as they were meant, and no more unknown ones than are complained of.

    Args:
        model: the object's.
        given: the fields as they were sent.
        most_unknown: how many fields that the model does not have are kept.
    """
    unknown = islice((key for key in given if key not in model.model_fields), most_unknown)
    meant = {key: given[key] for key in unknown}
    for name, field in model.model_fields.items():
        if name not in given:
            continue
        value = as_meant(field.annotation, given[name])
        for note in field.metadata:
            if isinstance(note, ReadAs) and isinstance(value, Mapping):
                value = fields_as_meant(note.model, value, MAX_ENTRIES)
        if value is not None or may_be_off(model, field):
            meant[name] = value
    return meant


@dataclass(frozen=True)
class ReadAs:
    """Marks a field that is read and described like an object of a model, but kept as a dict.

    Attributes:
        model: without models in it.
    """

    model: type[BaseModel]

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The model's schema in place of the field's own."""
        return self.model.model_json_schema()


def is_none(value: object) -> bool:
    """Whether a field is left out where it is written, because it says nothing there."""
    return value is None


def kinds_of(annotation: object) -> tuple[object, ...]:
    """The types that a value may have: those of a union, without what is noted beside them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds_of(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return tuple(kind for each in get_args(annotation) for kind in kinds_of(each))
    return (annotation,)


def decode(text: str, kinds: tuple[object, ...]) -> object:
    """The value that a text says as JSON, where something else than text belongs; or the text."""
    if str in kinds or (type(None) not in kinds and any(get_origin(x) is Literal for x in kinds)):
        return text
    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text
    is_choice = any(get_origin(kind) is Literal for kind in kinds)
    return text if isinstance(value, str) or (is_choice and value is not None) else value


def refuse(literal: str) -> NoReturn:
    """NaN and infinities are Python's, not JSON's. Raises ValueError."""
    raise ValueError(literal)


def explain(model: type[BaseModel], details: Sequence[ErrorDetails]) -> KtrdrError:
    """Pydantic's complaints as one error of ours, unknown keys before others."""
    ordered = sorted(details, key=lambda detail: detail["type"] != "extra_forbidden")
    first, *others = [problem(model, detail) for detail in ordered[:MAX_PROBLEMS]]
    messages, hints = [first.message], [first.hint]
    for other in others:
        if sum(map(len, (*messages, *hints, other.message, other.hint))) > MAX_CHARACTERS:
            break
        messages.append(other.message)
        hints += [other.hint] if other.hint not in hints else []
    if len(messages) < len(details):
        messages.append("There is more that is wrong.")
    return type(first)(" ".join(messages), hint=" ".join(hints), field=first.field)


def problem(model: type[BaseModel], detail: ErrorDetails) -> KtrdrError:
    """One of pydantic's complaints as an error of ours."""
    field = path_of(detail)
    kind, value = detail["type"], detail["input"]
    if kind == REFUSED:
        refusal: KtrdrError = detail["ctx"]["refusal"]
        return refusal
    if kind == "extra_forbidden":
        return unknown_key(model, detail)
    if kind == "missing":
        return InvalidRequest(f"{field} is missing.", hint=f"Send {field}.", field=field)
    if kind in BOUNDS:
        return out_of_bounds(detail, field)
    if kind == "literal_error":
        return InvalidRequest(
            f"{field} is {quote(value)}, which is not known.{nearest_choice(detail)}",
            hint=f"Use {detail['ctx']['expected']}.{way_off(model, detail)}",
            field=field,
        )
    if kind == "value_error":
        reason = str(detail["ctx"]["error"])
        return InvalidRequest(
            f"{field or 'The request'}: {reason}.",
            hint="Change or leave out that field.",
            field=field,
        )
    return InvalidRequest(
        f"{field} is {quote(value)}, but it must be {expectation(detail)}.",
        hint=f"Send {field} as {expectation(detail)}{example(model, detail)}."
        f"{way_off(model, detail)}",
        field=field,
    )


def field_at(
    model: type[BaseModel], place: Sequence[int | str]
) -> tuple[type[BaseModel], FieldInfo] | None:
    """The field to which a path leads, and the model that has it; None if the path leads on.

    Args:
        model: where the path begins.
        place: names of fields.
    """
    found: tuple[type[BaseModel], FieldInfo] | None = None
    for part in place:
        field = model.model_fields.get(str(part))
        if field is None:
            return None
        found = model, field
        model = next(iter(nested_models(field.annotation)), model)
    return found


def nested_models(annotation: object) -> list[type[BaseModel]]:
    """The models among the types that a value may have."""
    kinds = kinds_of(annotation)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def example(model: type[BaseModel], detail: ErrorDetails) -> str:
    """What an object for this field looks like, where one was wanted."""
    found = field_at(model, detail["loc"])
    if detail["type"] != "model_type" or found is None:
        return ""
    defaults = {
        name: each.get_default()
        for nested in nested_models(found[1].annotation)
        for name, each in nested.model_fields.items()
        if isinstance(each.get_default(), int | float | str)
    }
    return f", such as {quote(dict(islice(defaults.items(), 3)), MAX_PATH_CHARACTERS)}"


def way_off(model: type[BaseModel], detail: ErrorDetails) -> str:
    """How what the field sets is switched off, if it can be."""
    found = field_at(model, detail["loc"])
    return " Send null to switch it off." if found and may_be_off(*found) else ""


def may_be_off(model: type[BaseModel], field: FieldInfo) -> bool:
    """Whether null in a field says something else than leaving the field out."""
    has_settings = getattr(model, "null_is_a_setting", False)
    return has_settings and type(None) in kinds_of(field.annotation)


def path_of(detail: ErrorDetails) -> str:
    """The dotted path of the value at fault, without pydantic's own marks, printable and short."""
    parts = [str(part) for part in detail["loc"] if part != KEY_MARK]
    if is_union_member(detail):
        parts.pop()
    return quote(".".join(parts), MAX_PATH_CHARACTERS).strip("'")


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
    limit = detail["ctx"][key]
    bound = f"{words} {int(limit) if float(limit).is_integer() else limit:,}"
    return LimitExceeded(
        f"{field} is {quote(detail['input'])}, but it must be {bound}.",
        hint=f"Set {field} to a value that is {bound}.",
        field=field,
    )


def unknown_key(model: type[BaseModel], detail: ErrorDetails) -> InvalidRequest:
    """A key that the model does not have, with its right place or the nearest that there is."""
    *parents, key = (str(part) for part in detail["loc"])
    known = fields_at(model, parents)
    where = f" in {'.'.join(parents)}" if parents else ""
    for name, field in model.model_fields.items():
        if not parents and any(
            key in each.model_fields for each in nested_models(field.annotation)
        ):
            return InvalidRequest(
                f"{quote(key)} belongs in {name}.",
                hint=f"Send {name}: {{{json.dumps(key)}: ...}}.",
                field=path_of(detail),
            )
    return InvalidRequest(
        f"{quote(key)} is not a known field{where}.{did_you_mean(key, known)}",
        hint=f"Known fields{where}: {', '.join(known)}.",
        field=path_of(detail),
    )


def fields_at(model: type[BaseModel], parents: Sequence[str]) -> list[str]:
    """The field names of the model nested under the parents."""
    found = field_at(model, parents)
    nested = [model] if found is None else nested_models(found[1].annotation)
    return list(nested[0].model_fields)


def nearest_choice(detail: ErrorDetails) -> str:
    """A suggestion among the accepted words."""
    choices = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
    return did_you_mean(str(detail["input"]), choices)


def json_type(value: object) -> str:
    """A value's type in JSON's words."""
    names = {type(None): "null", bool: "a boolean", str: "text", list: "a list"}
    return names.get(type(value), "a number")
