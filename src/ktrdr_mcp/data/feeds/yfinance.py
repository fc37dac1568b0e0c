"""Bars of Yahoo Finance, fetched with yfinance, for personal use."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from ktrdr_mcp.data.feeds.base import Feed, FeedBusy, Page, base_url, load_client
from ktrdr_mcp.errors import DataNotFound, InvalidRequest

INTERVALS: Final = {
    "1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "60m", "1d": "1d", "1w": "1wk",
}  # fmt: skip
REACH_DAYS: Final = {"1m": 7, "5m": 59, "15m": 59, "30m": 59, "1h": 729}
WINDOW_DAYS: Final = 3_650
DAY_NS: Final = 86_400 * 10**9


class YFinance(Feed):
    """Whatever Yahoo has under a symbol."""

    name: ClassVar[str] = "yfinance"
    example: ClassVar[str] = "yfinance"
    extra: ClassVar[str] = "yfinance"
    package: ClassVar[str] = "yfinance"
    adjustment: ClassVar[str] = "split"
    terms: ClassVar[str] = (
        "Yahoo's terms allow its data for personal use alone; yfinance is no product of Yahoo."
    )

    def __init__(self, venue: str, symbol: str, timeframe: str) -> None:
        if timeframe not in INTERVALS:
            raise InvalidRequest(
                f"Yahoo has no {timeframe} bars.",
                hint=f"It has {', '.join(INTERVALS)}; wider ones are made of narrower ones.",
                field="timeframe",
            )
        self._yfinance: Any = load_client(YFinance, "yfinance")
        self._errors: Any = load_client(YFinance, "yfinance.exceptions")
        if (url := base_url()) is not None:
            redirect(url.rstrip("/"))
        self._ticker: Any = self._yfinance.Ticker(symbol)
        self._symbol, self._timeframe = symbol, timeframe

    def page(self, since_ns: int) -> Page:
        """The bars of a window from a time on."""
        now = time.time_ns()
        reach = REACH_DAYS.get(self._timeframe)
        start = since_ns if reach is None else max(since_ns, now - reach * DAY_NS)
        end = min(start + WINDOW_DAYS * DAY_NS, now + DAY_NS)
        try:
            frame = self._ticker.history(
                interval=INTERVALS[self._timeframe],
                start=datetime.fromtimestamp(start / 1e9, UTC),
                end=datetime.fromtimestamp(end / 1e9, UTC),
                auto_adjust=False,
                actions=False,
                raise_errors=True,
            )
        except self._errors.YFRateLimitError:
            raise FeedBusy("Yahoo asks to wait") from None
        except self._errors.YFPricesMissingError:
            if end <= now:  # before it was listed
                return Page([], end)
            return Page([], None)
        except self._errors.YFTickerMissingError:
            raise DataNotFound(
                f"Yahoo has no symbol {self._symbol}.",
                hint="Indices begin with ^, currencies end with =X.",
                field="symbol",
            ) from None
        except Exception as error:  # its own errors for pages that are no JSON are of many kinds
            raise FeedBusy(f"{type(error).__name__}: {error}"[:160]) from None
        frame = frame.dropna(subset=["Open", "High", "Low", "Close"])
        times = frame.index.tz_convert("UTC").tz_localize(None).astype("datetime64[ns]").asi8
        names = ("Open", "High", "Low", "Close", "Volume")
        columns = [frame[name].to_numpy(float) for name in names]
        rows = list(zip(times.tolist(), *(one.tolist() for one in columns), strict=True))
        return Page(rows, end if end <= now else None, str(frame.index.tz))

    def now_ns(self) -> int:
        """This machine's clock."""
        return time.time_ns()


def redirect(url: str) -> None:
    """Sends yfinance's requests to another address; the names are private, and so it is pinned."""
    const: Any = load_client(YFinance, "yfinance.const")
    for module in ("yfinance.const", "yfinance.base", "yfinance.data", "yfinance.scrapers.history"):
        loaded = load_client(YFinance, module)
        for name in ("_BASE_URL_", "_QUERY1_URL_", "_ROOT_URL_"):
            if hasattr(loaded, name):
                setattr(loaded, name, url)
    const._BASE_URL_ = url


FEED = YFinance
