"""Listing and checking of bars and strategies, and completion of names."""

from __future__ import annotations

import os
from pathlib import Path

from ktrdr_mcp import paths
from ktrdr_mcp.data import catalog as data
from ktrdr_mcp.data.calendars import session_notes
from ktrdr_mcp.data.files import SUFFIXES, read_file, series_name
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import InvalidRequest, LimitExceeded, NotEnoughData, NotFound, quote
from ktrdr_mcp.evaluation.description import MIN_BARS, describe
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.limits import MAX_BAR_ROWS, MAX_STRATEGY_BYTES
from ktrdr_mcp.paths import TIMEFRAME_MINUTES
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.store.research import StoredLook
from ktrdr_mcp.strategy.catalog import StrategyCatalog, decode
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training.look import first_rows, look_at
from ktrdr_mcp.training.prepare import grams_until
from ktrdr_mcp.training.strategies import check_strategy


def data_summary(
    sources: data.BarCatalog, request: requests.SummarizeData
) -> responses.DataSummary:
    """A page of the series that there are, and the first files that are passed over.

    Only the files of the page are read: each Parquet file costs the start of a process.

    Args:
        sources: where bars come from.
        request: which symbol and which page.
    """
    chosen = [
        one
        for one in sources.series()
        if request.symbol in {None, one[0]} and request.timeframe in {None, one[1]}
    ]
    stop = request.offset + request.limit
    note = None
    if request.symbol is not None and not chosen:
        missing = sources.no_bars(request.symbol, request.symbol)
        note = f"{missing} {sources.what_there_is(request.symbol)}"
    page = [series_summary(one) for one in sources.available(chosen[request.offset : stop])]
    return responses.DataSummary(
        series=page,
        returned=len(page),
        has_more=len(chosen) > stop,
        not_read=not_read(sources, request.symbol),
        note=note,
    )


def read_bars(sources: data.BarCatalog, request: requests.ReadBars) -> responses.BarRows:
    """The bars of a series that open within a range.

    Raises:
        KtrdrError: there is no such series, it has none there, or too many for one reply.
    """
    loaded = sources.load(request.symbol, request.timeframe)
    bars, (start, end) = loaded.bars, (request.start_date, request.end_date)
    first, stop, warnings = data.select_range(
        bars,
        None if start is None else bars.bound(start, "start_date", end_of_day=False),
        None if end is None else bars.bound(end, "end_date", end_of_day=True),
    )
    if stop - first > MAX_BAR_ROWS:
        raise LimitExceeded(
            f"The range has {stop - first:,} bars, more than the {MAX_BAR_ROWS:,} of one reply.",
            hint="Ask for a shorter range with start_date and end_date.",
            field="start_date",
        )
    part = bars.slice(first, stop)
    rows = zip(*(column.tolist() for column in part.columns()), strict=True)
    return responses.BarRows(
        symbol=bars.symbol,
        timeframe=bars.timeframe,
        dates=part.times(),
        ohlcv=list(rows),
        source=loaded.source,
        notes=[*warnings, *loaded.notes],
    )


def describe_series(
    sources: data.BarCatalog, symbol: str, timeframe: str
) -> tuple[responses.SeriesDescription, StoredLook]:
    """What a series looks like before every default test window, and what was looked at.

    Raises:
        KtrdrError: there is no such series, or it is too short.
    """
    loaded = sources.load(symbol, timeframe)
    bars = loaded.bars
    shown = bars.slice(0, first_rows(len(bars)))
    if len(shown) < MIN_BARS:
        raise NotEnoughData(
            f"Only {len(shown)} of {len(bars)} bars come before the test windows; a description"
            f" needs {MIN_BARS}.",
            hint="Leave timeframe out to see the range, or use a longer series.",
            field="symbol",
        )
    return describe(shown, len(bars)), look_at(shown, grams_until(loaded, shown))


def not_read(sources: data.BarCatalog, symbol: str | None) -> list[str]:
    """A sentence or two on each of the first files that are passed over, and how many follow."""
    found = [str(one) for one in sources.not_read(symbol)]
    others = len(found) - data.NOT_READ_NAMED
    more = [f"{others} more of data/ not read; ktrdr-mcp doctor names them all."]
    return [*found[: data.NOT_READ_NAMED], *(more if others > 0 else [])]


def series_summary(series: data.SeriesSummary) -> responses.SeriesSummary:
    """One series as it is told."""
    return responses.SeriesSummary(
        symbol=series.symbol,
        timeframe=series.timeframe,
        bars=series.bars,
        first_bar=None if series.first_bar is None else format_timestamp(series.first_bar),
        last_bar=None if series.last_bar is None else format_timestamp(series.last_bar),
        source=series.source,
        notes=series.notes,
        defects=series.defects,
    )


def completions(
    kind: str, prefix: str, sources: data.BarCatalog, strategies: StrategyCatalog
) -> list[str]:
    """Known names that begin with the prefix, sorted.

    Args:
        kind: symbol, timeframe or strategy.
        prefix: what was typed so far.
        sources: where bars come from.
        strategies: where strategies come from.
    """
    if kind == "symbol":
        names = {symbol for symbol, _ in sources.series()}
        prefix = prefix.upper()
    elif kind == "strategy":
        names = set(strategies.names())
    else:
        names = set(TIMEFRAME_MINUTES) if kind == "timeframe" else set()
    return sorted(name for name in names if name.startswith(prefix))


def check_bars(path: Path, calendar: str | None = None) -> responses.SeriesSummary:
    """What a file of bars holds.

    Args:
        path: a .csv or .parquet file; its name need not say symbol and timeframe.
        calendar: an exchange whose sessions are looked for, such as XNYS.
    Returns:
        its summary; symbol and timeframe are empty if its name does not say them.
    Raises:
        KtrdrError: there is no such file, or it cannot be used as it stands.
    """
    require_file(path)
    name = quote(path.name).strip("'\"")
    if path.suffix not in SUFFIXES:
        raise InvalidRequest(
            f"{name} is no file of bars by its name.",
            hint=f"Bars are read from files that end in {' or '.join(SUFFIXES)}.",
        )
    symbol, timeframe = series_of(path.name)
    said = name if name[0].isalnum() else f"File {name}"
    series = read_file(Path(os.path.realpath(path)), said, symbol, timeframe)
    bars, notes = series.bars(symbol, timeframe, None)
    if calendar is not None:
        notes = [*notes, *session_notes(bars, calendar)]
    return responses.SeriesSummary(
        symbol=symbol,
        timeframe=timeframe,
        bars=len(bars),
        first_bar=bars.timestamp(0),
        last_bar=bars.timestamp(len(bars) - 1),
        source=name,
        notes=notes if symbol else [*notes, suggest_name(path)],
        defects=None,
    )


def series_of(name: str) -> tuple[str, str]:
    """The symbol and timeframe that a file's name says, or two empty texts."""
    meant = series_name(name)
    return meant.series if meant is not None and meant.file == name else ("", "")


def suggest_name(path: Path) -> str:
    """What a file must be called to be found."""
    meant = series_name(path.name)
    called = f"SYMBOL_TIMEFRAME{path.suffix}" if meant is None else meant.file
    return f"To be found, it must lie in data/ and be called {called}."


def check_strategy_file(path: Path) -> Strategy:
    """The strategy of a file, once everything that it names is known.

    Raises:
        KtrdrError: there is no such file, or it could not be trained as it stands.
    """
    require_file(path)
    name = paths.strategy_name(path.stem)
    with storage_errors(f"reading strategy {name}"), path.open("rb") as file:
        data = file.read(MAX_STRATEGY_BYTES + 1)
    return check_strategy(decode(data, name), name)


def require_file(path: Path) -> None:
    """Raises NotFound unless there is a regular file."""
    name = quote(path.name or str(path))
    with storage_errors(f"looking for {name}"):
        found, is_file = path.exists(), path.is_file()
    if not is_file:
        raise NotFound(
            f"{name} is not a regular file." if found else f"There is no file {name}.",
            hint="Name a file that exists.",
        )
