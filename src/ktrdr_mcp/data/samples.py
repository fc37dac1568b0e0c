"""The built-in bars: AAPL, daily and hourly, real prices that the package mintalib carries."""

from __future__ import annotations

import hashlib
import io
from importlib import resources
from typing import Final

import numpy as np

from ktrdr_mcp.data.bars import LoadedBars
from ktrdr_mcp.data.cache import BarCache, FileState
from ktrdr_mcp.data.files import NotRead
from ktrdr_mcp.data.series import Reach, StoredSeries
from ktrdr_mcp.data.tables import read_csv
from ktrdr_mcp.data.validation import validate
from ktrdr_mcp.errors import DataNotFound, StorageError

SYMBOL: Final = "AAPL"
PACKAGE: Final = "mintalib.samples"
FILES: Final = {  # timeframe: file name, SHA-256 of its bytes
    "1d": (
        "daily-prices.csv",
        "a6bd27723737dc541095fd443dd243891d10f753fe191e242de690ba6398508e",
    ),
    "1h": (
        "hourly-prices.csv",
        "5caf37781e44d8ec59c41bc6599437c345d24a181a32cb536dcf342cbeebfea3",
    ),
}
ORIGIN_NOTE: Final = (
    "Sample of the package mintalib 0.1.13 (MIT): the ticker AAPL is inferred from the prices, "
    "and the terms of the upstream data are unverified."
)
UNFINISHED_NOTE: Final = "The unfinished last bar is left out."
HOURLY_NOTE: Final = "Bars are stamped at their opening."


class Samples:
    """The series that come with the program."""

    name = "built-in sample"

    def __init__(self, cache: BarCache) -> None:
        """The samples, read through a cache."""
        self._cache = cache

    def series(self) -> set[tuple[str, str]]:
        """The symbol and timeframe of each sample."""
        return {(SYMBOL, timeframe) for timeframe in FILES}

    def not_read(self) -> list[NotRead]:
        """None: what comes with the program is rightly named."""
        return []

    def load(self, symbol: str, timeframe: str, reach: Reach | None = None) -> LoadedBars:
        """The checked bars of one sample.

        Raises:
            DataNotFound: there is no such sample.
            StorageError: the installed file is not the one that is known.
        """
        if (symbol, timeframe) not in self.series():
            raise DataNotFound(
                f"There is no sample of {symbol} {timeframe}.",
                hint=f"There are {SYMBOL} {f' and {SYMBOL} '.join(FILES)}.",
                field="symbol",
            )
        hourly = (HOURLY_NOTE,) if timeframe == "1h" else ()
        bars, _ = self._read(timeframe).bars(symbol, timeframe, reach)
        return LoadedBars(bars, self.name, [], (ORIGIN_NOTE, UNFINISHED_NOTE, *hourly))

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        """The hash that the sample's file must have."""
        return FILES[timeframe][1] if (symbol, timeframe) in self.series() else None

    def _read(self, timeframe: str) -> StoredSeries:
        """The sample's series, from the cache if its file has not changed."""
        name, sha256 = FILES[timeframe]
        try:
            with resources.as_file(resources.files(PACKAGE) / name) as path:
                state = FileState.of(path, path.stat())
                return self._cache.get(state, lambda: parse(path.read_bytes(), timeframe, sha256))
        except (OSError, ImportError) as error:
            raise altered(name) from error


def parse(data: bytes, timeframe: str, sha256: str) -> StoredSeries:
    """A sample's series without its last bar.

    Args:
        data: the file's bytes.
        timeframe: of the sample.
        sha256: what their hash must be.
    Raises:
        StorageError: it is another.
    """
    name = FILES[timeframe][0]
    if hashlib.sha256(data).hexdigest() != sha256:
        raise altered(name)
    table = read_csv(io.BytesIO(data), name)
    validate(table)
    finished = table.part(slice(0, -1))
    return StoredSeries(finished, np.zeros(len(finished.time), dtype=np.bool_), ())


def altered(name: str) -> StorageError:
    """The error for a sample that is missing or not the known one."""
    return StorageError(
        f"The built-in sample {name} is not the one this version was made with.",
        hint="Install mintalib==0.1.13 again, or put your own bars into the workspace's data/.",
        field="symbol",
    )
