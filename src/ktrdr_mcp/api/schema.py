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
TYPE_OR_NULL: Final = 2  # so many types; of more, some validators warn
DROPPED: Final = frozenset({"title", "$defs", "propertyNames"})
OURS: Final = frozenset({"page_bytes"})  # arguments that this program sends by itself
FORMS: Final = frozenset({"pattern", "minLength", "maxLength"})
ERROR: Final = {"type": "object"}  # as `error` of a tool's result


def input_schema(model: type[BaseModel]) -> Schema:
    """What a tool's arguments may be.

    The form and length of texts are left out: their refusal says more, and they make a tenth of the
    whole list, which is read anew in every conversation.

    An optional argument's null is left out, since leaving out the argument says the same. A
    setting inside an argument keeps its null, which switches off what else a strategy or a
    default would switch on. An object's default is that of its fields.

    Args:
        model: the request's model.
    """
    schema = map_schemas(inline_references(model), lambda node: argument(drop_forms(node)))
    named = schema.get("properties", {})
    return {**schema, "properties": {name: named[name] for name in named if name not in OURS}}


def drop_forms(node: Schema) -> Schema:
    """A schema that does not say what form and length a text has."""
    return map_schemas({key: value for key, value in node.items() if key not in FORMS}, drop_forms)


def argument(node: Schema) -> Schema:
    """The schema of one argument."""
    given = not_null(node)
    if "properties" in given:
        return drop_object_defaults(map_schemas(given, setting))
    plain = map_schemas(given, drop_null)
    return {key: value for key, value in plain.items() if (key, value) != ("default", None)}


def setting(node: Schema) -> Schema:
    """The schema of one setting inside an argument; only its own null has a meaning."""
    return map_schemas(node, lambda inside: drop_null_defaults(drop_null(inside)))


def output_schema(model: type[BaseModel]) -> Schema:
    """What a tool's structured content is.

    It holds for the reply and for an error alike: version 1 of the TypeScript SDK checks errors
    too and hides those that do not fit. So at the top level only what both have is required.

    Args:
        model: the reply's model.
    """
    properties = dict(inline_references(model, mode="serialization")["properties"])
    del properties["success"]  # true, or false in an error
    if "error" in properties:
        properties["error"] = {"anyOf": [*properties["error"]["anyOf"], ERROR]}
    outlines = {
        name: outline(child)
        for name, child in properties.items()
        if name == "error" or NULL not in child.get("anyOf", [])  # the reply shows the others
    }
    return {"type": "object", "properties": outlines, "required": ["success"]}


def outline(node: Schema) -> Schema:
    """A schema's types and values, without words and defaults.

    Of an object or a list inside nothing is left: the tool list is read anew in every conversation,
    and the reply itself shows what is in it.
    """
    left_out = {"description", "default", "items", "properties", "additionalProperties", "required"}
    bare = {key: value for key, value in node.items() if key not in left_out}
    options = [outline(option) for option in bare.get("anyOf", [])]
    kinds = [option["type"] for option in options if option.keys() == {"type"}]
    if len(kinds) == len(options) == TYPE_OR_NULL and "null" in kinds:
        return {"type": kinds}
    return map_schemas(bare, outline)


def inline_references(model: type[BaseModel], mode: Any = "validation") -> Schema:
    """A model's schema with its references replaced by what they name, without titles.

    Args:
        model: the model; it must not contain itself.
        mode: pydantic's "validation" or "serialization".
    """
    schema = model.model_json_schema(mode=mode)
    schema.pop("description", None)
    return flatten(schema, schema.get("$defs", {}))


def flatten(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
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
    return map_schemas(kept, lambda child: flatten(child, definitions))


def drop_null(node: Schema) -> Schema:
    """A schema in which every union of one thing and null is that thing."""
    return not_null(map_schemas(node, drop_null))


def not_null(node: Schema) -> Schema:
    """A schema that is one thing, if it is a union of that and null."""
    options = [option for option in node.get("anyOf", []) if option != NULL]
    if len(options) != 1:
        return node
    only: Schema = options[0]
    return only | {key: value for key, value in node.items() if key != "anyOf"}


def drop_null_defaults(node: Schema) -> Schema:
    """A schema without those defaults that are null, which only say what leaving out does."""
    kept = {key: value for key, value in node.items() if (key, value) != ("default", None)}
    return map_schemas(kept, drop_null_defaults)


def drop_object_defaults(node: Schema) -> Schema:
    """A schema that names no object as a default."""
    kept = {
        key: value for key, value in node.items() if key != "default" or not isinstance(value, dict)
    }
    return map_schemas(kept, drop_object_defaults)


def map_schemas(node: Schema, change: Callable[[Schema], Schema]) -> Schema:
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
