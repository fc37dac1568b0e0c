"""The wall clock, for display only: order comes from sequence numbers, durations from monotonic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc_now_text() -> str:
    """The time now as replies show it: ISO 8601, UTC, whole seconds, with Z."""
    return days_ago_text(0)


def days_ago_text(days: int) -> str:
    """The time so many days ago, in the same form; texts of this form are in the order of time."""
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
