"""Compares a reply with an example of the specification, field by field."""

from __future__ import annotations

import re
from typing import Any

OPEN_OBJECTS = {"config", "input_features"}  # whose keys are the request's or the strategy's
NULLABLE = {"error"}
TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


def differences(example: Any, actual: Any, path: str = "") -> list[str]:
    """Every field of the example that the reply lacks or types differently."""
    if example is None or path in NULLABLE:
        return []
    if isinstance(example, dict):
        if not isinstance(actual, dict):
            return [f"{path}: not an object"]
        if path in OPEN_OBJECTS:
            return [] if actual else [f"{path}: empty"]
        missing = [f"{path}.{name}: missing" for name in example if name not in actual]
        return missing + [
            found
            for name in example
            if name in actual
            for found in differences(example[name], actual[name], f"{path}.{name}".strip("."))
        ]
    if isinstance(example, list):
        if not isinstance(actual, list) or not actual:
            return [f"{path}: not a list with items"]
        return [found for item in actual for found in differences(example[0], item, path)]
    return [] if same_type(example, actual) else [f"{path}: {actual!r} instead of {example!r}"]


def same_type(example: Any, actual: Any) -> bool:
    if isinstance(example, bool) or isinstance(actual, bool):
        return isinstance(example, bool) and isinstance(actual, bool)
    if isinstance(example, str) and re.match(r"\d{4}-\d{2}-\d{2}T", example):
        return isinstance(actual, str) and bool(TIMESTAMP.fullmatch(actual))
    if isinstance(example, (int, float)):
        return isinstance(actual, (int, float))
    return isinstance(actual, type(example))
