"""A JSON schema in words, for people."""

from __future__ import annotations

import json
from typing import Any, Final

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
