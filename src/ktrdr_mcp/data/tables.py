"""Tables: a file's bars as they stand there, before any check of their values."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import COLUMNS, PRICES, Floats, Integers
from ktrdr_mcp.data.timestamps import EARLIEST_NS, LATEST_NS, MINUTE_NS
from ktrdr_mcp.errors import DataInvalid, LimitExceeded, quote

NO_TIME: Final = -(2**63)  # numpy's "not a time"
MAX_LINE_BYTES: Final = 64 * 1024
MAX_ROWS: Final = 20_000_000  # a small file can claim any number of rows
MAX_FIELDS: Final = 400_000_000
BLOCK_BYTES: Final = 1024**2
NEWLINE: Final = 10
NAMES_SHOWN: Final = 6
OPENING_NAMES: Final = {"opentime", "opendate", "starttime", "start", "bartime"}
CLOSING_NAMES: Final = {"close", "end", "barend", "periodend", "timeclose", "candleclose"}
VOLUME_NAMES: Final = {"turnover", "qty", "quantity", "amount", "tickvol", "contracts"}
SHORTEST_TIME_CHARACTERS: Final = 8  # YYYYMMDD; pandas would read "2024" as a year
# An hour after a day, with or without colons, and then Z or a signed offset of any length.
NAMES_ITS_OFFSET: Final = r"\d[T ]\d\d[\d:]*(?:[.,]\d+)?\s*(?:Z|[+-]\d[\d:]*)\s*$"
OFFSET_AT_END: Final = r"\d[T ]\d\d[\d:]*(?:[.,]\d+)?\s*([+-]\d\d?(?::?\d\d)?)\s*$"
DAY_BEGINS: Final = 7  # in "20241231T..."; later in "2024-12-31T..."
SHORT_OFFSET_CHARACTERS: Final = 2  # "+02"
BYTE_ORDER_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
LAYOUT: Final = (
    "Use comma-separated UTF-8 text whose first line is timestamp,open,high,low,close,volume."
)
NANOSECONDS_IN: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass(frozen=True, eq=False)
class BarTable:
    """What a file says, unchecked.

    Args:
        name: the file, as messages call it.
        time: int64[n], UTC nanoseconds; NO_TIME where the file's text cannot be read.
        names_offset: bool[n], whether the time named its offset from UTC.
        offset: int64[n], that offset in nanoseconds; 0 where it named none.
        columns: float64[n] each, of open, high, low, close, volume; NaN where unreadable.
        place_word: what the file's places are called, "line" or "row".
        first_place: the place of the first bar.
        first_unreadable: the first unreadable time, as a message shows it, if there is one.
        notes: what its columns leave open.
    """

    name: str
    time: Integers
    names_offset: NDArray[np.bool_]
    offset: Integers
    columns: dict[str, Floats]
    place_word: str
    first_place: int
    first_unreadable: str = ""
    notes: tuple[str, ...] = ()

    def part(self, rows: slice | NDArray[np.bool_]) -> BarTable:
        """The same table of some rows; places are those of the first ones."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(
            self,
            time=self.time[rows],
            names_offset=self.names_offset[rows],
            offset=self.offset[rows],
            columns=columns,
        )


def unusable(name: str, what: str, hint: str = LAYOUT) -> DataInvalid:
    """The error for a file that is no table of bars."""
    return DataInvalid(f"{name} {what}.", hint=hint, field="symbol")


def read_csv(file: BinaryIO, name: str) -> BarTable:
    """Reads comma-separated bars.

    Args:
        file: the file, at its beginning.
        name: the file, as messages call it.
    Raises:
        DataInvalid: it is not a table of bars.
    """
    names = column_names(file, name)
    places = column_places(names, name)
    require_bounded_lines(file, len(names), name)
    try:
        frame = text_frame(file, len(names), set(places.values()), name)
    except ValueError:  # a word where a number belongs; which one is for the validation to say
        frame = text_frame(file, len(names), set(), name)
    time, names_offset, offset = times_of(frame[0])
    unreadable = first_unreadable(frame[0], time)
    columns = numbers(frame, places)
    notes = tuple(column_notes(names, places))
    return BarTable(name, time, names_offset, offset, columns, "line", 2, unreadable, notes)


def column_names(file: BinaryIO, name: str) -> list[str]:
    """The lower-cased names of the first line, once it is certain that it can be read as CSV."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start.startswith(BYTE_ORDER_MARKS):
        raise unusable(name, "begins with a byte order mark", "Save it as UTF-8 without a BOM.")
    lines = [file.readline(MAX_LINE_BYTES) for _ in range(2)]
    if any(len(line) == MAX_LINE_BYTES for line in lines):
        raise unusable(name, f"has a line of more than {MAX_LINE_BYTES} bytes")
    if not lines[0].strip():
        raise unusable(name, "has no header line")
    try:
        header, first = (fields(line.decode("utf-8")) for line in lines)
    except (UnicodeDecodeError, csv.Error):
        raise unusable(name, "is not comma-separated UTF-8 text") from None
    if len(header) == 1:
        found = next((mark for mark in (";", "\t", "|") if mark in header[0]), None)
        what = f"separates its fields by {found!r}" if found else "has only one column"
        raise unusable(name, f"{what}, not by commas")
    if len(first) > len(header):
        raise unusable(name, f"has {len(header)} columns but {len(first)} values in line 2")
    if not lines[1]:
        raise unusable(name, "has a header and no bars", "Add bars, or remove the file.")
    return [column.strip().lower() for column in header]


def require_bounded_lines(file: BinaryIO, width: int, name: str) -> None:
    """Refuses what would take too much memory to split, before any is taken.

    Args:
        file: the file.
        width: how many columns its header has.
        name: the file, as messages call it.
    Raises:
        DataInvalid: it has a line that is too long, or zero bytes.
        LimitExceeded: it has too many lines, or fields.
    """
    file.seek(0)
    lines, begun = 0, 0  # whole lines so far, and bytes of the one that is not whole yet
    while data := file.read(BLOCK_BYTES):
        block = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(block == NEWLINE)
        lengths = np.diff(np.r_[-1 - begun, ends, len(block)])
        if int(lengths.max()) > MAX_LINE_BYTES:
            line = lines + 1 + int(np.argmax(lengths > MAX_LINE_BYTES))
            raise unusable(name, f"has more than {MAX_LINE_BYTES} bytes in line {line}")
        if not block.all():
            line = lines + 1 + int(np.searchsorted(ends, int(np.argmin(block))))
            raise unusable(name, f"has zero bytes in line {line}", "Write the file again.")
        lines, begun = lines + len(ends), int(lengths[-1]) - 1
    if lines > MAX_ROWS or lines * width > MAX_FIELDS:
        raise LimitExceeded(
            f"{name} has {lines:,} lines of {width} columns; at most {MAX_ROWS:,} lines and"
            f" {MAX_FIELDS:,} fields are read.",
            hint="Keep fewer bars, a wider timeframe, or only the columns that are needed.",
            field="symbol",
        )


def column_notes(names: Sequence[str], places: dict[str, int]) -> Iterator[str]:
    """What the columns leave open: another time, no volume, columns that are passed over.

    Args:
        names: lower-cased column names.
        places: where those that are read stand.
    """
    used = {0, *places.values()}
    rest = [column for number, column in enumerate(names) if number not in used and column]
    opening = [column for column in rest if is_opening(column)]
    if opening and not is_opening(names[0]):
        yield (
            f"The first column, {quote(names[0])}, is taken as the opening of the bars; there is"
            f" {quote(opening[0])}: put that one first."
        )
    elif is_closing(names[0]):
        yield (
            f"The first column, {quote(names[0])}, is taken as the opening of the bars, so by its"
            " name each bar is stamped one bar too late: put the opening times first."
        )
    alike = [column for column in rest if is_volume(column)]
    if "volume" not in places:
        there_is = f" (there is {', '.join(quote(one) for one in alike[:NAMES_SHOWN])})"
        yield f"No column is called volume, so every volume is 0{there_is if alike else ''}."
    if rest:
        more = f" and {len(rest) - NAMES_SHOWN} more" if len(rest) > NAMES_SHOWN else ""
        yield f"Columns passed over: {', '.join(map(quote, rest[:NAMES_SHOWN]))}{more}."


def is_opening(column: str) -> bool:
    """Whether a column's name says that it has the openings of the bars."""
    word = re.sub(r"[^a-z]", "", column)
    return word in OPENING_NAMES or (word.startswith("open") and word.endswith(("time", "date")))


def is_closing(column: str) -> bool:
    """Whether a column's name says that it has the ends of the bars."""
    word = re.sub(r"[^a-z]", "", column)
    return word in CLOSING_NAMES or (
        word.startswith(("close", "end")) and word.endswith(("time", "date", "timestamp"))
    )


def is_volume(column: str) -> bool:
    """Whether a column's name says that it has a volume of some kind."""
    words = re.split(r"[^a-z]+", column)
    return any(word.startswith("vol") or word in VOLUME_NAMES for word in words)


def fields(line: str) -> list[str]:
    """The comma-separated fields of one line."""
    return next(csv.reader([line.rstrip("\r\n")]), [])


def column_places(names: Sequence[str], name: str, hint: str = LAYOUT) -> dict[str, int]:
    """Where open, high, low, close and, if there is one, volume stand.

    Args:
        names: lower-cased column names; the first is the time's, whatever it is.
        name: the file, as messages call it.
        hint: how such a file must be laid out.
    Raises:
        DataInvalid: one is missing or stands there twice.
    """
    after_time = list(names[1:])
    missing = [column for column in PRICES if column not in after_time]
    if missing:
        listed = ", ".join(missing)
        what = f"has no column {listed} after its first column {quote(names[0])}"
        raise unusable(name, what, hint)
    twice = [column for column in COLUMNS if after_time.count(column) > 1]
    if twice:
        raise unusable(name, f"has more than one column {', '.join(twice)}", hint)
    return {column: 1 + after_time.index(column) for column in COLUMNS if column in after_time}


def text_frame(file: BinaryIO, width: int, numeric: set[int], name: str) -> pd.DataFrame:
    """The file's fields by column number: the numeric ones as float64, the others as text.

    Raises:
        DataInvalid: a line has too many fields, or it is not UTF-8 text.
        ValueError: a numeric column holds a word.
    """
    file.seek(0)
    try:
        return pd.read_csv(
            file,
            header=0,
            names=list(range(width)),
            dtype={place: float if place in numeric else str for place in range(width)},
            encoding="utf-8",
            skip_blank_lines=False,  # so that places are line numbers
        )
    except pd.errors.ParserError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f" in line {line[1]}" if line else ""
        raise unusable(name, f"cannot be split into {width} columns{where}") from None
    except UnicodeDecodeError:
        raise unusable(name, "is not comma-separated UTF-8 text") from None


def numbers(frame: pd.DataFrame, places: dict[str, int]) -> dict[str, Floats]:
    """The columns as float64[n] each: NaN for what is no number, 0 for a volume not recorded."""
    columns = {name: as_numbers(frame.iloc[:, place]) for name, place in places.items()}
    return {"volume": np.zeros(len(frame)), **columns}


def as_numbers(series: pd.Series) -> Floats:
    """A column as float64[n], NaN for what is no number."""
    parsed = pd.to_numeric(series, errors="coerce")
    return np.array(parsed.to_numpy(dtype=np.float64, na_value=np.nan))


def times_of(series: pd.Series) -> tuple[Integers, NDArray[np.bool_], Integers]:
    """A column of times.

    Args:
        series: n times as text, or of a datetime type.
    Returns:
        int64[n] UTC nanoseconds, NO_TIME where unreadable or beyond 64 bits; bool[n], whether
        each named its offset from UTC; and int64[n], that offset in nanoseconds.
    """
    none, zero = np.zeros(len(series), dtype=np.bool_), np.zeros(len(series), dtype=np.int64)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        time = in_nanoseconds(series)
        local = in_nanoseconds(series.dt.tz_localize(None).dt.tz_localize("UTC"))
        readable = (time != NO_TIME) & (local != NO_TIME)
        return time, ~none, np.where(readable, local - np.where(readable, time, 0), 0)
    if pd.api.types.is_datetime64_dtype(series.dtype):
        return in_nanoseconds(series.dt.tz_localize("UTC")), none, zero
    if pd.api.types.is_numeric_dtype(series.dtype):
        return np.full(len(series), NO_TIME, dtype=np.int64), none, zero
    text = series.astype("str")
    readable = (text.str.len() >= SHORTEST_TIME_CHARACTERS).to_numpy(dtype=np.bool_)
    parsed = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
    return np.where(readable, in_nanoseconds(parsed), NO_TIME), *offsets_of(text)


def offsets_of(text: pd.Series) -> tuple[NDArray[np.bool_], Integers]:
    """What the ends of n times say of their offset from UTC.

    Returns:
        bool[n], whether each names its offset; and int64[n], that offset in nanoseconds, 0 where
        there is none.
    """
    codes, endings = pd.factorize(text.str[DAY_BEGINS:])  # of millions, few thousands differ
    named = [re.search(NAMES_ITS_OFFSET, ending) is not None for ending in endings]
    shifts = [re.search(OFFSET_AT_END, ending) for ending in endings]
    known = [0 if shift is None else offset_ns(shift[1]) for shift in shifts]
    # The code of a time that is missing is -1.
    return np.array([*named, False])[codes], np.array([*known, 0], dtype=np.int64)[codes]


def offset_ns(ending: str) -> int:
    """An offset like "+05:30", "+0530" or "+5" in nanoseconds."""
    sign = -1 if ending[0] == "-" else 1
    hours, _, minutes = ending[1:].partition(":")
    if not minutes and len(hours) > SHORT_OFFSET_CHARACTERS:
        hours, minutes = hours[:2], hours[2:]
    return sign * (int(hours or 0) * 60 + int(minutes[:2] or 0)) * MINUTE_NS


def first_unreadable(series: pd.Series, time: Integers) -> str:
    """The first time that cannot be read, as a message shows it; no text if there is none.

    Args:
        series: the times as the file has them.
        time: int64[n], what was read of them.
    """
    rows = np.flatnonzero(time == NO_TIME)
    if not len(rows):
        return ""
    value = series.iloc[int(rows[0])]
    return "empty" if pd.isna(value) else quote(str(value))


def in_nanoseconds(series: pd.Series) -> Integers:
    """Aware datetimes as int64[n] UTC nanoseconds, NO_TIME where missing or beyond 64 bits."""
    plain = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    factor = NANOSECONDS_IN[np.datetime_data(plain.dtype)[0]]
    counts = plain.view(np.int64)
    inside = (counts >= -(-EARLIEST_NS // factor)) & (counts <= LATEST_NS // factor)
    return np.where(inside, np.where(inside, counts, 0) * factor, NO_TIME)
