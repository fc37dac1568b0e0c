"""The catalog of bars: which series there are, and the one way to read them.

AAPL, daily and hourly, comes with the program: real prices that the package mintalib carries.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Container, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources
from typing import Final, Protocol

import numpy as np

from ktrdr_mcp import paths
from ktrdr_mcp.data.bars import Bars, DayRule, LoadedBars, aggregate, is_whole_multiple
from ktrdr_mcp.data.files import NotRead, WorkspaceFiles
from ktrdr_mcp.data.series import BarCache, FileState, Reach, StoredSeries
from ktrdr_mcp.data.tables import read_csv
from ktrdr_mcp.data.timestamps import DAY_NS, format_timestamp, nanoseconds
from ktrdr_mcp.data.validation import validate
from ktrdr_mcp.data.versions import load_version
from ktrdr_mcp.errors import (
    DataNotFound,
    InvalidRequest,
    KtrdrError,
    NotEnoughData,
    StorageError,
    did_you_mean,
)

__all__ = ["BarCatalog", "BarReader", "LoadedBars", "SeriesSummary", "Source", "select_range"]

SERIES_NAMED: Final = 12
NOT_READ_NAMED: Final = 3
OWN_DAY: Final = "each day in the file's own offset"
OWN_MONDAY: Final = "each Monday in the file's own offset"
SAMPLE_SYMBOL: Final = "AAPL"
SAMPLES_PACKAGE: Final = "mintalib.samples"
SAMPLE_FILES: Final = {  # timeframe: file name, SHA-256 of its bytes
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


class Source(Protocol):
    """A place where bars lie. Any thread may ask it."""

    @property
    def name(self) -> str:
        """What the place is called, for example "workspace file"."""

    def series(self) -> set[tuple[str, str]]:
        """The symbol and timeframe of each series, without reading any."""

    def not_read(self) -> list[NotRead]:
        """The files that are meant to be series and are not read, without reading any."""

    def load(self, symbol: str, timeframe: str, reach: Reach | None = None) -> LoadedBars:
        """The checked bars of one of these series. Raises KtrdrError.

        Args:
            symbol: of the series.
            timeframe: of the series.
            reach: what the request rests on; every bar must be sound if it is None.
        """

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        """What changes when the bars of one of these series do; None if that is not known."""


class Samples:
    """The series that come with the program."""

    name = "built-in sample"

    def __init__(self, cache: BarCache) -> None:
        """The samples, read through a cache."""
        self._cache = cache

    def series(self) -> set[tuple[str, str]]:
        """The symbol and timeframe of each sample."""
        return {(SAMPLE_SYMBOL, timeframe) for timeframe in SAMPLE_FILES}

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
                hint=f"There are {SAMPLE_SYMBOL} {f' and {SAMPLE_SYMBOL} '.join(SAMPLE_FILES)}.",
                field="symbol",
            )
        hourly = (HOURLY_NOTE,) if timeframe == "1h" else ()
        bars, _ = self._read(timeframe).bars(symbol, timeframe, reach)
        return LoadedBars(bars, self.name, [], (ORIGIN_NOTE, UNFINISHED_NOTE, *hourly))

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        """The hash that the sample's file must have."""
        return SAMPLE_FILES[timeframe][1] if (symbol, timeframe) in self.series() else None

    def _read(self, timeframe: str) -> StoredSeries:
        """The sample's series, from the cache if its file has not changed."""
        name, sha256 = SAMPLE_FILES[timeframe]
        try:
            with resources.as_file(resources.files(SAMPLES_PACKAGE) / name) as path:
                state = FileState.of(path, path.stat())
                return self._cache.get(state, lambda: parse(path.read_bytes(), timeframe, sha256))
        except (OSError, ImportError) as error:
            raise altered_sample(name) from error


def parse(data: bytes, timeframe: str, sha256: str) -> StoredSeries:
    """A sample's series without its last bar.

    Args:
        data: the file's bytes.
        timeframe: of the sample.
        sha256: what their hash must be.
    Raises:
        StorageError: it is another.
    """
    name = SAMPLE_FILES[timeframe][0]
    if hashlib.sha256(data).hexdigest() != sha256:
        raise altered_sample(name)
    table = read_csv(io.BytesIO(data), name)
    validate(table)
    finished = table.part(slice(0, -1))
    return StoredSeries(finished, np.zeros(len(finished.time), dtype=np.bool_), ())


def altered_sample(name: str) -> StorageError:
    """The error for a sample that is missing or not the known one."""
    return StorageError(
        f"The built-in sample {name} is not the one this version was made with.",
        hint="Install mintalib==0.1.13 again, or put your own bars into the workspace's data/.",
        field="symbol",
    )


@dataclass(frozen=True)
class SeriesSummary:
    """One stored series.

    Args:
        symbol: what was traded.
        timeframe: the nominal width of a bar.
        bars: how many there are; 0 if they cannot be used.
        first_bar: opening of the first, UTC nanoseconds; None if they cannot be used.
        last_bar: opening of the last, likewise.
        source: where they lie.
        notes: what whoever uses them should know.
        defects: why they cannot be used, or None.
    """

    symbol: str
    timeframe: str
    bars: int
    first_bar: int | None
    last_bar: int | None
    source: str
    notes: list[str]
    defects: str | None


class BarReader(Protocol):
    """What a training asks of a catalog; see the methods of BarCatalog."""

    def load(
        self,
        symbol: str,
        timeframe: str,
        rule: DayRule = "file",
        reach: Reach | None = None,
        dataset: str | None = None,
    ) -> LoadedBars:
        """A series."""

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        """What changes when `load` would read something else."""


class BarCatalog:
    """All bars of a workspace: its own files first, then the built-in samples."""

    def __init__(self, workspace: paths.Workspace, sources: Sequence[Source] | None = None) -> None:
        """The sources of one workspace.

        Args:
            workspace: whose data folder is read.
            sources: in order of precedence; by default the workspace's files and the samples.
        """
        self._workspace = workspace
        cache = BarCache()
        default = (WorkspaceFiles(workspace, cache), Samples(cache))
        self._sources: tuple[Source, ...] = default if sources is None else tuple(sources)

    def load(
        self,
        symbol: str,
        timeframe: str,
        rule: DayRule = "file",
        reach: Reach | None = None,
        dataset: str | None = None,
    ) -> LoadedBars:
        """A series of the first source that has it: as stored, else from narrower bars.

        One source gives all timeframes that it can, so that those of a symbol fit together.

        Args:
            symbol: a symbol, in any case.
            timeframe: one of the known timeframes.
            rule: in which offset the days of wider bars begin.
            reach: what the request rests on; every bar must be sound if it is None.
            dataset: the stored timeframe and version to read, such as "1h v3"; the newest if None.
        Raises:
            InvalidName: a name is not well formed.
            DataNotFound: there is no such series; says what there is.
            DataInvalid: its bars contradict themselves.
        """
        symbol, timeframe = paths.symbol(symbol), paths.timeframe(timeframe)
        if dataset is not None:
            return self._load_version(symbol, timeframe, rule, dataset)
        for source in self._sources:
            origin = origin_of(symbol, timeframe, source.series())
            if origin is not None:
                bars = load_from(source, symbol, (timeframe, origin), rule, reach)
                passed_over = [one for one in self.not_read(symbol) if serves(one, timeframe)]
                return add_notes(bars, [str(one) for one in passed_over[:NOT_READ_NAMED]])
        raise self._not_found(symbol, timeframe)

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        """What changes when `load` would read something else; no file is opened.

        Args:
            symbol: of a series.
            timeframe: of a series.
        Returns:
            None if there is no such series, or its source does not know.
        """
        for source in self._sources:
            origin = origin_of(symbol, timeframe, source.series())
            if origin is not None:
                state = source.state_of(symbol, origin)
                return None if state is None else f"{source.name}, {origin}, {state}"
        return None

    def _load_version(self, symbol: str, timeframe: str, rule: DayRule, dataset: str) -> LoadedBars:
        """One version of a series, aggregated where it is stored in another timeframe."""
        stored, _, version = dataset.partition(" ")
        bars = load_version(self._workspace, symbol, paths.timeframe(stored), version)
        name = f"version {version} of {paths.series_in_file_name(symbol, stored)}"
        loaded = LoadedBars(bars, name, [], dataset=dataset)
        return loaded if stored == timeframe else aggregate_with_note(loaded, timeframe, rule)

    def not_read(self, symbol: str | None = None) -> list[NotRead]:
        """The files that are meant to be series and are not read.

        Args:
            symbol: only those of this symbol.
        """
        found = [one for source in self._sources for one in source.not_read()]
        return [one for one in found if symbol in {None, one.symbol}]

    def series(self) -> list[tuple[str, str]]:
        """Every stored series, by symbol and then by timeframe; no file is opened.

        Those of a later source that `load` would take from an earlier one are left out.
        """
        return [series for series, _ in self._list_sources()]

    def available(self, of: Container[tuple[str, str]] | None = None) -> list[SeriesSummary]:
        """The stored series, in the order of `series`; each is read and checked.

        Args:
            of: only these; every one by default.
        """
        chosen = [one for one in self._list_sources() if of is None or one[0] in of]
        return [summary(source, *series) for series, source in chosen]

    def _list_sources(self) -> Iterator[tuple[tuple[str, str], Source]]:
        """Each series with the source that it is read from, in the order of `series`."""
        owners: dict[tuple[str, str], Source] = {}
        for source in self._sources:
            earlier = set(owners)
            found = [one for one in source.series() if origin_of(*one, earlier) is None]
            owners |= dict.fromkeys(found, source)
        yield from sorted(owners.items(), key=lambda item: sorting_key(*item[0]))

    def what_there_is(self, symbol: str) -> str:
        """Which series there are, of a symbol if there are any."""
        stored = self.series()
        same = [series for series in stored if series[0] == symbol]
        listed = ", ".join(" ".join(series) for series in (same or stored)[:SERIES_NAMED])
        more = len(same or stored) - SERIES_NAMED
        there_is = f"{listed}{f' and {more} more' if more > 0 else ''}" if listed else "no data"
        return f"There is {there_is}."

    def no_bars(self, of: str, symbol: str) -> str:
        """That there are no bars of a symbol, and the symbol that may have been meant."""
        symbols = sorted({name for name, _ in self.series()})
        near = "" if symbol in symbols else did_you_mean(symbol, symbols)
        return f"There are no bars of {of}.{near}"

    def _not_found(self, symbol: str, timeframe: str) -> DataNotFound:
        """The error for a series that is not there."""
        same = any(name == symbol for name, _ in self.series())
        not_read = [str(one) for one in self.not_read(symbol)[:NOT_READ_NAMED]]
        file = f"data/{paths.series_in_file_name(symbol, timeframe)}.csv"
        other = [f"Or put {file} into the workspace."]
        return DataNotFound(
            self.no_bars(f"{symbol} {timeframe}", symbol),
            hint=" ".join([*not_read, self.what_there_is(symbol), *([] if not_read else other)]),
            field="timeframe" if same else "symbol",
        )


def sorting_key(symbol: str, timeframe: str) -> tuple[str, int]:
    """Symbols by name, timeframes by width."""
    return symbol, paths.TIMEFRAME_MINUTES[timeframe]


def origin_of(symbol: str, timeframe: str, stored: Set[tuple[str, str]]) -> str | None:
    """The stored timeframe that a series is read or aggregated from: the widest that will do.

    Args:
        symbol: of the series.
        timeframe: of the series.
        stored: symbol and timeframe of each stored series.
    """
    if (symbol, timeframe) in stored:
        return timeframe
    of_symbol = [found for name, found in stored if name == symbol]
    narrower = [found for found in of_symbol if is_whole_multiple(timeframe, found)]
    return max(narrower, key=paths.TIMEFRAME_MINUTES.__getitem__, default=None)


def serves(one: NotRead, timeframe: str) -> bool:
    """Whether bars of a timeframe could be read or made from a file, if it were read."""
    meant = one.timeframe
    return meant is not None and (
        origin_of(one.symbol, timeframe, {(one.symbol, meant)}) is not None
    )


def load_from(
    source: Source,
    symbol: str,
    timeframes: tuple[str, str],
    rule: DayRule,
    reach: Reach | None,
) -> LoadedBars:
    """A series of one source, aggregated where it is not stored.

    Args:
        source: the source.
        symbol: of the series.
        timeframes: the wanted one, and the stored one that it comes from.
        rule: in which offset the days of wider bars begin.
        reach: what the request rests on, in bars of the wanted timeframe.
    """
    wanted, origin = timeframes
    if wanted == origin:
        return source.load(symbol, origin, reach)
    if reach is not None:  # one wide bar more, because the first one may have been cut
        times = paths.TIMEFRAME_MINUTES[wanted] // paths.TIMEFRAME_MINUTES[origin]
        reach = replace(reach, before=(reach.before + 2) * times)
    return aggregate_with_note(source.load(symbol, origin, reach), wanted, rule)


def add_notes(loaded: LoadedBars, notes: list[str]) -> LoadedBars:
    """The same bars with more notes, in a list that the caller may add to."""
    return replace(loaded, notes=[*loaded.notes, *notes])


def aggregate_with_note(loaded: LoadedBars, timeframe: str, rule: DayRule = "file") -> LoadedBars:
    """Wider bars, with a note of how they were made.

    Raises:
        NotEnoughData: the stored bars do not fill a single one.
    """
    stored = loaded.bars
    bars = aggregate(stored, timeframe, rule)
    if not len(bars):
        raise NotEnoughData(
            f"The {len(stored)} stored {stored.timeframe} bars do not fill one {timeframe} bar.",
            hint=f"Use {stored.timeframe}, or store more bars.",
            field="timeframe",
        )
    utc = stored.offset is None or rule == "utc"
    day, monday = ("each UTC day", "each Monday, UTC") if utc else (OWN_DAY, OWN_MONDAY)
    begin = {"1d": day, "1w": monday}.get(timeframe, f"the first bar of {day}")
    note = (
        f"Aggregated to {timeframe} from {stored.timeframe}, beginning with {begin}; a last bar"
        " that the stored ones do not fill to its nominal end is left out."
    )
    return replace(loaded, bars=bars, notes=[*loaded.notes, note], stored=stored)


def summary(source: Source, symbol: str, timeframe: str) -> SeriesSummary:
    """One series of a source, defects included."""
    try:
        loaded = source.load(symbol, timeframe)
    except KtrdrError as error:
        return SeriesSummary(symbol, timeframe, 0, None, None, source.name, [], error.message)
    bars, notes = loaded.bars, [*loaded.standing, *loaded.notes]
    first, last = int(bars.time[0]), int(bars.time[-1])
    return SeriesSummary(symbol, timeframe, len(bars), first, last, loaded.source, notes, None)


def select_range(
    bars: Bars, start: datetime | int | None, end: datetime | int | None
) -> tuple[int, int, list[str]]:
    """The bars that open within a range, both ends included.

    Args:
        bars: the series.
        start: the earliest opening, as a datetime (UTC if it has no offset) or UTC nanoseconds;
            None for the first bar.
        end: the latest opening, likewise.
    Returns:
        index of the first bar, index behind the last, and sentences for a range that reaches
        beyond the stored bars.
    Raises:
        InvalidRequest: the range ends before it starts.
        NotEnoughData: no bar opens within it; says what there is.
    """
    earliest = None if start is None else nanoseconds(start)
    latest = None if end is None else nanoseconds(end)
    if earliest is not None and latest is not None and earliest > latest:
        raise InvalidRequest(
            f"The range ends at {format_timestamp(latest)}, before it starts at "
            f"{format_timestamp(earliest)}.",
            hint="Exchange start_date and end_date.",
            field="end_date",
        )
    first = 0 if earliest is None else int(np.searchsorted(bars.time, earliest, side="left"))
    stop = len(bars) if latest is None else int(np.searchsorted(bars.time, latest, side="right"))
    if first >= stop:
        raise NotEnoughData(
            f"No {bars.timeframe} bar of {bars.symbol} opens within the range.",
            hint=f"{stored_range(bars)} Choose a range inside.",
            field="start_date" if earliest is not None else "end_date",
        )
    return first, stop, range_warnings(bars, earliest, latest)


def range_warnings(bars: Bars, earliest: int | None, latest: int | None) -> list[str]:
    """A sentence for each end of the range that lies on a day beyond the stored bars."""
    warnings, shift, days = [], bars.local_time() - bars.time, bars.session_days()
    if earliest is not None and (earliest + int(shift[0])) // DAY_NS < int(days[0]):
        first = day_or_time(earliest, int(shift[0]))
        warnings.append(f"The range starts at {first}, before the first stored bar")
    if latest is not None and (latest + int(shift[-1])) // DAY_NS > int(days[-1]):
        last = day_or_time(latest, int(shift[-1]))
        warnings.append(f"The range ends at {last}, after the last stored bar")
    return [f"{warning}. {stored_range(bars)}" for warning in warnings]


def day_or_time(time_ns: int, shift_ns: int) -> str:
    """The session's day where a time is a day's first or last moment, else the time itself.

    Args:
        time_ns: nanoseconds since 1970, UTC.
        shift_ns: of the clock by which the series names its days.
    """
    local_ns = time_ns + shift_ns
    is_day = local_ns % DAY_NS in (0, DAY_NS - 1)
    return format_timestamp(local_ns)[:10] if is_day else format_timestamp(time_ns)


def stored_range(bars: Bars) -> str:
    """A sentence that says from when to when there are bars."""
    if not len(bars):
        return "No bars are stored."
    return f"Bars are stored from {bars.timestamp(0)} to {bars.timestamp(len(bars) - 1)}."
