"""The process that decodes one Parquet file: it may print, hang or die without harm to others.

It reads the file from standard input and answers on standard output: one line of JSON, then, if
there was no error, the bytes of times, of whether they name their offset, and of the columns.
fastparquet is called itself, because pandas' way to it is deprecated.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any, BinaryIO, Final

import fastparquet
import pandas as pd

from ktrdr_mcp.data.bars import COLUMNS
from ktrdr_mcp.data.tables import (
    BarTable,
    column_places,
    first_unreadable,
    numbers,
    times_of,
    unusable,
)
from ktrdr_mcp.errors import DataInvalid, LimitExceeded

MAX_ROWS: Final = 20_000_000  # a small file can claim any number of rows
DECODING_LIMIT_S: Final = 60
MAX_MEMORY_BYTES: Final = 8 * 1024**3
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
    columns = numbers(frame, places)
    return BarTable(name, time, names_offset, offset, columns, "row", 1, unreadable)


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


def limit_this_process() -> None:
    """Ends this process by itself when it takes too long, and bounds its memory, where possible."""
    if hasattr(signal, "alarm"):  # not on Windows
        signal.alarm(DECODING_LIMIT_S)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


def answer(file: BinaryIO, name: str, output: BinaryIO) -> None:
    """Writes a file's table, or why there is none.

    Args:
        file: the Parquet file.
        name: the file, as messages call it.
        output: where the answer goes.
    """
    try:
        table = decode(file, name)
    except (DataInvalid, LimitExceeded) as error:
        limit = isinstance(error, LimitExceeded)
        header = {"message": error.message, "hint": error.hint, "limit": limit}
        output.write(f"{json.dumps(header)}\n".encode())
        return
    header = {"rows": len(table.time), "first_unreadable": table.first_unreadable}
    output.write(f"{json.dumps(header)}\n".encode())
    for array in (
        table.time,
        table.offset,
        table.names_offset,
        *(table.columns[name] for name in COLUMNS),
    ):
        output.write(array.tobytes())


def main() -> None:
    """Answers for the file on standard input; the argument is its name."""
    limit_this_process()
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # fastparquet prints
        answer(sys.stdin.buffer, sys.argv[1], output)


if __name__ == "__main__":
    main()
