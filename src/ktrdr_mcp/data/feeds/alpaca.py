"""Bars of US stocks and of crypto, fetched with alpaca-py. Keys come from the environment."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from ktrdr_mcp.data.feeds.base import (
    Feed,
    FeedBusy,
    Page,
    base_url,
    load_client,
    require_keys,
)
from ktrdr_mcp.errors import FeedFailed, InvalidRequest

PAGE_BARS: Final = 10_000
KEYS: Final = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
TRANSIENT: Final = {408, 429, 500, 502, 503, 504}
WIDTHS: Final = {
    "1m": (1, "Minute"), "5m": (5, "Minute"), "15m": (15, "Minute"), "30m": (30, "Minute"),
    "1h": (1, "Hour"), "4h": (4, "Hour"), "1d": (1, "Day"), "1w": (1, "Week"),
}  # fmt: skip
NEXT_NS: Final = 1_000_000_000


class Alpaca(Feed):
    """The historical data of Alpaca; a symbol with a slash is crypto."""

    name: ClassVar[str] = "alpaca"
    example: ClassVar[str] = "alpaca"
    extra: ClassVar[str] = "alpaca"
    package: ClassVar[str] = "alpaca-py"
    adjustment: ClassVar[str] = "split"
    terms: ClassVar[str] = ""

    def __init__(self, venue: str, symbol: str, timeframe: str) -> None:
        historical = load_client(Alpaca, "alpaca.data.historical")
        self._requests: Any = load_client(Alpaca, "alpaca.data.requests")
        frames: Any = load_client(Alpaca, "alpaca.data.timeframe")
        self._errors: Any = load_client(Alpaca, "alpaca.common.exceptions")
        key, secret = require_keys(Alpaca, *KEYS)
        self._is_crypto = "/" in symbol
        kind = "CryptoHistoricalDataClient" if self._is_crypto else "StockHistoricalDataClient"
        self._client: Any = getattr(historical, kind)(key, secret, url_override=base_url())
        self._client._retry = 0  # whether to ask again is decided here, as for every feed
        count, unit = WIDTHS[timeframe]
        self._frame = frames.TimeFrame(count, getattr(frames.TimeFrameUnit, unit))
        self._symbol, self._venue = symbol, venue

    def page(self, since_ns: int) -> Page:
        """The bars from a time on."""
        start = datetime.fromtimestamp(since_ns / 1e9, UTC)
        asked = {
            "symbol_or_symbols": self._symbol,
            "timeframe": self._frame,
            "start": start,
            "limit": PAGE_BARS,
        }
        if not self._is_crypto:
            asked["adjustment"] = self.adjustment
            if self._venue:
                asked["feed"] = self._venue
        try:
            kind = "CryptoBarsRequest" if self._is_crypto else "StockBarsRequest"
            request = getattr(self._requests, kind)(**asked)
            ask = self._client.get_crypto_bars if self._is_crypto else self._client.get_stock_bars
            found = ask(request).data.get(self._symbol, [])
        except self._errors.APIError as error:
            raise self._meaning(error) from None
        except (OSError, ValueError, self._errors.RetryException) as error:
            raise FeedBusy(f"{type(error).__name__}: {error}"[:160]) from None
        rows = [
            (
                round(one.timestamp.timestamp()) * 10**9,
                *map(float, (one.open, one.high, one.low, one.close, one.volume)),
            )
            for one in found
        ]
        after = rows[-1][0] + NEXT_NS if len(rows) >= PAGE_BARS else None
        return Page(rows, after, "UTC" if self._is_crypto else "America/New_York")

    def now_ns(self) -> int:
        """This machine's clock."""
        return time.time_ns()

    def _meaning(self, error: Any) -> Exception:
        """What an error of the API means."""
        response = getattr(error, "response", None)
        status = getattr(error, "status_code", None)
        if status in TRANSIENT:
            said = None if response is None else response.headers.get("Retry-After")
            return FeedBusy(f"HTTP {status}", float(said) if said and said.isdigit() else None)
        if status in {401, 403}:
            return InvalidRequest(
                "Alpaca does not accept the keys in the environment, or they may not read this.",
                hint=f"Check {' and '.join(KEYS)}.",
                field="source",
            )
        return FeedFailed(f"Alpaca refused: HTTP {status}.", hint="Check symbol and timeframe.")


FEED = Alpaca
