"""Bars of crypto exchanges, fetched with ccxt."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final

from ktrdr_mcp.data.feeds.base import Feed, FeedBusy, Page, base_url, load_client
from ktrdr_mcp.errors import DataNotFound, FeedFailed, InvalidRequest, did_you_mean

PAGE_BARS: Final = 1_000
MILLISECOND_NS: Final = 1_000_000
TIMEOUT_MS: Final = 20_000


class Ccxt(Feed):
    """Any exchange that ccxt knows, by its id."""

    name: ClassVar[str] = "ccxt"
    example: ClassVar[str] = "ccxt:binance"
    extra: ClassVar[str] = "ccxt"
    package: ClassVar[str] = "ccxt"
    adjustment: ClassVar[str] = "raw"
    terms: ClassVar[str] = ""

    def __init__(self, venue: str, symbol: str, timeframe: str) -> None:
        self._ccxt: Any = load_client(Ccxt, "ccxt")
        if venue not in self._ccxt.exchanges:
            raise InvalidRequest(
                f"ccxt knows no exchange {venue}.{did_you_mean(venue, self._ccxt.exchanges)}",
                hint="Write the source as ccxt:EXCHANGE, for example ccxt:kraken.",
                field="source",
            )
        self._exchange: Any = getattr(self._ccxt, venue)(
            {"enableRateLimit": True, "timeout": TIMEOUT_MS}
        )
        if (url := base_url()) is not None:
            self._exchange.urls["api"] = replace_host(self._exchange.urls["api"], url)
        self._symbol, self._timeframe = symbol, timeframe
        if timeframe not in (self._exchange.timeframes or {}):
            raise InvalidRequest(
                f"{venue} has no {timeframe} bars.",
                hint=f"It has {', '.join(self._exchange.timeframes or {})}.",
                field="timeframe",
            )
        self._known = False

    def page(self, since_ns: int) -> Page:
        """The bars from a time on."""
        try:
            if not self._known:
                self._know_symbol()
            found = self._exchange.fetch_ohlcv(
                self._symbol, self._timeframe, since_ns // MILLISECOND_NS, PAGE_BARS
            )
        except self._ccxt.BadSymbol:
            raise self._no_symbol() from None
        except (self._ccxt.NetworkError, ValueError) as error:  # a cut reply is a ValueError
            raise FeedBusy(f"{type(error).__name__}: {error}"[:160], self._retry_after()) from None
        except self._ccxt.BaseError as error:
            raise FeedFailed(
                f"{self._exchange.id} refused: {error}"[:200], hint="Check symbol and timeframe."
            ) from None
        rows = [(int(one[0]) * MILLISECOND_NS, *map(float, one[1:6])) for one in found or []]
        after = rows[-1][0] + MILLISECOND_NS if rows else None
        return Page(rows, after)  # type: ignore[arg-type]

    def now_ns(self) -> int:
        """The exchange's clock, where it shows one."""
        if self._exchange.has.get("fetchTime"):
            try:
                return int(self._exchange.fetch_time()) * MILLISECOND_NS
            except self._ccxt.BaseError:
                pass
        return time.time_ns()

    def _know_symbol(self) -> None:
        """Loads the exchange's list of symbols. Raises DataNotFound."""
        self._exchange.load_markets()
        if self._symbol not in self._exchange.markets:
            raise self._no_symbol()
        self._known = True

    def _no_symbol(self) -> DataNotFound:
        near = did_you_mean(self._symbol, self._exchange.markets or {})
        return DataNotFound(
            f"{self._exchange.id} has no symbol {self._symbol}.{near}",
            hint="ccxt writes symbols as BTC/USDT, and those of futures as BTC/USDT:USDT.",
            field="symbol",
        )

    def _retry_after(self) -> float | None:
        """How long the exchange said to wait with its last reply, seconds."""
        headers = self._exchange.last_response_headers or {}
        said = {str(name).lower(): value for name, value in headers.items()}.get("retry-after")
        try:
            return None if said is None else float(said)
        except ValueError:
            return None


def replace_host(addresses: Any, url: str) -> Any:
    """The same addresses on another host."""
    if isinstance(addresses, dict):
        return {name: replace_host(one, url) for name, one in addresses.items()}
    path = "/" + str(addresses).split("://", 1)[-1].partition("/")[2]
    return url.rstrip("/") + path.rstrip("/")


FEED = Ccxt
