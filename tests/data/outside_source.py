"""A source in one file, as another package brings it: hourly bars that are made here.

Its package names it in its pyproject.toml:

    [project.entry-points."ktrdr_mcp.feeds"]
    outside = "outside_source:Outside"
"""

from __future__ import annotations

import math
from typing import ClassVar

from ktrdr_mcp.data.feeds.base import Feed, Page, Row
from ktrdr_mcp.errors import DataNotFound

HOUR_NS = 3_600 * 10**9
BEGIN_NS = 1_704_067_200 * 10**9  # 2024-01-01
BARS = 500
PAGE_BARS = 100


class Outside(Feed):
    """Bars of one symbol."""

    name: ClassVar[str] = "outside"
    timeframes: ClassVar[dict[str, str]] = {"1h": "60"}

    def page(self, since_ns: int) -> Page:
        if self.symbol != "MADE":
            raise DataNotFound(f"There is no {self.symbol}.", hint="Ask for MADE.", field="symbol")
        first = max(0, -(-(since_ns - BEGIN_NS) // HOUR_NS))
        rows = [row(number) for number in range(first, min(first + PAGE_BARS, BARS))]
        more = bool(rows) and first + PAGE_BARS < BARS
        return Page(rows, rows[-1][0] + 1 if more else None)


def row(number: int) -> Row:
    """One bar."""
    close = 100 + 5 * math.sin(number / 10)
    return (BEGIN_NS + number * HOUR_NS, close, close + 1, close - 1, close, 10.0 + number)
