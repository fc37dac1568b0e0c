"""`--set key=value`: from the command line's words to nested settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from ktrdr_mcp.errors import shown


def nested(texts: Sequence[str]) -> dict[str, Any]:
    """The settings that some `--set` options spell.

    Args:
        texts: each "key=value", where a dotted key leads inside and a value is JSON, or else text.
    Raises:
        click.BadParameter: one is no setting, or two contradict each other.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        *parents, last = key.split(".")
        if not separator or not all((*parents, last)):
            raise wrong(text, "is no key=value")
        inside = settings
        for parent in parents:
            inside = inside.setdefault(parent, {})
            if not isinstance(inside, dict):
                raise wrong(text, f"contradicts another value of {shown(parent)}")
        if last in inside:
            raise wrong(text, "is set twice")
        inside[last] = parsed(value)
    return settings


def parsed(text: str) -> Any:
    """A value as JSON; what is no JSON is text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def wrong(text: str, what: str) -> click.BadParameter:
    """The usage error for one `--set`."""
    return click.BadParameter(
        f"{shown(text)} {what}; write --set epochs=50 or --set early_stopping.patience=5.",
        param_hint="--set",
    )
