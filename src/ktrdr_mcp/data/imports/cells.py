"""Times and numbers as other tools write them, as columns of nanoseconds and floats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from ktrdr_mcp.data.bars import Integers
from ktrdr_mcp.data.imports.columns import EPOCH
from ktrdr_mcp.data.tables import NO_TIME
from ktrdr_mcp.data.timestamps import EARLIEST_NS, LATEST_NS, MINUTE_NS, SECOND_NS

TIME_TEXT: Final = re.compile(
    r"(?P<day>\d{4}(?P<a>[-/.])\d{1,2}(?P=a)\d{1,2}|\d{1,2}(?P<b>[-/.])\d{1,2}(?P=b)(?:\d{4}|\d{2})"
    r"|\d{8}|[A-Za-z]{3,9}\.? \d{1,2}, \d{4}|\d{1,2}(?P<c>[- ])[A-Za-z]{3}(?P=c)\d{2,4})"
    r"(?:(?P<gap>[T ;,]{1,3})(?P<clock>\d{1,2}:\d{2}(?P<second>:\d{2}(?P<fraction>[.,]\d+)?)?"
    r"|\d{6}|\d{4}|\d{2}-[AP]M)(?P<half> ?[AaPp][Mm])?)?"
    r"(?P<gap2> ?)(?P<utc>Z|UTC|GMT)?(?P<offset>[+-]\d{2}:?\d{2})?"
    r"(?: (?P<zone>[A-Za-z_]+/[A-Za-z_/]+))?"
)
UNITS: Final = ((1e11, SECOND_NS), (1e14, 1_000_000), (1e17, 1_000))  # below it, so many ns each
MISSING: Final = ("", "-", "--", "N/A", "n/a", "NA", "null", "None", "NaN", "nan", ".")
MULTIPLES: Final = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def time_columns(
    column: pl.Expr, dtype: pl.DataType, sample: Sequence[str], day_first: bool
) -> tuple[list[pl.Expr], str, str | None]:
    """A column of times as expressions.

    Args:
        column: of the table.
        dtype: what it holds.
        sample: its first cells as text.
        day_first: whether 03/04/2024 is in April.
    Returns:
        `time`, nanoseconds in UTC or of the file's own clock, and `offset`, what it says it is
        ahead of UTC by, null where it says nothing; how the times are written; and the zone that
        they name, if they do.
    """
    nothing = pl.lit(None, dtype=pl.Int64).alias("offset")
    if isinstance(dtype, pl.Datetime):
        time = column.cast(pl.Datetime("ns", dtype.time_zone))
        if dtype.time_zone is None:
            return [time.cast(pl.Int64).alias("time"), nothing], "datetime", None
        utc = time.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Int64)
        ahead = time.dt.replace_time_zone(None).cast(pl.Int64) - utc
        return [utc.alias("time"), ahead.alias("offset")], "datetime", dtype.time_zone
    if dtype == pl.Date:
        days = column.cast(pl.Datetime("ns")).cast(pl.Int64)
        return [days.alias("time"), nothing], "day", None
    texts = [one.strip() for one in sample if one.strip()]
    numeric = dtype.is_numeric()
    if numeric or (texts and all(is_epoch(one) for one in texts)):
        zero = pl.lit(0, dtype=pl.Int64).alias("offset")
        return [epoch(column).alias("time"), zero], f"epoch in {unit_of(texts)}", "UTC"
    return text_times(column, texts, day_first)


def is_epoch(text: str) -> bool:
    """Whether a number counts from 1970, and is no day written without marks."""
    return EPOCH.fullmatch(text) is not None and not re.fullmatch(
        r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4})?", text
    )


def unit_of(texts: Sequence[str]) -> str:
    """What an epoch counts, for people: the units of the first cells."""
    names = {SECOND_NS: "s", 1_000_000: "ms", 1_000: "us", 1: "ns"}
    found = list(dict.fromkeys(names[nanoseconds_in(float(one))] for one in texts))
    return " and ".join(found) or "s"


def nanoseconds_in(value: float) -> int:
    """How many nanoseconds one of an epoch's units has, told by its size."""
    return next((unit for limit, unit in UNITS if abs(value) < limit), 1)


def epoch(column: pl.Expr) -> pl.Expr:
    """Epochs in s, ms, us or ns, even mixed, as nanoseconds; null for what is no number."""
    whole = column.cast(pl.Int64, strict=False)
    real = column.cast(pl.Float64, strict=False)
    size = real.abs()
    rounded = pl.coalesce(whole, real.round().cast(pl.Int64, strict=False))
    thousandths = (real * 1_000).round().cast(pl.Int64, strict=False) * 1_000_000
    result = rounded
    for limit, unit in reversed(UNITS):
        exact = pl.coalesce(whole * unit, thousandths) if unit == SECOND_NS else rounded * unit
        result = pl.when(size < limit).then(exact).otherwise(result)
    return result


def text_times(
    column: pl.Expr, texts: Sequence[str], day_first: bool
) -> tuple[list[pl.Expr], str, str | None]:
    """A column of days and times of day, by the form of its first cells."""
    nothing = pl.lit(None, dtype=pl.Int64).alias("offset")
    match = next(filter(None, map(TIME_TEXT.fullmatch, texts)), None)
    if match is None:
        return [pl.lit(None, dtype=pl.Int64).alias("time"), nothing], "unreadable", None
    text = column.str.strip_chars()
    clock = clock_format(match)
    if match["clock"] and "-" in match["clock"]:  # "09-AM"
        text = text.str.replace(r"(\d\d)-([AP]M)$", "${1}:00:00 ${2}")
    if match["zone"]:
        text = text.str.replace(r" [A-Za-z_]+/[A-Za-z_/]+$", "")
    form = day_format(match, day_first) + clock
    shown_form = re.sub(
        r"%(.)", lambda one: FORM_WORDS.get(one[1], one[1]), form.replace("%.f", "")
    )
    if match["offset"] is not None:
        prefix = f"{match['gap2']}{match['utc'] or ''}"
        time = text.str.to_datetime(f"{form}{prefix}%z", time_unit="ns", strict=False)
        utc = time.dt.replace_time_zone(None).cast(pl.Int64)
        return (
            [utc.alias("time"), offset_of(text).alias("offset")],
            f"{shown_form} with offset",
            None,
        )
    if match["utc"]:
        time = text.str.to_datetime(
            f"{form}{match['gap2']}{match['utc']}", time_unit="ns", strict=False
        )
        zero = pl.lit(0, dtype=pl.Int64).alias("offset")
        return [time.cast(pl.Int64).alias("time"), zero], f"{shown_form} UTC", "UTC"
    if match["clock"] is None:
        time = text.str.to_date(form, strict=False).cast(pl.Datetime("ns"))
    else:
        time = text.str.to_datetime(form, time_unit="ns", strict=False)
    named = match["zone"]
    return [time.cast(pl.Int64).alias("time"), nothing], shown_form, named


FORM_WORDS: Final = {
    "Y": "YYYY", "m": "MM", "d": "DD", "H": "hh", "M": "mm", "S": "ss", "I": "hh", "p": "AM/PM",
    "b": "Mon", "y": "YY", "B": "Month",
}  # fmt: skip


def clock_format(match: re.Match[str]) -> str:
    """The form of the time of day in a time, with what stands before it."""
    clock = match["clock"]
    if clock is None:
        return ""
    if "-" in clock:
        return f"{match['gap']}%I:%M:%S %p"
    hour = "%I" if match["half"] else "%H"
    if ":" in clock:
        form = (
            f"{hour}:%M" + (":%S" if match["second"] else "") + ("%.f" if match["fraction"] else "")
        )
    else:
        form = f"{hour}%M%S" if len(clock) == 6 else f"{hour}%M"
    half = match["half"] or ""
    return f"{match['gap']}{form}{' ' if half.startswith(' ') else ''}{'%p' if half else ''}"


def day_format(match: re.Match[str], day_first: bool) -> str:
    """The form of the day in a time."""
    day = match["day"]
    if match["a"]:
        return match["a"].join(("%Y", "%m", "%d"))
    if match["b"]:
        mark = match["b"]
        year = "%Y" if len(day.rsplit(mark, 1)[1]) == 4 else "%y"
        parts = ("%d", "%m", year) if day_first or mark == "." else ("%m", "%d", year)
        return mark.join(parts)
    if match["c"]:
        return match["c"].join(("%d", "%b", "%Y" if len(day) > 9 else "%y"))
    if day.isdigit():
        return "%Y%m%d"
    return "%b %d, %Y" if len(day.split(" ")[0]) == 3 else "%B %d, %Y"


def offset_of(text: pl.Expr) -> pl.Expr:
    """The offset from UTC at the end of each time, nanoseconds; null where there is none."""
    sign = pl.when(text.str.contains(r"-\d{2}:?\d{2}$")).then(-1).otherwise(1)
    hours = text.str.extract(r"[+-](\d{2}):?\d{2}$").cast(pl.Int64)
    minutes = text.str.extract(r"[+-]\d{2}:?(\d{2})$").cast(pl.Int64)
    return sign * (hours * 60 + minutes) * MINUTE_NS


def is_day_first(days: Sequence[str], assumed: bool) -> bool:
    """Whether days such as 03/04/2024 begin with the day: told by those that can be only one.

    Args:
        days: the cells; all of them, or many.
        assumed: what is taken where all can be both.
    """
    pairs = [re.match(r"(\d{1,2})[-/](\d{1,2})[-/]\d{2,4}", one) for one in days]
    first = max((int(one[1]) for one in pairs if one), default=0)
    second = max((int(one[2]) for one in pairs if one), default=0)
    if first > 12 and second <= 12:
        return True
    if second > 12:
        return False
    return assumed


def number_columns(column: pl.Expr, dtype: pl.DataType, comma: bool, clean: bool) -> pl.Expr:
    """A column of numbers as Float64, null where there is none.

    Args:
        column: of the table.
        dtype: what it holds.
        comma: whether a comma is the decimal mark.
        clean: whether to take away thousands separators, currencies and the like.
    """
    if dtype.is_numeric():
        return column.cast(pl.Float64)
    if not clean:
        return column.cast(pl.Float64, strict=False)
    text = column.str.replace_all(r"[$€£%'\s\u{a0}\u{202f}]", "")
    factor = text.str.extract(r"([KMBTkmbt])$").str.to_uppercase()
    text = text.str.strip_chars_end("KMBTkmbt")
    if comma:
        text = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    else:
        text = text.str.replace_all(",", "", literal=True)
    many = factor.replace_strict(MULTIPLES, default=1.0, return_dtype=pl.Float64)
    return text.cast(pl.Float64, strict=False) * many


def uses_decimal_comma(texts: Sequence[str], delimiter: str) -> bool:
    """Whether numbers have a comma as decimal mark.

    Args:
        texts: cells of prices.
        delimiter: between fields: where it is the comma, 1,234 is in thousands.
    """
    for text in texts:
        point, comma = text.rfind("."), text.rfind(",")
        if point >= 0 and comma >= 0:
            return comma > point
        if comma >= 0 and not re.fullmatch(r"\D*\d{1,3}(,\d{3})+\D*", text):
            return True
        if comma >= 0 and delimiter != ",":
            return True
    return False


def within_64_bits(time: pl.Series) -> Integers:
    """Nanoseconds as int64[n], NO_TIME where there is none."""
    values = time.fill_null(NO_TIME).to_numpy()
    return np.where((values >= EARLIEST_NS) & (values <= LATEST_NS), values, NO_TIME)


def now_ns() -> int:
    """UTC nanoseconds since 1970, to the second."""
    return (
        int((datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1))
        * SECOND_NS
    )
