"""What there is to work with: series, symbols and strategies by name."""

from __future__ import annotations

from ktrdr_mcp.contract import requests, responses
from ktrdr_mcp.data import sources as data
from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.paths import TIMEFRAME_MINUTES
from ktrdr_mcp.strategy import StrategyLibrary


def data_summary(
    sources: data.BarSources, request: requests.SummarizeData
) -> responses.DataSummary:
    """A page of the series that there are, and the first files that are passed over.

    Only the files of the page are read: each Parquet file costs the start of a process.

    Args:
        sources: where bars come from.
        request: which symbol and which page.
    """
    chosen = [one for one in sources.series() if request.symbol in {None, one[0]}]
    stop = request.offset + request.limit
    page = [series_summary(one) for one in sources.available(chosen[request.offset : stop])]
    return responses.DataSummary(
        series=page,
        returned=len(page),
        has_more=len(chosen) > stop,
        not_read=not_read(sources, request.symbol),
    )


def not_read(sources: data.BarSources, symbol: str | None) -> list[str]:
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
        first_bar=None if series.first_bar is None else moment_text(series.first_bar),
        last_bar=None if series.last_bar is None else moment_text(series.last_bar),
        source=series.source,
        notes=series.notes,
        defects=series.defects,
    )


def completions(
    kind: str, prefix: str, sources: data.BarSources, strategies: StrategyLibrary
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
