"""The workspace's own bars: data/{SYMBOL}_{timeframe}.csv or .parquet."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from ktrdr_mcp import limits, paths
from ktrdr_mcp.data.bars import LoadedBars
from ktrdr_mcp.data.cache import BarCache, FileState
from ktrdr_mcp.data.series import Reach, StoredSeries
from ktrdr_mcp.data.tables import unusable
from ktrdr_mcp.errors import DataNotFound, InvalidName, LimitExceeded, shown
from ktrdr_mcp.files import storage_errors

SUFFIXES: Final = (".csv", ".parquet")  # where both exist, the first is read
MONTH: Final = "1M"  # what others call a month; 1m is a minute


@dataclass(frozen=True)
class SeriesName:
    """What a file's name says.

    Args:
        symbol: in upper case.
        timeframe: a known one.
        suffix: one of SUFFIXES.
    """

    symbol: str
    timeframe: str
    suffix: str

    @property
    def series(self) -> tuple[str, str]:
        """Symbol and timeframe."""
        return self.symbol, self.timeframe

    @property
    def file(self) -> str:
        """The only name under which the series is read."""
        return f"{self.symbol}_{self.timeframe}{self.suffix}"


@dataclass(frozen=True)
class NotRead:
    """A file of the data folder that is meant to be a series and is not read.

    Args:
        name: the file's name, as it stands there.
        meant: the series that it is meant to be.
        why: what keeps it from being read, as words that follow "it is not read: ".
        remedy: a sentence that says what to do.
    """

    name: str
    meant: SeriesName
    why: str
    remedy: str

    def __str__(self) -> str:
        """Both as one text."""
        return f"data/ has {shown(self.name)}, which is not read: {self.why}. {self.remedy}"


def series_name(name: str) -> SeriesName | None:
    """The series that a file's name means, whether or not its letters have the right case."""
    path = PurePath(name)
    symbol, _, timeframe = path.stem.rpartition("_")
    suffix = path.suffix.lower()
    known = timeframe.lower() in paths.TIMEFRAME_MINUTES and timeframe != MONTH
    if suffix not in SUFFIXES or not known:
        return None
    try:
        return SeriesName(paths.symbol(symbol), timeframe.lower(), suffix)
    except InvalidName:
        return None


def misspelt(name: str, meant: SeriesName, is_taken: bool) -> NotRead:
    """A file whose letters have the wrong case.

    Args:
        name: the file's name.
        meant: the series.
        is_taken: whether another file has the right name already.
    """
    why = f"only {meant.file} is, with exactly these upper and lower case letters"
    rename = f"Rename it to {meant.file}."
    taken = f"{meant.file} is there too: keep the one that you want under that name."
    return NotRead(name, meant, why, taken if is_taken else rename)


def leads_outside(name: str, meant: SeriesName) -> NotRead:
    """A symbolic link that is not followed. Whether anything lies at its end is not told."""
    why = "it is a link that leads to no file inside data/"
    return NotRead(name, meant, why, "Put a copy of the file there instead of the link.")


MEGABYTE_BYTES: Final = 1024**2


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

    def load(self, symbol: str, timeframe: str, reach: Reach | None = None) -> LoadedBars:
        """The checked bars of one file.

        Args:
            symbol: well formed.
            timeframe: a known one.
            reach: what the request rests on; every bar must be sound if it is None.
        Raises:
            DataNotFound: there is no such file inside the data folder.
            DataInvalid: it is no table of bars, or bars within reach contradict themselves.
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
        series = read_file(path, name, symbol, timeframe, self._cache)
        bars, notes = series.bars(symbol, timeframe, reach)
        if len(present) > 1:
            notes.append(f"{symbol}_{timeframe}{present[1][0]} is not read: {name} comes first.")
        return LoadedBars(bars, f"{self.name} {name}", notes)

    def size_bytes(self, symbol: str, timeframe: str) -> int:
        """The size of the file of one of these series; 0 where there is none."""
        for suffix in SUFFIXES:
            path = self._resolved(symbol, timeframe, suffix)
            if path is not None:
                with storage_errors("listing data"):
                    return path.stat().st_size
        return 0


def read_file(
    path: Path, name: str, symbol: str, timeframe: str, cache: BarCache | None = None
) -> StoredSeries:
    """The series of one file, from the cache if it has not changed.

    Args:
        path: the file, symbolic links already followed.
        name: the file, as messages call it.
        symbol: what was traded.
        timeframe: the nominal width of a bar.
        cache: where it may be kept.
    Raises:
        DataInvalid: it is no table of bars, or its times are not in order.
        LimitExceeded: it is larger than what is read.
        StorageError: the file system failed.
    """
    from ktrdr_mcp.data.reader import READER

    with storage_errors(f"reading {name}"), open_regular(path, name) as (_, status):
        state = FileState.of(path, status)

    def read() -> StoredSeries:
        return READER.read(state, name, symbol, timeframe)

    return read() if cache is None else cache.get(state, read)


@contextmanager
def open_regular(path: Path, name: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
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
