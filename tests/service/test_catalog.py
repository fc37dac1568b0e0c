"""The catalog of bars reads no more than it tells of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars, LoadedBars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.files import NotRead
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service import data
from ktrdr_mcp.strategy.catalog import StrategyCatalog


class CountingSource:
    """Three symbols with two series each, and a list of those that were read."""

    name = "counting"

    def __init__(self) -> None:
        self.read: list[tuple[str, str]] = []

    def series(self) -> set[tuple[str, str]]:
        return {(symbol, timeframe) for symbol in ("P1", "P2", "Q") for timeframe in ("1d", "1h")}

    def not_read(self) -> list[NotRead]:
        return []

    def load(self, symbol: str, timeframe: str) -> LoadedBars:
        self.read.append((symbol, timeframe))
        one = np.ones(1)
        return LoadedBars(
            Bars(symbol, timeframe, np.zeros(1, dtype=np.int64), one, one, one, one, one), "", []
        )


@pytest.fixture
def source() -> CountingSource:
    return CountingSource()


@pytest.fixture
def sources(source: CountingSource, tmp_path: Path) -> BarCatalog:
    return BarCatalog(Workspace(tmp_path), [source])


def summary(sources: BarCatalog, **asked: object) -> responses.DataSummary:
    return data.data_summary(sources, parse(requests.SummarizeData, asked))


@pytest.mark.parametrize(
    ("asked", "page", "has_more"),
    [
        ({"limit": 1}, ["P1 1h"], True),
        ({"limit": 2, "offset": 1}, ["P1 1d", "P2 1h"], True),
        ({"limit": 2, "offset": 4}, ["Q 1h", "Q 1d"], False),
        ({"offset": 6}, [], False),
        ({"symbol": "p2"}, ["P2 1h", "P2 1d"], False),
        ({"symbol": "P2", "limit": 1}, ["P2 1h"], True),
        ({"symbol": "NONE"}, [], False),
    ],
)
def test_only_the_files_of_the_page_are_read(
    sources: BarCatalog,
    source: CountingSource,
    asked: dict[str, object],
    page: list[str],
    has_more: bool,
) -> None:
    told = summary(sources, **asked)
    assert [f"{one.symbol} {one.timeframe}" for one in told.series] == page
    assert [" ".join(one) for one in source.read] == page
    assert (told.returned, told.has_more) == (len(page), has_more)


def test_a_symbol_is_completed_without_reading_a_file(
    sources: BarCatalog, source: CountingSource, tmp_path: Path
) -> None:
    library = StrategyCatalog(Workspace(tmp_path))
    assert data.completions("symbol", "p", sources, library) == ["P1", "P2"]
    assert source.read == []


def test_pages_together_are_the_whole_list(sources: BarCatalog) -> None:
    pages = [summary(sources, limit=2, offset=offset).series for offset in (0, 2, 4)]
    assert [one for page in pages for one in page] == summary(sources, limit=100).series
