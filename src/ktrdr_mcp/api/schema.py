"""JSON schemas as MCP clients digest them: flat, small, and true of errors too.

Model providers refuse `$ref` and unions at the top level, and the tool list is read anew in every
conversation, so what tells a caller nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

NULL: Final = {"type": "null"}
# lengths of texts are checked, and their refusal says more than a schema would
FAR_BOUND: Final = 65_536  # nobody needs to be told of a bound as far away
DROPPED: Final = frozenset(
    {"title", "$defs", "propertyNames", "maxLength", "minLength", "maxProperties"}
)


def input_schema(model: type[BaseModel]) -> Schema:
    """What a tool's arguments may be.

    An optional argument's null is left out, since leaving out the argument says the same. A
    setting inside an argument keeps its null, which switches off what else a strategy or a
    default would switch on; its default is left out, since a strategy may set another.

    Args:
        model: the request's model.
    """
    return mapped(inlined(model), argument)


def argument(node: Schema) -> Schema:
    """The schema of one argument."""
    given = not_null(node)
    if "properties" in given:
        return without_defaults(mapped(given, setting))
    plain = mapped(given, without_null)
    return {key: value for key, value in plain.items() if (key, value) != ("default", None)}


def setting(node: Schema) -> Schema:
    """The schema of one setting inside an argument; only its own null has a meaning."""
    return mapped(node, without_null)


def output_schema(model: type[BaseModel]) -> Schema:
    """What a tool's structured content is: its fields and their types, one level deep.

    It holds for the reply and for an error alike, so nothing is required at the top level:
    version 1 of the TypeScript SDK checks errors too and hides those that do not fit.

    Args:
        model: the reply's model.
    """
    properties = inlined(model, mode="serialization")["properties"]
    outlines = {name: outline(child) for name, child in properties.items()}
    return {"type": "object", "properties": outlines}


def outline(schema: Schema) -> Schema:
    """A schema's type alone; nothing for a field of several types, which null makes two."""
    return {"type": schema["type"]} if "type" in schema else {}


def inlined(model: type[BaseModel], mode: Any = "validation") -> Schema:
    """A model's schema with its references replaced by what they name, without titles.

    Args:
        model: the model; it must not contain itself.
        mode: pydantic's "validation" or "serialization".
    """
    schema = model.model_json_schema(mode=mode)
    schema.pop("description", None)
    return flattened(schema, schema.get("$defs", {}))


def flattened(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """A schema without references.

    Args:
        node: the schema.
        definitions: the schemas that references name; their descriptions are the code's own.
    """
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = {key: value for key, value in target.items() if key != "description"} | node
    kept = {key: value for key, value in node.items() if key not in DROPPED | {"$ref"}}
    if "enum" in kept or "const" in kept:
        kept.pop("type", None)  # the values say it
    if {"type": "number"} in kept.get("anyOf", []):
        kept["anyOf"] = [option for option in kept["anyOf"] if option != {"type": "integer"}]
    if kept.get("maximum", 0) >= FAR_BOUND:
        del kept["maximum"]
    return mapped(kept, lambda child: flattened(child, definitions))


def without_null(node: Schema) -> Schema:
    """A schema in which every union of one thing and null is that thing."""
    return not_null(mapped(node, without_null))


def not_null(node: Schema) -> Schema:
    """A schema that is one thing, if it is a union of that and null."""
    options = [option for option in node.get("anyOf", []) if option != NULL]
    if len(options) != 1:
        return node
    only: Schema = options[0]
    return only | {key: value for key, value in node.items() if key != "anyOf"}


def without_defaults(node: Schema) -> Schema:
    """A nested schema that names no default."""
    kept = {key: value for key, value in node.items() if key != "default"}
    return mapped(kept, without_defaults)


def mapped(node: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A copy of the schema with every schema directly inside it changed."""
    copy = dict(node)
    if "properties" in node:
        copy["properties"] = {name: change(child) for name, child in node["properties"].items()}
    if "anyOf" in node:
        copy["anyOf"] = [change(option) for option in node["anyOf"]]
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            copy[key] = change(node[key])
    return copy
