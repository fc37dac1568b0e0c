"""The process that reads files of bars: it may print, hang or die without harm to others.

A request is a line of JSON on standard input. The answer on standard output is one line of JSON,
then, if there was no error, the bytes of times, offsets, whether those were named, which bars are
unsound, and of the columns. It ends with standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

from ktrdr_mcp.data.bars import COLUMNS
from ktrdr_mcp.data.files import import_command, open_regular
from ktrdr_mcp.data.reader import FileRequest, Refusal, SeriesHeader
from ktrdr_mcp.data.series import FileState, StoredSeries, read_series
from ktrdr_mcp.data.tables import unusable
from ktrdr_mcp.errors import DataInvalid, KtrdrError, LimitExceeded
from ktrdr_mcp.files import storage_errors

FILE_LIMIT_S: Final = 120  # of the processor, which a loaded machine does not shorten
MAX_MEMORY_BYTES: Final = 8 * 1024**3
RSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024


def limit_memory() -> None:
    """Bounds this process's memory, where that is possible."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


def limit_time(seconds: int) -> None:
    """Ends this process by itself when it has computed for so long; 0 for never."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, seconds)


def resident_bytes() -> int:
    """The most memory that this process ever held."""
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT_BYTES
    return 0


def read(request: FileRequest) -> StoredSeries:
    """Reads the file of a request. Raises KtrdrError."""
    name, path = request["name"], Path(request["path"])
    wanted = FileState(path, *request["state"])
    with storage_errors(f"reading {name}"), open_regular(path, name) as (file, _):
        try:
            known_at = (wanted.mtime_ns, time.time_ns())
            series = read_series(file, name, request["symbol"], request["timeframe"], known_at)
        except DataInvalid as refusal:
            raise or_import(refusal, path, request) from None
        except MemoryError:
            raise LimitExceeded(
                f"{name} needs more than {MAX_MEMORY_BYTES // 1024**3} GiB of memory to be read.",
                hint="Keep fewer bars, a wider timeframe, or only the columns that are needed.",
                field="symbol",
            ) from None
        if FileState.of(path, os.fstat(file.fileno())) != wanted:
            raise unusable(name, "was changed while it was being read", "Try again.")
    return series


def or_import(refusal: DataInvalid, path: Path, request: FileRequest) -> DataInvalid:
    """The refusal of a file; of another tool's, its dialect and the command that imports it."""
    from ktrdr_mcp.data.imports.read import importable

    name, symbol, timeframe = request["name"], request["symbol"], request["timeframe"]
    title = importable(path, name, symbol or None, timeframe or None)
    if title is None:
        return refusal
    command = import_command(name, symbol, timeframe) if symbol else f"ktrdr-mcp data import {name}"
    message = f"{name} is a file of {title}, which is not read as it is." if title else None
    return DataInvalid(
        message or refusal.message, hint=f"Import it: {command}", field=refusal.field
    )


def answer(request: FileRequest, output: BinaryIO) -> None:
    """Writes a file's series, or why there is none."""
    try:
        series = read(request)
    except KtrdrError as error:
        refused: Refusal = {"error": error.to_json(), "resident_bytes": resident_bytes()}
        output.write(f"{json.dumps(refused)}\n".encode())
        return
    table = series.table
    header: SeriesHeader = {
        "rows": len(table.time),
        "place_word": table.place_word,
        "first_place": table.first_place,
        "notes": list(series.notes),
        "resident_bytes": resident_bytes(),
    }
    output.write(f"{json.dumps(header)}\n".encode())
    columns = [table.columns[name] for name in COLUMNS]
    for array in (table.time, table.offset, table.names_offset, series.unsound, *columns):
        output.write(array.tobytes())


def main() -> None:
    """Answers one request after the other until standard input ends."""
    limit_memory()
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # fastparquet prints
        for line in sys.stdin.buffer:
            limit_time(FILE_LIMIT_S)
            answer(json.loads(line), output)
            output.flush()
            limit_time(0)


if __name__ == "__main__":
    main()
