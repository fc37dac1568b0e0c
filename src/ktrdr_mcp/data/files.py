"""The workspace's own bars: data/{SYMBOL}_{timeframe}.csv or .parquet."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from ktrdr_mcp import limits, paths
from ktrdr_mcp.data.bars import Bars, Integers, LoadedBars, width_ns
from ktrdr_mcp.data.cache import BarCache, FileState
from ktrdr_mcp.data.names import (
    SUFFIXES,
    NotRead,
    SeriesName,
    leads_outside,
    misspelt,
    series_name,
)
from ktrdr_mcp.data.parquet import read_parquet
from ktrdr_mcp.data.tables import BarTable, read_csv, unusable
from ktrdr_mcp.data.validation import checked_bars
from ktrdr_mcp.durable import storage_errors
from ktrdr_mcp.errors import DataNotFound, LimitExceeded

MEGABYTE_BYTES: Final = 1024**2
FEWEST_GAPS: Final = 4  # fewer may all be weekends
LARGEST_SHARE_AT_ONCE: Final = 0.1


class WorkspaceFiles:
    """The series that lie in the workspace's data folder."""

    name = "workspace file"

    def __init__(self, workspace: paths.Workspace, cache: BarCache) -> None:
        """The files of one workspace."""
        self._workspace = workspace
        self._cache = cache

    def series(self) -> set[tuple[str, str]]:
        """The symbol and timeframe of each file whose name says both; no file is opened."""
        return {
            meant.series
            for entry, meant in self._listed()
            if entry.name == meant.file and not self._leads_outside(entry, meant)
        }

    def not_read(self) -> list[NotRead]:
        """The files that are meant to be series and are not read, by name; none is opened."""
        listed = self._listed()
        names = {entry.name for entry, _ in listed}
        found = []
        for entry, meant in listed:
            if entry.name != meant.file:
                found.append(misspelt(entry.name, meant, meant.file in names))
            elif self._leads_outside(entry, meant):
                found.append(leads_outside(entry.name, meant))
        return sorted(found, key=lambda one: one.name)

    def _listed(self) -> list[tuple[os.DirEntry[str], SeriesName]]:
        """Each file whose name means a series."""
        if not self._workspace.data.is_dir():
            return []
        with storage_errors("listing data"), os.scandir(self._workspace.data) as entries:
            named = [(entry, series_name(entry.name)) for entry in entries]
        return [(entry, meant) for entry, meant in named if meant is not None]

    def _leads_outside(self, entry: os.DirEntry[str], meant: SeriesName) -> bool:
        """Whether it is a link that is not followed."""
        # Only links are resolved: the listing tells them from other files at no cost.
        return entry.is_symlink() and self._resolved(*meant.series, meant.suffix) is None

    def _resolved(self, symbol: str, timeframe: str, suffix: str) -> Path | None:
        """The file itself, symbolic links followed; nothing if it is absent or lies outside."""
        path = self._workspace.data_file(symbol, timeframe, suffix)
        real = Path(os.path.realpath(path))
        folder = Path(os.path.realpath(self._workspace.data))
        return real if real.is_relative_to(folder) and os.path.lexists(real) else None

    def load(self, symbol: str, timeframe: str) -> LoadedBars:
        """The checked bars of one file.

        Args:
            symbol: well formed.
            timeframe: a known one.
        Raises:
            DataNotFound: there is no such file inside the data folder.
            DataInvalid: it is no table of bars, or they contradict themselves.
            LimitExceeded: it is larger than what is read.
            StorageError: the file system failed.
        """
        found = {suffix: self._resolved(symbol, timeframe, suffix) for suffix in SUFFIXES}
        present = [(suffix, path) for suffix, path in found.items() if path is not None]
        if not present:
            raise DataNotFound(
                f"There is no file of {symbol} {timeframe}.",
                hint=f"Put it into data/{symbol}_{timeframe}.csv.",
                field="symbol",
            )
        suffix, path = present[0]
        name = f"{symbol}_{timeframe}{suffix}"
        bars = self._read(path, name, symbol, timeframe)
        notes = spacing_notes(bars)
        if len(present) > 1:
            notes.append(f"{symbol}_{timeframe}{present[1][0]} is not read: {name} comes first.")
        return LoadedBars(bars, f"{self.name} {name}", notes)

    def _read(self, path: Path, name: str, symbol: str, timeframe: str) -> Bars:
        """The file's bars, from the cache if it has not changed."""
        with storage_errors(f"reading {name}"), opened(path, name) as (file, status):

            def read() -> Bars:
                table = read_table(file, name)
                if FileState.of(path, os.fstat(file.fileno())) != state:
                    raise unusable(name, "was changed while it was being read", "Try again.")
                return checked_bars(table, symbol, timeframe)

            state = FileState.of(path, status)
            return self._cache.get(state, read)


@contextmanager
def opened(path: Path, name: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Opens a regular file of bounded size, without ever waiting for one that is not regular.

    Args:
        path: the file, symbolic links already followed.
        name: the file, as messages call it.
    Raises:
        DataInvalid: it is not a regular file.
        LimitExceeded: it is too large.
    """
    flags = os.O_RDONLY
    for flag in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):  # not all exist everywhere
        flags |= getattr(os, flag, 0)
    descriptor = os.open(path, flags)
    with open_descriptor(descriptor, name) as file:
        status = os.fstat(descriptor)
        if status.st_size > limits.MAX_DATA_FILE_BYTES:
            size, most = status.st_size, limits.MAX_DATA_FILE_BYTES
            raise LimitExceeded(
                f"{name} has {size // MEGABYTE_BYTES:,} MiB; at most "
                f"{most // MEGABYTE_BYTES:,} MiB are read.",
                hint="Keep fewer bars, or a wider timeframe.",
                field="symbol",
            )
        yield file, status


def open_descriptor(descriptor: int, name: str) -> BinaryIO:
    """A descriptor as a binary file, closed again if it is not a regular one."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise unusable(name, "is not a regular file", "Replace it by a file of bars, or remove it.")


def read_table(file: BinaryIO, name: str) -> BarTable:
    """The file's table, by the ending of its name."""
    return read_parquet(file, name) if name.endswith(".parquet") else read_csv(file, name)


def spacing_notes(bars: Bars) -> list[str]:
    """A note if the bars lie closer together or further apart than their file's name says."""
    if len(bars) < 2:
        return []
    gaps, width = np.diff(bars.time), width_ns(bars.timeframe)
    usual_ns = int(np.median(gaps))
    apart = f"The bars are usually {usual_ns / width_ns('1m'):g} minutes apart, which"
    if usual_ns < width:
        return [f"{apart} is less than {bars.timeframe}."]
    if usual_ns == width or usual_ns % width or not is_wider(gaps, width):
        return []
    alike = next((name for name in paths.TIMEFRAME_MINUTES if width_ns(name) == usual_ns), None)
    if alike is None:
        return [f"{apart} is more than {bars.timeframe}."]
    rename = f"if so, rename the file to {bars.symbol}_{alike}"
    return [f"{apart} looks like {alike}, not {bars.timeframe}: {rename}."]


def is_wider(gaps: Integers, width: int) -> bool:
    """Whether hardly any two bars follow one another at once, as they do within a trading day."""
    return len(gaps) >= FEWEST_GAPS and bool(np.mean(gaps <= width) < LARGEST_SHARE_AT_ONCE)
