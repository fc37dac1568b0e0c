"""Parquet files of bars, decoded by fastparquet itself: pandas' way to it is deprecated.

A damaged file can make the decoder loop for ever while it holds the interpreter's lock, print to
standard output, or crash: only the reader's process may do this.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Final

import fastparquet
import pandas as pd

from ktrdr_mcp.data.tables import (
    MAX_ROWS,
    BarTable,
    column_notes,
    column_places,
    first_unreadable,
    numbers,
    times_of,
    unusable,
)
from ktrdr_mcp.errors import LimitExceeded

LAYOUT: Final = (
    "Use a Parquet file with columns timestamp, open, high, low, close, volume: the time is its"
    " first column, or its index."
)


class ParquetTable(fastparquet.ParquetFile):  # type: ignore[misc]
    """A file whose index may be nameless; fastparquet looks such a column up by a name."""

    @property
    def pandas_metadata(self) -> dict[str, Any]:
        """What pandas wrote about the columns, each under the name that it has in the file."""
        metadata: dict[str, Any] = super().pandas_metadata
        for column in metadata.get("columns", ()):
            if column.get("name") is None:
                column["name"] = column.get("field_name")
        return metadata


def decode(file: BinaryIO, name: str) -> BarTable:
    """The bars of a Parquet file; the time is its index or its first column.

    Args:
        file: the file, at its beginning.
        name: the file, as messages call it.
    Raises:
        DataInvalid: it is not a table of bars.
        LimitExceeded: it claims too many rows.
    """
    frame = time_first(frame_of(file, name))
    if not len(frame):
        raise unusable(name, "has columns and no bars", "Add bars, or remove the file.")
    names = [str(column).strip().lower() for column in frame.columns]
    places = column_places(names, name, LAYOUT)
    time, names_offset, offset = times_of(frame.iloc[:, 0])
    unreadable = first_unreadable(frame.iloc[:, 0], time)
    columns, notes = numbers(frame, places), tuple(column_notes(names, places))
    return BarTable(name, time, names_offset, offset, columns, "row", 1, unreadable, notes)


def frame_of(file: BinaryIO, name: str) -> pd.DataFrame:
    """The file's table."""
    try:
        parquet = ParquetTable(file, verify=True)
        rows = int(parquet.count())
        if 0 <= rows <= MAX_ROWS:
            frame: pd.DataFrame = parquet.to_pandas()
            return frame
    except MemoryError:
        raise
    except Exception:  # a damaged file makes its decoders raise nearly anything
        raise unusable(name, "cannot be read as Parquet", LAYOUT) from None
    raise LimitExceeded(
        f"{name} claims {rows:,} rows; at most {MAX_ROWS:,} are read.",
        hint="Keep fewer bars, or a wider timeframe.",
        field="symbol",
    )


def time_first(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its time as the first column, taken from the index unless that only counts."""
    if isinstance(frame.index, pd.RangeIndex):
        return frame
    time = frame.index.to_frame(index=False).iloc[:, :1].set_axis(["time"], axis=1)
    return pd.concat([time, frame.reset_index(drop=True)], axis=1)
