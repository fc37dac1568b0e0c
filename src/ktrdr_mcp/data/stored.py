"""Bars as this program stores them: Parquet with the times in UTC, and the offset where it counts.

Columns: timestamp (UTC nanoseconds), open, high, low, close, volume, and `offset_s`, how many
seconds the clock by which the series names its days is ahead of UTC; left out where that is 0. The
file of a whole series carries what is to be said of it, so that it need not be found out again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypedDict

import numpy as np

from ktrdr_mcp import __version__
from ktrdr_mcp.data.bars import COLUMNS, Bars, fingerprint
from ktrdr_mcp.data.notes import series_notes
from ktrdr_mcp.data.series import StoredSeries
from ktrdr_mcp.data.tables import BarTable, unusable
from ktrdr_mcp.data.timestamps import SECOND_NS
from ktrdr_mcp.files import sha256_of_file

if TYPE_CHECKING:
    import polars as pl

MARK: Final = "ktrdr_mcp"
FORMAT: Final = "1"
OFFSET: Final = "offset_s"
NOTES: Final = "notes"
WHOLE: Final = "bars.parquet"  # of a staged series
NOTED_BY: Final = "noted_by"  # the version of this program that found the notes


def frame_of(bars: Bars) -> pl.DataFrame:
    """Bars as a table of columns."""
    import polars as pl

    time = pl.Series("timestamp", bars.time).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    columns = [
        pl.Series(name, column) for name, column in zip(COLUMNS, bars.columns(), strict=True)
    ]
    offset = (
        []
        if bars.offset is None
        else [pl.Series(OFFSET, (bars.offset // SECOND_NS).astype(np.int32))]
    )
    return pl.DataFrame([time, *columns, *offset])


def write_bars(bars: Bars, path: Path, notes: Sequence[str] | None = None) -> None:
    """Writes bars to a file that does not exist yet.

    Args:
        bars: checked and final.
        path: the file.
        notes: all that is to be said of them, if that is known.
    """
    known = {} if notes is None else {NOTES: json.dumps(list(notes)), NOTED_BY: __version__}
    frame_of(bars).write_parquet(path, compression="zstd", metadata={MARK: FORMAT, **known})


def is_stored(file: BinaryIO) -> bool:
    """Whether a Parquet file was written by this program."""
    import polars as pl

    file.seek(0)
    try:
        return MARK in pl.read_parquet_metadata(file)
    except pl.exceptions.PolarsError:
        return False
    finally:
        file.seek(0)


def read_bars(file: BinaryIO, name: str) -> BarTable:
    """The bars of a file that this program wrote. Raises DataInvalid."""
    import polars as pl

    try:
        frame = pl.read_parquet(file)
        time = frame["timestamp"].dt.replace_time_zone(None).cast(pl.Int64).to_numpy().copy()
        columns = {one: frame[one].cast(pl.Float64).to_numpy().copy() for one in COLUMNS}
        offset = np.zeros(len(time), dtype=np.int64)
        if OFFSET in frame.columns:
            offset = frame[OFFSET].cast(pl.Int64).to_numpy() * SECOND_NS
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        raise unusable(name, "is damaged", "Import or fetch the series again.") from None
    named = np.ones(len(time), dtype=np.bool_)
    return BarTable(name, time, named, offset, columns, "row", 1)


def read_own(file: BinaryIO, name: str, written: Container[str]) -> StoredSeries | None:
    """The series of a file whose bytes are those that this program wrote, checked back then.

    Only such a file is decoded outside the readers' processes.

    Args:
        file: at its beginning.
        name: the file, as messages call it.
        written: the SHA-256 of each file that was written.
    Returns:
        None if it has other bytes, or another version of this program found its notes.
    """
    import polars as pl

    content = file.read()
    if hashlib.sha256(content).hexdigest() not in written:
        return None
    known = pl.read_parquet_metadata(BytesIO(content))
    if known.get(NOTED_BY) != __version__:
        return None
    table = read_bars(BytesIO(content), name)
    notes: list[str] = json.loads(known[NOTES])
    return StoredSeries(table, np.zeros(len(table.time), dtype=np.bool_), tuple(notes))


class Staged(TypedDict):
    """A series that was written to a folder and is in no version yet.

    Args:
        folder: it holds bars.parquet and parts/{month}.parquet.
        bars: how many there are.
        first_bar: opening of the first, ISO 8601.
        last_bar: of the last.
        fingerprint: of times and columns.
        parts: the SHA-256 of each month's part.
    """

    folder: str
    bars: int
    first_bar: str
    last_bar: str
    fingerprint: str
    parts: dict[str, str]


def stage(bars: Bars, folder: Path, notes: Sequence[str] | None = None) -> Staged:
    """Writes a series as a whole and by months, for a version to be made of it.

    Args:
        bars: the series, not empty.
        folder: where; made here.
        notes: what `series_notes` says of it, if that is known.
    """
    (folder / "parts").mkdir(parents=True)
    write_bars(bars, folder / WHOLE, series_notes(bars) if notes is None else notes)
    months = bars.time.astype("datetime64[ns]").astype("datetime64[M]")
    starts = np.flatnonzero(np.r_[True, months[1:] != months[:-1]])
    parts = {}
    for start, stop in zip(starts, [*starts[1:], len(bars)], strict=True):
        path = folder / "parts" / f"{months[start]}.parquet"
        write_bars(bars.slice(int(start), int(stop)), path)
        parts[str(months[start])] = sha256_of_file(path)
    return {
        "folder": str(folder),
        "bars": len(bars),
        "first_bar": bars.timestamp(0),
        "last_bar": bars.timestamp(len(bars) - 1),
        "fingerprint": fingerprint(bars),
        "parts": parts,
    }


def read_parts(paths: Sequence[Path], symbol: str, timeframe: str) -> Bars:
    """The series of some parts, oldest first. Raises DataInvalid."""
    tables = []
    for path in paths:
        with path.open("rb") as file:
            tables.append(read_bars(file, path.name))
    offset = np.concatenate([one.offset for one in tables])
    return Bars(
        symbol,
        timeframe,
        np.concatenate([one.time for one in tables]),
        *(np.concatenate([one.columns[name] for one in tables]) for name in COLUMNS),
        offset=offset if offset.any() else None,
    )
