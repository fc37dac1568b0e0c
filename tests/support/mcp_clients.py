"""Clients of both protocol eras, and what a conversation is spared of a reply of HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mcp.client import Client

MODES: Final = {"2026-07-28": "auto", "2025-11-25": "legacy"}

Connect = Callable[[], Client]
LAST_DIGIT = 6e-5  # of figures that MCP gives with four
THIRD_DIGIT = 6e-4  # of those with three


def in_mcp_form(reply: dict[str, Any], over_mcp: dict[str, Any]) -> dict[str, Any]:
    """The reply with the settings that MCP repeats, and with MCP's figures where they are its own.

    Args:
        reply: over HTTP.
        over_mcp: the same over MCP.
    """
    found = dict(reply)
    if {"config", "estimated_duration_minutes"} <= reply.keys():
        found["config"] = {n: v for n, v in reply["config"].items() if n in over_mcp["config"]}
    if "prediction" in reply:
        found["prediction"] = rounded_like(reply["prediction"], over_mcp["prediction"], LAST_DIGIT)
    return found


def rounded_like(value: Any, other: Any, digit: float) -> Any:
    """The value with the other's figures wherever both agree to some digit."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: rounded_like(each, other.get(name), digit) for name, each in value.items()}
    if isinstance(value, float) and isinstance(other, float) and abs(value - other) < digit:
        return other
    return value
