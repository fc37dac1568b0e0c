"""Tables of other tools' files: unpacked, decoded and split into columns, before their meaning.

Only the reader's process imports this: whatever a file does to its decoder stays there.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from ktrdr_mcp import limits
from ktrdr_mcp.data.imports.columns import Header, find_header
from ktrdr_mcp.data.tables import MAX_ROWS
from ktrdr_mcp.errors import DataInvalid, LimitExceeded, quote

CHUNK_BYTES: Final = 4 * 1024**2
HEAD_BYTES: Final = 256 * 1024
HEAD_LINES: Final = 400
MAX_MEMBERS: Final = 2_000
MAX_JSON_BYTES: Final = 512 * 1024**2
DELIMITERS: Final = (",", ";", "\t", "|")
UNPACKERS: Final[dict[bytes, Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
ZIP: Final = b"PK\x03\x04"
PARQUET: Final = b"PAR1"
ARROW: Final = b"ARROW1"
OLD_FEATHER: Final = b"FEA1"
SPREADSHEET_MEMBER: Final = "[Content_Types].xml"
WANTED: Final = (
    "Give a text file of bars (CSV), JSON, Parquet or Feather, also packed with gz or zip."
)
BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, eq=False)
class Table:
    """One file, or one member of an archive, as columns.

    Args:
        name: as messages call it.
        stem: its name without endings, from which symbol and timeframe may be read.
        kind: csv, json, parquet or feather.
        header: the names of its columns and where the data begin.
        head: the first rows as text.
        frame: all rows: columns c0, c1, ..., as text unless the file itself has types.
        place: the line or row of the first bar.
        place_word: line or row.
        packed: how it was packed and encoded, for people.
        delimiter: between fields of a line.
        about: what the file says of itself: symbol, zone.
    """

    name: str
    stem: str
    kind: str
    header: Header
    head: list[list[str]]
    frame: pl.LazyFrame
    place: int = 1
    place_word: str = "row"
    packed: tuple[str, ...] = ()
    delimiter: str = ","
    about: dict[str, str] = field(default_factory=dict)


def refuse_file(name: str, what: str, hint: str = WANTED) -> DataInvalid:
    """The error for a file that no dialect fits."""
    return DataInvalid(f"{name} {what}.", hint=hint, field="files")


def tables(path: Path, name: str, scratch: Path) -> Iterator[Table]:
    """The tables of a file: one, or one for each member of an archive.

    Args:
        path: the file; it is regular and of bounded size.
        name: as messages call it.
        scratch: an empty folder for what is unpacked.
    Raises:
        DataInvalid: it is no table.
        LimitExceeded: it unpacks to more than what is read.
    """
    with path.open("rb") as file:
        start = file.read(8)
    unpack = next((one for magic, one in UNPACKERS.items() if start.startswith(magic)), None)
    if unpack is not None:
        inner = scratch / "unpacked"
        with unpack(path, "rb") as packed:
            copy_bounded(packed, inner, name)
        stem = Path(name).stem if Path(name).suffix.lower() in {".gz", ".bz2", ".xz"} else name
        yield replace(table(inner, name, stem, scratch), packed=(Path(name).suffix[1:] or "gz",))
    elif start.startswith(ZIP):
        yield from members(path, name, scratch)
    else:
        yield table(path, name, name, scratch)


def members(path: Path, name: str, scratch: Path) -> Iterator[Table]:
    """The tables in a zip archive, by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [one for one in archive.infolist() if not one.is_dir()]
            named = sorted(one.filename for one in inside)
            if SPREADSHEET_MEMBER in named:
                raise refuse_file(
                    name, "is a spreadsheet", "Save its sheet as CSV, then import that."
                )
            wanted = [one for one in inside if is_table(one.filename)][:MAX_MEMBERS]
            if not wanted:
                raise refuse_file(name, "is a zip archive without a table of bars")
            for number, one in enumerate(sorted(wanted, key=lambda each: each.filename)):
                inner, label = scratch / f"member{number}", Path(one.filename).name
                with archive.open(one) as packed:
                    copy_bounded(packed, inner, name)
                found = table(inner, f"{label} in {name}", label, scratch)
                yield replace(found, packed=("zip", *found.packed))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise refuse_file(name, "is a damaged or locked zip archive") from None


def is_table(name: str) -> bool:
    """Whether a member of an archive may be a table: HistData, for one, adds a report beside it."""
    path = Path(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return not hidden and path.suffix.lower() in {".csv", ".tsv", ".txt", ".json", ".parquet"}


def copy_bounded(source: IO[bytes], target: Path, name: str) -> None:
    """Unpacks a file, up to what is read of any file. Raises LimitExceeded, DataInvalid."""
    most, most_mib = limits.MAX_DATA_FILE_BYTES, limits.MAX_DATA_FILE_BYTES // 1024**2
    try:
        with target.open("wb") as file:
            while block := source.read(CHUNK_BYTES):
                most -= len(block)
                if most < 0:
                    raise LimitExceeded(
                        f"{name} unpacks to more than {most_mib:,} MiB.",
                        hint="Import it in parts.",
                        field="files",
                    )
                file.write(block)
    except (EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise refuse_file(name, "is damaged: it cannot be unpacked to its end") from None


def table(path: Path, name: str, stem: str, scratch: Path) -> Table:
    """One unpacked file as a table, by its first bytes. Raises DataInvalid."""
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
    if not start.strip():
        raise refuse_file(name, "is empty")
    try:
        if start.startswith(PARQUET):
            return read_typed(pl.scan_parquet(path), name, stem, "parquet", pandas_index(path))
        if start.startswith(ARROW):
            return read_typed(pl.read_ipc(path).lazy(), name, stem, "feather", [])
    except pl.exceptions.PolarsError:
        kind = "Parquet" if start.startswith(PARQUET) else "Feather"
        raise refuse_file(name, f"is damaged: it cannot be read as {kind}") from None
    if start.startswith(OLD_FEATHER):
        raise refuse_file(name, "is Feather of version 1", "Write it again with a newer pandas.")
    if start.lstrip()[:1] in {b"[", b"{"}:
        return from_json(path, name, stem)
    return from_text(path, name, stem, start, scratch)


def pandas_index(path: Path) -> list[str]:
    """The columns that pandas wrote as the index of a Parquet file, which come first."""
    about = pl.read_parquet_metadata(path).get("pandas")
    if about is None:
        return []
    columns = json.loads(about).get("index_columns", [])
    return [one for one in columns if isinstance(one, str)]


def read_typed(frame: pl.LazyFrame, name: str, stem: str, kind: str, index: Sequence[str]) -> Table:
    """A file whose columns have types: Parquet, Feather, or the rows of JSON."""
    schema = frame.collect_schema()
    first = [one for one in index if one in schema]
    names = [*first, *(one for one in schema.names() if one not in first)]
    if len(names) < 5:
        raise refuse_file(name, f"has only {len(names)} columns, which are no bars")
    count = frame.select(pl.len()).collect().item()
    if count > MAX_ROWS:
        raise LimitExceeded(
            f"{name} has {count:,} rows; at most {MAX_ROWS:,} are read.",
            hint="Import it in parts.",
            field="files",
        )
    renamed = frame.select(pl.col(one).alias(f"c{place}") for place, one in enumerate(names))
    rows = renamed.head(HEAD_LINES).collect().rows()
    head = [["" if cell is None else str(cell) for cell in row] for row in rows]
    shown_names = ["" if one.startswith("__index_level_") else one for one in names]
    return Table(name, stem, kind, Header(shown_names), head, renamed)


def from_json(path: Path, name: str, stem: str) -> Table:
    """Rows of JSON: lists of numbers, objects, or the reply of an API around them."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise LimitExceeded(
            f"{name} has more than {MAX_JSON_BYTES // 1024**2} MiB of JSON.",
            hint="Import it in parts, or as CSV or Parquet.",
            field="files",
        )
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = lines_of_json(text, name)
    about = dict[str, str]()
    names, rows = json_rows(value, about, name)
    width = max(map(len, rows), default=0)
    columns = {
        f"c{place}": pl.Series(
            [plain_text(row[place]) if place < len(row) else None for row in rows], dtype=pl.String
        )
        for place in range(width)
    }
    head = [["" if cell is None else plain_text(cell) or "" for cell in row] for row in rows]
    header = Header([] if names is None else names)
    frame = pl.DataFrame(columns).lazy()
    return Table(name, stem, "json", header, head[:HEAD_LINES], frame, about=about)


def plain_text(value: Any) -> str | None:
    """A value of JSON as a file of text would have it."""
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def lines_of_json(text: str, name: str) -> list[Any]:
    """The values of a file that has one on each line. Raises DataInvalid."""
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise refuse_file(name, "is no JSON") from None


def json_rows(
    value: Any, about: dict[str, str], name: str
) -> tuple[list[str] | None, list[list[Any]]]:
    """The names of columns, if there are any, and the rows of a decoded file.

    Args:
        value: what was decoded.
        about: takes what the file says of itself.
        name: the file, as messages call it.
    """
    for _ in range(4):  # replies wrap their rows in a few objects at most
        if not isinstance(value, dict):
            break
        remember(value, about)
        found = rows_by_time(value) or rows_by_column(value)
        if found is not None:
            return found
        inner = {key: one for key, one in value.items() if isinstance(one, list | dict) and one}
        if not inner:
            break
        longest = max(inner, key=lambda key: len(inner[key]))
        if len(inner) == 1 and len(value) == 1 and isinstance(inner[longest], list):
            about.setdefault("symbol", longest)  # as Alpaca has them, under each symbol
        value = inner[longest]
    if not isinstance(value, list) or not value:
        raise refuse_file(name, "is JSON without rows of bars")
    if all(isinstance(one, dict) for one in value):
        names = list(dict.fromkeys(key for one in value[:HEAD_LINES] for key in one))
        return names, [[one.get(key) for key in names] for one in value]
    if all(isinstance(one, list) for one in value):
        return None, value
    raise refuse_file(name, "is JSON without rows of bars")


def remember(value: dict[str, Any], about: dict[str, str]) -> None:
    """Keeps what a reply says of its symbol and zone, under whatever key."""
    for key, one in value.items():
        word = re.sub(r"[^a-z]", "", str(key).lower())
        if isinstance(one, str) and word in {"symbol", "ticker"}:
            about["symbol"] = one
        elif isinstance(one, str) and word == "timezone":
            about["zone"] = one
        elif isinstance(one, dict) and word in {"metadata", "meta"}:
            remember(one, about)


def rows_by_column(value: dict[str, Any]) -> tuple[list[str], list[list[Any]]] | None:
    """The rows of an object that has a list under each name of a column."""
    columns = {key: one for key, one in value.items() if isinstance(one, list)}
    if len(columns) < 5 or len({len(one) for one in columns.values()}) > 1:
        return None
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def rows_by_time(value: dict[str, Any]) -> tuple[list[str], list[list[Any]]] | None:
    """The rows of an object that has a bar under each time, as Alpha Vantage's replies have."""
    keys = list(value)
    first = value[keys[0]] if keys else None
    if not isinstance(first, dict) or not re.match(r"\d{4}-\d\d-\d\d", keys[0]):
        return None
    names = list(first)
    rows = [[key, *(one.get(name) for name in names)] for key, one in value.items()]
    return ["timestamp", *names], rows


def from_text(path: Path, name: str, stem: str, start: bytes, scratch: Path) -> Table:
    """Lines of fields, whatever they are encoded in and separated by."""
    encoding = encoding_of(path, start)
    packed = () if encoding == "utf-8" else (encoding.replace("-sig", " with a byte order mark"),)
    if encoding != "utf-8":
        path = recode(path, encoding, scratch / f"{path.name}.utf8", name)
        with path.open("rb") as file:
            start = file.read(HEAD_BYTES)
    if b"\0" in start:
        raise refuse_file(name, "is no text")
    text = start.decode("utf-8", errors="ignore")
    lines = text.splitlines()[:HEAD_LINES]
    if len(start) == HEAD_BYTES and len(lines) > 1 and len(lines) < HEAD_LINES:
        lines = lines[:-1]
    delimiter = delimiter_of(lines)
    rows = [fields(line, delimiter) for line in lines]
    header = find_header(rows)
    if header is None:
        raise refuse_file(name, unlike_bars(rows))
    head = [row for row in rows[header.rows :] if any(row)]
    if not head:
        raise refuse_file(name, "has a header and no bars")
    width = max(len(header.names), *(len(row) for row in head))
    for number, row in enumerate(rows[header.rows :], start=header.rows + 1):
        if header.names and any(row[len(header.names) :]):
            what = f"has {len(header.names)} columns but {len(row)} values in line {number}"
            raise refuse_file(
                name, f"cannot be split into its columns: it {what}", "Correct the line."
            )
    frame = pl.scan_csv(
        path,
        has_header=False,
        skip_lines=header.rows,
        separator=delimiter,
        schema={f"c{place}": pl.String for place in range(width)},
        quote_char='"' if '"' in text else None,
        missing_columns="insert",
    )
    header = replace(header, names=[one.strip() for one in header.names])
    first = header.rows + 1
    return Table(name, stem, "csv", header, head, frame, first, "line", packed, delimiter)


def encoding_of(path: Path, start: bytes) -> str:
    """How a file of text is encoded: by its mark, else UTF-8 if all of it is, else cp1252."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return encoding
    sample = start[:1_000]
    if sample.count(b"\0") > len(sample) // 4:  # UTF-16 without a mark
        return "utf-16-le" if sample[1:2] == b"\0" else "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK_BYTES):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def recode(path: Path, encoding: str, target: Path, name: str) -> Path:
    """The same text in UTF-8. Raises DataInvalid."""
    try:
        with (
            path.open("r", encoding=encoding, newline="") as source,
            target.open("w", encoding="utf-8", newline="") as file,
        ):
            while block := source.read(CHUNK_BYTES):
                file.write(block)
    except UnicodeError:
        raise refuse_file(name, f"is not text in {encoding}, as it begins") from None
    return target


def delimiter_of(lines: Sequence[str]) -> str:
    """What separates fields: the mark that splits most lines into as many fields, five or more."""

    def evenness(mark: str) -> tuple[int, int]:
        counts = [len(fields(line, mark)) for line in lines if line.strip()]
        usual = max(set(counts), key=counts.count, default=1)
        return (counts.count(usual) if usual >= 5 else 0, usual)

    return max(DELIMITERS, key=evenness)


def fields(line: str, delimiter: str) -> list[str]:
    """The fields of one line."""
    try:
        row = next(csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        row = line.split(delimiter)
    return [cell.strip() for cell in row]


def unlike_bars(rows: Sequence[Sequence[str]]) -> str:
    """Why no header and no bars were found, with the first line that is not empty."""
    first = next((row for row in rows if any(row)), [])
    return (
        "has neither columns called open, high, low and close nor lines of a time and prices: it"
        f" begins with {quote(', '.join(first), 80)}"
    )
