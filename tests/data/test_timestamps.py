"""Moments are exact, strict and never an overflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr_mcp.data.timestamps import format_timestamp, nanoseconds, parse_timestamp
from ktrdr_mcp.errors import InvalidRequest

NOON = 1_722_945_600_000_000_000  # 2024-08-06T12:00:00Z, from `date -u +%s`


@pytest.mark.parametrize(
    "text",
    [
        "2024-08-06T12:00:00Z",
        "2024-08-06 12:00",
        "2024-08-06T08:00:00-04:00",
        "2024-08-06T13:00:00.000000000+0100",
    ],
)
def test_one_moment_has_many_spellings(text: str) -> None:
    assert parse_timestamp(text, "test_date", end_of_day=True) == NOON


def test_a_bare_date_is_its_first_or_its_last_nanosecond() -> None:
    midnight = NOON - 12 * 3_600 * 10**9
    assert parse_timestamp("2024-08-06", "start_date", end_of_day=False) == midnight
    assert (
        parse_timestamp("2024-08-06", "end_date", end_of_day=True) == midnight + 86_400 * 10**9 - 1
    )


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2024-13-01",
        "2024-02-30",
        "2024-01-01T24:30",
        "2024-01-01T10:00:60",
        "2024-01-01T10:00+99:00",
        "20240101",
        "2024-W01-1",
        "1677-01-01",
        "2262-04-12",
        "9999-12-31",
        "0000-01-01",
        "0001-01-01T00:00:00+23:00",
        "",
        " 2024-01-01",
        "2024-01-01\n",
        "\uff12\uff10\uff12\uff14-01-01",
        "2" * 10_000,
        "1722945600",
        None,
        20240101,
        True,
    ],
)
def test_what_is_no_moment_is_refused_with_field_and_format(text: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_timestamp(text, "start_date", end_of_day=True)  # type: ignore[arg-type]
    assert caught.value.field == "start_date"
    assert "YYYY-MM-DD" in caught.value.hint
    assert len(caught.value.message) < 200


@given(st.datetimes(datetime(1678, 1, 1), datetime(2261, 12, 31)))  # noqa: DTZ001
def test_text_and_nanoseconds_are_inverse(timestamp: datetime) -> None:
    expected = nanoseconds(timestamp)
    assert parse_timestamp(format_timestamp(expected), "test_date", end_of_day=True) == expected
    assert nanoseconds(timestamp.replace(tzinfo=UTC)) == expected


@given(st.text(max_size=60))
def test_any_text_is_a_moment_or_an_invalid_request(text: str) -> None:
    try:
        timestamp = parse_timestamp(text, "test_date", end_of_day=False)
    except InvalidRequest:
        return
    assert -(2**63) < timestamp < 2**63


def test_an_aware_datetime_is_converted() -> None:
    eastern = timezone(timedelta(hours=-4))
    assert nanoseconds(datetime(2024, 8, 6, 8, tzinfo=eastern)) == NOON
    assert nanoseconds(NOON) == NOON


def test_a_fraction_is_shown_without_trailing_zeros() -> None:
    assert format_timestamp(NOON + 500_000_000) == "2024-08-06T12:00:00.5Z"
    assert format_timestamp(-1) == "1969-12-31T23:59:59.999999999Z"
