"""The workspace's own bars: data/{SYMBOL}_{timeframe}.csv or .parquet."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Final
from urllib.parse import unquote

from ktrdr_mcp import limits, paths
from ktrdr_mcp.data.bars import Bars, LoadedBars, aggregate, is_whole_multiple, width_ns
from ktrdr_mcp.data.series import BarCache, FileState, Reach, StoredSeries
from ktrdr_mcp.data.tables import unusable
from ktrdr_mcp.errors import DataNotFound, InvalidName, KtrdrError, LimitExceeded, quote
from ktrdr_mcp.files import storage_errors

SUFFIXES: Final = (".csv", ".parquet")  # where both exist, the first is read
ORIGIN_SUFFIX: Final = ".origin.json"  # of what is known of an imported or fetched series
MONTH: Final = "1M"  # what others call a month; 1m is a minute
PACKED: Final = {".gz", ".zip", ".bz2", ".xz", ".zst", ".7z"}
TABLES: Final = {
    *(".csv", ".tsv", ".txt", ".parquet", ".pq", ".feather", ".arrow", ".json", ".jsonl"),
    *(".xlsx", ".xls", ".orc", ".h5", ".hdf5", ".pkl"),
}
COPY_MARK: Final = re.compile(r"(?: ?\(\d+\)| - Copy| copy)$")
NAME_WITH_TIMEFRAME: Final = re.compile(r"(?P<symbol>.+?)[ _.,-]+(?P<timeframe>[A-Za-z0-9]+)")
WORD_END: Final = re.compile(r"[ _,]")
UNIT_MINUTES: Final = {"m": 1, "h": 60, "d": 1_440, "w": 10_080}
TIMEFRAME_WORDS: Final = {
    "minute": "1m", "hourly": "1h", "hour": "1h", "daily": "1d", "day": "1d", "weekly": "1w",
    "week": "1w",
}  # fmt: skip
TIMEFRAME_WORD: Final = re.compile(
    r"(?P<before>\d{1,5})(?P<unit>m|min|mins|minute|minutes|h|hr|hour|hours|d|day|days|w|wk|week)"
    r"|(?P<letter>[mhdw])(?P<after>\d{1,5})"
)
HIDES: Final = 1.5  # times as many bars, from which on a finer file is spoken of
SESSION_SHARE: Final = 0.25  # of the bars that a day could have, those that a session has


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
        return f"{paths.series_in_file_name(*self.series)}{self.suffix}"


@dataclass(frozen=True)
class NotRead:
    """A file of the data folder that is meant to be a series and is not read.

    Args:
        name: the file's name, as it stands there.
        symbol: of the series that it is meant to be.
        timeframe: likewise; None if the name says none that is known.
        why: what keeps it from being read, as words that follow "it is not read: ".
        remedy: a sentence that says what to do.
    """

    name: str
    symbol: str
    timeframe: str | None
    why: str
    remedy: str

    def __str__(self) -> str:
        """Both as one text."""
        return f"data/ has {quote(self.name)}, which is not read: {self.why}. {self.remedy}"


def series_name(name: str) -> SeriesName | None:
    """The series that a file's name means, whether or not its letters have the right case."""
    path = PurePath(name)
    symbol, _, timeframe = path.stem.rpartition("_")
    suffix = path.suffix.lower()
    known = timeframe.lower() in paths.TIMEFRAME_MINUTES and timeframe != MONTH
    if suffix not in SUFFIXES or not known:
        return None
    try:
        return SeriesName(paths.symbol_of_file_name(symbol), timeframe.lower(), suffix)
    except InvalidName:
        return None


def near_miss(name: str, taken: Container[str]) -> NotRead | None:
    """A file that looks like a series and is not named as one; None if it does not look so.

    Args:
        name: the file's name.
        taken: names of the files that are there.
    """
    meant = series_name(name)
    if meant is not None and meant.file == name:
        return None
    if meant is not None:
        why = f"only {meant.file} is, with exactly these upper and lower case letters"
        return misnamed_file(
            name, *meant.series, why, (f"Rename it to {meant.file}", meant.file), taken
        )
    if (stranger := of_no_symbol(name, taken)) is not None:
        return stranger
    parts = None if name.endswith(ORIGIN_SUFFIX) else name_parts(name)
    if parts is None:
        return None
    symbol, timeframe, suffixes = parts
    stem = f"{paths.symbol_in_file_name(symbol)}_{timeframe or 'TIMEFRAME'}"
    right = f"{stem}{suffixes[0] if suffixes[0] in SUFFIXES else '.csv'}"
    known = "" if timeframe else f", where TIMEFRAME is one of {', '.join(paths.TIMEFRAME_MINUTES)}"
    why = f"bars are read from {right}"
    if suffixes[-1] in SUFFIXES:
        remedy = f"Rename it to {right}{known}"
    else:
        remedy = f"Import it: {import_command(name, symbol, timeframe)}{known}"
    return misnamed_file(name, symbol, timeframe, why, (remedy, right), taken)


def of_no_symbol(name: str, taken: Container[str]) -> NotRead | None:
    """A file that has a timeframe, and before it what is no symbol; None for any other."""
    path = PurePath(name)
    text, _, timeframe = path.stem.rpartition("_")
    suffix = path.suffix.lower()
    usable = re.sub(r"[^A-Z0-9.=^/:]+", "-", unquote(text).upper()).strip("-")
    if suffix not in SUFFIXES or timeframe not in paths.TIMEFRAME_MINUTES:
        return None
    try:
        symbol = paths.symbol(usable)
    except InvalidName:
        return None
    why = f"{quote(text)} is no symbol: it has letters, digits, . = ^ -, and %2F for /, %3A for :"
    right = f"{paths.symbol_in_file_name(symbol)}_{timeframe}{suffix}"
    return misnamed_file(name, symbol, timeframe, why, (f"Rename it to {right}", right), taken)


def import_command(name: str, symbol: str, timeframe: str | None) -> str:
    """The command that imports a file of the data folder."""
    width = f" --timeframe {timeframe}" if timeframe else ""
    return f"ktrdr-mcp data import {shlex.quote(f'data/{name}')} --symbol {symbol}{width}"


def misnamed_file(
    name: str,
    symbol: str,
    timeframe: str | None,
    why: str,
    remedy: tuple[str, str],
    taken: Container[str],
) -> NotRead:
    """A file under another name than its series', and what to do unless that one is there too."""
    do, right = remedy
    there = f"{right} is there too: keep the one that you want under that name"
    return NotRead(name, symbol, timeframe, why, f"{there if right in taken else do}.")


def name_parts(name: str) -> tuple[str, str | None, list[str]] | None:
    """The symbol, the timeframe and the endings that a file's name means in words of other tools.

    Returns:
        the endings as in [".csv", ".gz"], all in lower case; None if it is no table by its name.
    """
    stem, suffixes = name, list[str]()
    while (suffix := PurePath(stem).suffix.lower()) in TABLES | PACKED:
        stem, suffixes = stem[: -len(suffix)], [suffix, *suffixes]
    stem = COPY_MARK.sub("", stem)
    match = NAME_WITH_TIMEFRAME.fullmatch(stem)
    timeframe = None if match is None else timeframe_of(match["timeframe"])
    if match is not None and timeframe is not None:
        symbol = match["symbol"]
    else:
        symbol = WORD_END.split(stem, maxsplit=1)[0]
    if not suffixes or stem.startswith(".") or (suffixes == [".txt"] and timeframe is None):
        return None
    try:
        return paths.symbol(unquote(symbol)), timeframe, suffixes
    except InvalidName:
        return None


def timeframe_of(word: str) -> str | None:
    """The timeframe that a word of other tools means: "60m", "H1", "1hour", "daily", ..."""
    if word.endswith(MONTH):
        return None
    match = TIMEFRAME_WORD.fullmatch(word.lower())
    if word.lower() in TIMEFRAME_WORDS:
        return TIMEFRAME_WORDS[word.lower()]
    if match is None:
        return None
    count = int(match["before"] or match["after"] or 0)
    minutes = count * UNIT_MINUTES[(match["unit"] or match["letter"])[0]]
    names = (name for name, width in paths.TIMEFRAME_MINUTES.items() if width == minutes)
    return next(names, None)


def leads_outside(name: str, meant: SeriesName) -> NotRead:
    """A symbolic link that is not followed. Whether anything lies at its end is not told."""
    why = "it is a link that leads to no file inside data/"
    remedy = "Put a copy of the file there instead of the link."
    return NotRead(name, *meant.series, why, remedy)


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
            for entry, meant in self._list_files()
            if entry.name == meant.file and not self._leads_outside(entry, meant)
        }

    def not_read(self) -> list[NotRead]:
        """The files that are meant to be series and are not read, by name; none is opened."""
        names = {entry.name for entry in self._entries()}
        found = [near_miss(name, names) for name in names if not name.startswith("README")]
        outside = [
            leads_outside(entry.name, meant)
            for entry, meant in self._list_files()
            if entry.name == meant.file and self._leads_outside(entry, meant)
        ]
        return sorted([*filter(None, found), *outside], key=lambda one: one.name)

    def _entries(self) -> list[os.DirEntry[str]]:
        """Everything in the data folder."""
        if not self._workspace.data.is_dir():
            return []
        with storage_errors("listing data"), os.scandir(self._workspace.data) as entries:
            return list(entries)

    def _list_files(self) -> list[tuple[os.DirEntry[str], SeriesName]]:
        """Each file whose name means a series."""
        named = [(entry, series_name(entry.name)) for entry in self._entries()]
        return [(entry, meant) for entry, meant in named if meant is not None]

    def _leads_outside(self, entry: os.DirEntry[str], meant: SeriesName) -> bool:
        """Whether it is a link that is not followed."""
        # Only links are resolved: the listing tells them from other files at no cost.
        return entry.is_symlink() and self._resolve(*meant.series, meant.suffix) is None

    def _resolve(self, symbol: str, timeframe: str, suffix: str) -> Path | None:
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
        stem = paths.series_in_file_name(symbol, timeframe)
        found = {suffix: self._resolve(symbol, timeframe, suffix) for suffix in SUFFIXES}
        present = [(suffix, path) for suffix, path in found.items() if path is not None]
        if not present:
            raise DataNotFound(
                f"There is no file of {symbol} {timeframe}.",
                hint=f"Put it into data/{stem}.csv.",
                field="symbol",
            )
        suffix, path = present[0]
        name = f"{stem}{suffix}"
        written = self._list_written(symbol, timeframe) if suffix == ".parquet" else frozenset()
        series = read_file(path, name, symbol, timeframe, self._cache, written)
        bars, notes = series.bars(symbol, timeframe, reach)
        if len(present) > 1:
            notes.append(f"{stem}{present[1][0]} is not read: {name} comes first.")
        notes += self._hidden(path, bars)
        version = None if suffix != ".parquet" else self._version(symbol, timeframe)
        return LoadedBars(bars, f"{self.name} {name}", notes, dataset=version)

    def _list_written(self, symbol: str, timeframe: str) -> frozenset[str]:
        """The SHA-256 of each file of this series that this program wrote."""
        from ktrdr_mcp.data.versions import written_files

        return written_files(self._workspace, symbol, timeframe)

    def _version(self, symbol: str, timeframe: str) -> str | None:
        """The version that a file is, with its timeframe, as "1h v3"."""
        from ktrdr_mcp.data.versions import version_of_file

        found = version_of_file(self._workspace, symbol, timeframe)
        return None if found is None else f"{timeframe} {found}"

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        """The state of the file that `load` would read; None if there is none."""
        for suffix in SUFFIXES:
            if (path := self._resolve(symbol, timeframe, suffix)) is not None:
                with storage_errors("listing data"):
                    return str(FileState.of(path, path.stat()))
        return None

    def _hidden(self, path: Path, bars: Bars) -> list[str]:
        """A note if a file of a finer timeframe would give more bars than this one has."""
        width = width_ns(bars.timeframe)
        for fine in sorted(self._finer(bars), key=width_ns, reverse=True):
            other = next(
                one for suffix in SUFFIXES if (one := self._resolve(bars.symbol, fine, suffix))
            )
            with storage_errors("listing data"):
                per_bar = path.stat().st_size / len(bars)
                most = other.stat().st_size / per_bar * width_ns(fine) / width / SESSION_SHARE
            if most <= HIDES * len(bars):
                continue  # too small to hide more, and not worth reading
            name = f"{paths.series_in_file_name(bars.symbol, fine)}{other.suffix}"
            try:
                series = read_file(other, name, bars.symbol, fine, self._cache)
                finer, _ = series.bars(bars.symbol, fine, None)
            except KtrdrError:
                continue  # it would not serve
            made = len(aggregate(finer, bars.timeframe))
            if made > HIDES * len(bars):
                begin, end = finer.day(0), finer.day(len(finer) - 1)
                text = (
                    f"{name} would give {made:,} {bars.timeframe} bars, from {begin} to {end};"
                    f" {path.name}, which comes first, has {len(bars):,}. To use the others, move"
                    " it out of data/."
                )
                return [text]
        return []

    def _finer(self, bars: Bars) -> list[str]:
        """The stored timeframes from which such bars could be made."""
        stored = [timeframe for symbol, timeframe in self.series() if symbol == bars.symbol]
        return [one for one in stored if is_whole_multiple(bars.timeframe, one)]


def read_file(
    path: Path,
    name: str,
    symbol: str,
    timeframe: str,
    cache: BarCache | None = None,
    written: Collection[str] = (),
) -> StoredSeries:
    """The series of one file, from the cache if it has not changed.

    Args:
        path: the file, symbolic links already followed.
        name: the file, as messages call it.
        symbol: what was traded.
        timeframe: the nominal width of a bar.
        cache: where it may be kept.
        written: the SHA-256 of files that this program wrote, which are decoded in this process.
    Raises:
        DataInvalid: it is no table of bars, or its times are not in order.
        LimitExceeded: it is larger than what is read.
        StorageError: the file system failed.
    """
    from ktrdr_mcp.data.reader import READERS

    with storage_errors(f"reading {name}"), open_regular(path, name) as (_, status):
        state = FileState.of(path, status)

    def read() -> StoredSeries:
        if written:
            from ktrdr_mcp.data.stored import read_own

            with storage_errors(f"reading {name}"), open_regular(path, name) as (file, opened):
                found = read_own(file, name, written)
            if found is not None and FileState.of(path, opened) == state:
                return found
        return READERS.read(state, name, symbol, timeframe)

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
