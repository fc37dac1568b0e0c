"""The wall clock, for display only: order comes from sequence numbers, durations from monotonic."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now_text() -> str:
    """The time now as replies show it: ISO 8601, UTC, whole seconds, with Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
