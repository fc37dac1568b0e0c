"""Timestamps: UTC nanoseconds since 1970 inside, ISO 8601 text outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ktrdr_mcp.errors import InvalidRequest, quote

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
DAY_NS: Final = 1_440 * MINUTE_NS
YEAR_NS: Final = 31_556_952 * SECOND_NS  # the mean Gregorian year
EARLIEST_NS: Final = -(2**63) + 1  # numpy keeps -2**63 for "no time"
LATEST_NS: Final = 2**63 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_MOMENT_CHARACTERS: Final = 40
TIMESTAMP: Final = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<clock>\d{2}:\d{2}(?::\d{2})?)(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<offset>Z|[+-]\d{2}:?\d{2})?)?",
    flags=re.ASCII,
)


def parse_timestamp(text: str, field: str, end_of_day: bool) -> int:
    """A caller's date or moment.

    Args:
        text: "YYYY-MM-DD", or an ISO 8601 date and time; without an offset it is UTC.
        field: the request field it came from.
        end_of_day: a bare date means its last nanosecond instead of its first.
    Returns:
        UTC nanoseconds since 1970.
    Raises:
        InvalidRequest: it is no such moment, or beyond what 64 bits of nanoseconds hold
            (1677 to 2262).
    """
    short = isinstance(text, str) and len(text) <= LONGEST_MOMENT_CHARACTERS
    match = TIMESTAMP.fullmatch(text) if short else None
    timestamp = None if match is None else timestamp_of_match(match)
    if match is None or timestamp is None:
        raise not_a_timestamp(text, field)
    if end_of_day and match["clock"] is None:
        timestamp += DAY_NS - 1
    if not EARLIEST_NS <= timestamp <= LATEST_NS:
        raise not_a_timestamp(text, field)
    return timestamp


def is_day(text: str) -> bool:
    """Whether a text that `parse_timestamp` takes is a bare date."""
    match = TIMESTAMP.fullmatch(text)
    return match is not None and match["clock"] is None


def timestamp_of_match(match: re.Match[str]) -> int | None:
    """UTC nanoseconds of a text of the right form, or nothing if there is no such day or hour."""
    clock, offset = match["clock"] or "00:00", match["offset"] or "Z"
    if clock.count(":") == 1:
        clock += ":00"
    try:
        # The offset is subtracted as a number: in year 1, a shifted datetime would overflow.
        local = datetime.fromisoformat(f"{match['date']}T{clock}+00:00")
        shift = datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").utcoffset() or timedelta()
    except ValueError:
        return None
    fraction = int((match["fraction"] or "").ljust(9, "0"))
    return whole_nanoseconds(local - EPOCH - shift) + fraction


def not_a_timestamp(text: object, field: str) -> InvalidRequest:
    """The error for a text that is no usable moment."""
    return InvalidRequest(
        f"{field} is {quote(text)}, which is not a date between 1678 and 2261.",
        hint="Use YYYY-MM-DD, for example 2024-12-31, or 2024-12-31T15:30:00Z.",
        field=field,
    )


def whole_nanoseconds(duration: timedelta) -> int:
    """A duration in nanoseconds, exactly."""
    microseconds = (duration.days * 86_400 + duration.seconds) * 1_000_000 + duration.microseconds
    return microseconds * 1_000


def nanoseconds(timestamp: int | datetime) -> int:
    """A moment as UTC nanoseconds since 1970; a datetime without an offset is UTC."""
    if isinstance(timestamp, int):
        return timestamp
    aware = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    return whole_nanoseconds(aware - EPOCH)


def format_day(timestamp: int) -> str:
    """The day of a moment as "2024-08-06".

    Args:
        moment: nanoseconds since 1970, of whichever clock names the day.
    """
    return (EPOCH + timedelta(days=int(timestamp) // DAY_NS)).strftime("%Y-%m-%d")


def format_timestamp(timestamp: int) -> str:
    """UTC nanoseconds as "2024-08-06T13:30:00Z", with a fraction only if there is one.

    Args:
        moment: UTC nanoseconds since 1970.
    """
    seconds, fraction = divmod(int(timestamp), SECOND_NS)
    text = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"
