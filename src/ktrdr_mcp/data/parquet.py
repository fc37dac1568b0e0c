"""Parquet files of bars, decoded in a process of their own.

A damaged file can make the decoder loop for ever while it holds the interpreter's lock, print to
standard output, or crash; here it can only be refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import BinaryIO, Final

import numpy as np

from ktrdr_mcp.data.bars import COLUMNS
from ktrdr_mcp.data.tables import BarTable, unusable
from ktrdr_mcp.errors import DataInvalid, LimitExceeded

CHILD: Final = "ktrdr_mcp.data.parquet_child"
WAIT_LIMIT_S: Final = 90.0  # longer than the child gives itself
HINT: Final = "Write it again, or use CSV."


def read_parquet(file: BinaryIO, name: str) -> BarTable:
    """Reads bars from a Parquet file; the time is its index or its first column.

    Args:
        file: the file, open on a descriptor.
        name: the file, as messages call it; begins with a letter or digit.
    Raises:
        DataInvalid: it is not a table of bars.
        LimitExceeded: it claims too many rows.
    """
    file.seek(0)
    # -P keeps the current folder from being searched for modules.
    command = [sys.executable, "-P", "-m", CHILD, name]
    try:
        child = subprocess.run(  # noqa: S603 - the name has been checked, and no shell is used
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_LIMIT_S,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise unusable(name, "cannot be decoded as Parquet", HINT) from None
    return table_of(child.stdout, name)


def table_of(answer: bytes, name: str) -> BarTable:
    """The table that the child wrote. Raises what it refused."""
    first_line, _, data = answer.partition(b"\n")
    header = json.loads(first_line)
    if "rows" not in header:
        kind = LimitExceeded if header["limit"] else DataInvalid
        raise kind(header["message"], hint=header["hint"], field="symbol")
    rows = int(header["rows"])
    time = np.frombuffer(data, np.int64, rows)
    offset = np.frombuffer(data, np.int64, rows, offset=time.nbytes)
    names_offset = np.frombuffer(data, np.bool_, rows, offset=2 * time.nbytes)
    begin = 2 * time.nbytes + names_offset.nbytes
    columns = {
        # A copy, because indicators want aligned numbers and the bytes are not.
        column: np.frombuffer(data, np.float64, rows, begin + place * time.nbytes).copy()
        for place, column in enumerate(COLUMNS)
    }
    unreadable = str(header["first_unreadable"])
    return BarTable(name, time.copy(), names_offset, offset.copy(), columns, "row", 1, unreadable)
