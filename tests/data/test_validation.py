"""Every way in which a file's bars can contradict themselves is named, in one error."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.tables import read_csv, times_of
from ktrdr_mcp.data.validation import check_bars
from ktrdr_mcp.errors import DataInvalid, KtrdrError

HEADER = "timestamp,open,high,low,close,volume"
GOOD = [f"2024-01-01 {hour:02}:00:00+00:00,10,12,9,11,5" for hour in range(8)]


def parsed(*lines: str, header: str = HEADER) -> Bars:
    data = "\n".join([header, *lines, ""]).encode()
    return check_bars(read_csv(io.BytesIO(data), "TEST_1h.csv"), "TEST", "1h")


def refusal(*lines: str, header: str = HEADER) -> str:
    with pytest.raises(DataInvalid) as caught:
        parsed(*lines, header=header)
    assert caught.value.field == "symbol"
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("2024-01-02 00:00:00+00:00,,12,9,11,5", "missing or unreadable values (NaN)"),
        ("2024-01-02 00:00:00+00:00,10,12,9,NaN,5", "missing or unreadable values (NaN)"),
        ("2024-01-02 00:00:00+00:00,10,12,9,11,many", "missing or unreadable values (NaN)"),
        ("2024-01-02 00:00:00+00:00,10,12,9,11", "missing or unreadable values (NaN)"),
        ("2024-01-02 00:00:00+00:00,10,inf,9,11,5", "infinite values"),
        ("2024-01-02 00:00:00+00:00,10,1e999,9,11,5", "infinite values"),
        ("2024-01-02 00:00:00+00:00,0,12,0,11,5", "prices of zero or below"),
        ("2024-01-02 00:00:00+00:00,-1,12,-1,11,5", "prices of zero or below"),
        ("2024-01-02 00:00:00+00:00,10,9,12,11,5", "bars with high below low"),
        ("2024-01-02 00:00:00+00:00,13,12,9,11,5", "bars with open or close outside low to high"),
        ("2024-01-02 00:00:00+00:00,10,12,9,8,5", "bars with open or close outside low to high"),
        ("2024-01-02 00:00:00+00:00,10,12,9,11,-5", "negative volumes"),
        ("2024-01-01 07:00:00+00:00,10,12,9,11,5", "duplicate times"),
        ("2024-01-01 02:30:00+00:00,10,12,9,11,5", "times before the bar above"),
        ("2024-01-02 00:00:00,10,12,9,11,5", "mixed with times without one"),
        ("soon,10,12,9,11,5", "unreadable times"),
        (",10,12,9,11,5", "unreadable times"),
        ("2024,10,12,9,11,5", "unreadable times"),
        ("1704153600,10,12,9,11,5", "unreadable times"),
        ("9999-01-01 00:00:00+00:00,10,12,9,11,5", "unreadable times"),
        ("1500-01-01 00:00:00+00:00,10,12,9,11,5", "unreadable times"),
        ("", "unreadable times"),
    ],
)
def test_each_kind_of_defect_is_named_with_its_line(line: str, kind: str) -> None:
    message = refusal(*GOOD, line)
    assert f"1 {kind}" in message or f"1 times with an offset {kind}" in message
    assert "line 10" in message


def test_all_kinds_are_named_together_with_counts_and_three_places() -> None:
    lines = [line.replace(",9,", ",13,") for line in GOOD[:5]] + GOOD[:5]
    lines += ["2024-01-05 00:00:00+00:00,10,12,9,inf,-1"]
    message = refusal(*lines)
    assert message == (
        "TEST_1h.csv has 5 duplicate times at line 7 (2024-01-01T00:00:00Z), "
        "line 8 (2024-01-01T01:00:00Z), line 9 (2024-01-01T02:00:00Z) and others; "
        "1 times before the bar above at line 7 (2024-01-01T00:00:00Z); "
        "1 infinite values at line 12 (2024-01-05T00:00:00Z); "
        "5 bars with high below low at line 2 (2024-01-01T00:00:00Z), "
        "line 3 (2024-01-01T01:00:00Z), line 4 (2024-01-01T02:00:00Z) and others; "
        "1 bars with open or close outside low to high at line 12 (2024-01-05T00:00:00Z); "
        "1 negative volumes at line 12 (2024-01-05T00:00:00Z)."
    )


def test_the_rarer_of_naive_and_aware_times_is_pointed_at() -> None:
    naive = [line.replace("+00:00", "") for line in GOOD]
    assert "line 5 (" in refusal(*naive[:3], GOOD[3], *naive[4:])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1704153600", "'1704153600'"),
        ("01/02/2025", "'01/02/2025'"),
        ("2024-01-02 00:00 UTC", "'2024-01-02 00:00 UTC'"),
        ("0", "'0'"),  # the index that pandas writes
        ("", "empty"),
        ("x" * 5_000, "xxx..."),
    ],
)
def test_the_first_unreadable_time_is_shown_with_the_format_expected(text: str, told: str) -> None:
    with pytest.raises(DataInvalid) as caught:
        parsed(*GOOD, f"{text},10,12,9,11,5", "later,10,12,9,11,5")
    assert "2024-12-31 or 2024-12-31T15:30:00Z" in caught.value.hint
    assert f"{told}. Correct these bars" in caught.value.hint
    assert len(caught.value.hint) < 400


def test_no_format_is_told_when_every_time_is_readable() -> None:
    with pytest.raises(DataInvalid) as caught:
        parsed(*GOOD, GOOD[-1])
    assert caught.value.hint == "Correct these bars in the file; nothing is repaired silently."


@pytest.mark.parametrize("offset", ["Z", "+05", "-0530", "+05:30", " +01:00", "+5", "-00:00"])
@pytest.mark.parametrize(
    "clock", ["T10", "T1000", "T10:00", " 10:00:00", "T100000", "T10:00:00.25", " 100000.25"]
)
@pytest.mark.parametrize("day", ["2025-01-01", "20250101", "2025/01/01"])
def test_an_offset_is_seen_wherever_pandas_sees_one(day: str, clock: str, offset: str) -> None:
    """pandas, which reads the times, tells by itself whether one is aware."""
    for text in (f"{day}{clock}{offset}", f"{day}{clock}", day):
        [timestamp] = pd.to_datetime([text], format="ISO8601")
        _, names_offset, _ = times_of(pd.Series([text]))
        assert bool(names_offset[0]) == (timestamp.tzinfo is not None), text


@pytest.mark.parametrize(
    ("aware", "naive"),
    [
        ("2025-01-01T10+05", "2025-01-01T10:00:00"),
        ("20250101T100000Z", "20250102T100000"),
        ("2025-01-01 10-0500", "2025-01-02"),
    ],
)
def test_an_offset_without_a_colon_is_not_mixed_with_naive_times(aware: str, naive: str) -> None:
    assert "mixed with times without one" in refusal(*(f"{t},10,12,9,11,5" for t in (aware, naive)))


def test_daylight_saving_offsets_are_one_order_in_utc() -> None:
    bars = parsed(
        "2024-11-03 01:30:00-04:00,10,12,9,11,5",
        "2024-11-03 01:30:00-05:00,10,12,9,11,5",
    )
    assert bars.times() == ["2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"]


@pytest.mark.parametrize(
    "header", [",open,high,low,close,volume", "Date,Open,HIGH, low ,close,VOLUME"]
)
def test_the_first_column_is_the_time_whatever_its_name(header: str) -> None:
    bars = parsed(*GOOD, header=header)
    assert bars.timestamp(0) == "2024-01-01T00:00:00Z"
    assert (bars.open[0], bars.high[0], bars.low[0], bars.close[0]) == (10, 12, 9, 11)


def test_naive_times_are_utc_and_other_columns_are_ignored() -> None:
    bars = parsed("2024-01-01,x,10,12,9,11,5", header="date,note,open,high,low,close,volume")
    assert bars.times() == ["2024-01-01T00:00:00Z"]


def test_a_missing_volume_column_and_a_volume_of_zero_are_legal() -> None:
    bars = parsed("2024-01-01,10,12,9,11", header="date,open,high,low,close")
    assert bars.volume.tolist() == [0.0]
    assert parsed("2024-01-01,10,12,9,11,0").volume.tolist() == [0.0]


def test_a_difference_in_the_last_digit_is_rounding() -> None:
    assert len(parsed(f"2024-01-01,10,12,{np.nextafter(10.0, 11.0)},11,5")) == 1


def test_numbers_are_read_exactly() -> None:
    assert parsed("2024-01-01,0.1,12,0.1,0.30000000000000004,5").close[0] == 0.1 + 0.2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xef\xbb\xbf" + HEADER.encode() + b"\n" + GOOD[0].encode(), "byte order mark"),
        ("\ufeff".join(["", HEADER]).encode("utf-16-le"), "byte order mark"),
        (HEADER.replace(",", ";").encode() + b"\n" + GOOD[0].encode(), "';'"),
        (HEADER.replace(",", "\t").encode() + b"\n", "'\\t'"),
        (HEADER.encode(), "a header and no bars"),
        (HEADER.encode() + b"\n", "a header and no bars"),
        (b"", "no header"),
        (b"\n\n", "no header"),
        (b"timestamp\n2024-01-01\n", "only one column"),
        (b"timestamp,open,high,low\n2024-01-01,1,1,1\n", "no column close"),
        (b"open,high,low,close\n1,1,1,1\n", "no column open"),
        (b"t,open,high,low,close,Close\n2024-01-01,1,1,1,1,1\n", "more than one column close"),
        (HEADER.encode() + b"\n" + GOOD[0].encode() + b",7\n", "6 columns but 7 values"),
        ("\n".join([HEADER, *GOOD, GOOD[0] + ",7"]).encode(), "columns in line 10"),
        (HEADER.encode() + b"\n2024-01-01,1,1,1,1,\xff\n", "UTF-8"),
        ("\n".join([HEADER, *GOOD]).encode() + b"\n\xff\xfe,1,1,1,1,1\n", "UTF-8"),
        (b"a" * 100_000, "a line of more than"),
        (HEADER.encode() + b"\r" + GOOD[0].encode() + b"\r", "UTF-8 text"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(DataInvalid) as caught:
        read_csv(io.BytesIO(data), "TEST_1h.csv")
    assert caught.value.message.startswith("TEST_1h.csv ")
    assert words in caught.value.message


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 60))
def test_damaged_files_give_bars_or_a_named_error(junk: bytes, at: int, cut: int) -> None:
    whole = "\n".join([HEADER, *GOOD, ""]).encode()
    data = whole[:at] + junk + whole[at + cut :]
    try:
        bars = check_bars(read_csv(io.BytesIO(data), "TEST_1h.csv"), "TEST", "1h")
    except KtrdrError:
        return
    assert (np.diff(bars.time) > 0).all()
    assert all(np.isfinite(column).all() for column in bars.columns())
