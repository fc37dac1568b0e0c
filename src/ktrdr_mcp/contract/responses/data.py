"""What is told of the bars that there are."""

from __future__ import annotations

from pydantic import Field

from ktrdr_mcp.contract.responses.base import Reply, Success


class SeriesSummary(Reply):
    """One series of bars."""

    symbol: str
    timeframe: str
    bars: int
    first_bar: str | None
    last_bar: str | None
    source: str
    notes: list[str]
    defects: str | None


class DataSummary(Success):
    """Which bars there are."""

    series: list[SeriesSummary]
    returned: int
    has_more: bool
    # Files that are meant to be series, and what to do with them.
    not_read: list[str] = Field(default_factory=list)
