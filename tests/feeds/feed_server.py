"""A local HTTP server that speaks the APIs of the feeds, with bars that are made here.

Run as a process of its own: `python -m tests.feeds.feed_server FOLDER`. It prints its port. What it
has, and its faults, stand in FOLDER/told.json, which is read again for each request; each request
for bars is noted in FOLDER/asked.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

HOUR_S = 3_600
DAY_S = 86_400
OPENING_S = 52_200  # of a session in New York, 14:30 in UTC
BEGIN_S = 1_704_067_200  # 2024-01-01
PAGE_BARS = 100


class Speaker(BaseHTTPRequestHandler):
    """Answers as the feed whose path is asked for."""

    folder: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "told.json").read_text(encoding="utf-8")))

    def bars(
        self, since_s: int, until_s: int = 2**40, step_s: int = HOUR_S, first_s: int = BEGIN_S
    ) -> list[tuple[int, float, int]]:
        """Opening, close and volume of each bar in a range."""
        told = self.told
        found = []
        for number in range(told["bars"]):
            time_s = first_s + number * step_s
            if since_s <= time_s < until_s:
                factor = told.get("factor", 1.0) if number < told.get("until", 0) else 1.0
                factor *= 1.05 if number == told.get("revised") else 1.0
                found.append((time_s, (100 + number % 9) * factor, 500 + number))
        return found

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "text/html" if isinstance(value, bytes) else "application/json"
        for name, text in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fault(self) -> bool:
        """Does what the next fault says; whether there was one."""
        with (self.folder / "asked").open("a", encoding="utf-8") as file:
            file.write(f"{self.path}\n")
        asked = len((self.folder / "asked").read_text(encoding="utf-8").split())
        kind = self.told.get("faults", {}).get(str(asked))
        if kind == "429":
            self.answer({"code": -1003, "msg": "Too many requests"}, 429, Retry_After="1")
        elif kind == "429 bare":
            self.answer({"code": -1003, "msg": "Too many requests"}, 429)
        elif kind == "html":
            self.answer(b"<html><body>Maintenance</body></html>", 503)
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"[[170406720")
            self.close_connection = True
        elif kind == "hang":
            (self.folder / "hanging").write_text("", encoding="utf-8")
            time.sleep(60)
        else:
            return False
        return True

    def do_GET(self) -> None:
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/exchangeInfo"):
            self.answer(exchange_info())
        elif url.path.endswith("/time"):
            self.answer({"serverTime": int(time.time() * 1_000)})
        elif url.path.endswith("/klines"):
            if not self.fault():
                self.answer(self.klines(query))
        elif "/stocks/bars" in url.path or "/crypto/us/bars" in url.path:
            if not self.fault():
                self.answer(self.alpaca(query))
        elif "/v8/finance/chart/" in url.path:
            if "range" in query or not self.fault():
                self.yahoo(url.path.rsplit("/", 1)[1], query)
        elif "getcrumb" in url.path:
            self.answer(b"crumb")
        else:
            self.answer({}, 404 if url.path.startswith("/v10") else 200)

    def klines(self, query: dict[str, str]) -> list[list[Any]]:
        """Binance's."""
        rows = self.bars(int(query.get("startTime", 0)) // 1_000)[:PAGE_BARS]
        if query["symbol"] != "BTCUSDT":
            return []
        return [
            [time_s * 1_000, *map(str, (close, close * 1.01, close * 0.99, close, volume)),
             time_s * 1_000 + HOUR_S * 1_000 - 1, "1", 5, "1", "1", "0"]
            for time_s, close, volume in rows
        ]  # fmt: skip

    def alpaca(self, query: dict[str, str]) -> dict[str, Any]:
        """Alpaca's, in pages of its own."""
        start = datetime.fromisoformat(query["start"].replace("Z", "+00:00"))
        after = int(query.get("page_token", 0))
        rows = self.bars(max(int(start.timestamp()), after))
        page, more = rows[:PAGE_BARS], rows[PAGE_BARS:]
        symbol = query["symbols"]
        known = symbol in {"ACME", "BTC/USD"}
        return {
            "bars": {symbol: [
                {"t": datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                 "o": close, "h": close * 1.01, "l": close * 0.99, "c": close, "v": volume, "n": 5,
                 "vw": close}
                for time_s, close, volume in page
            ]} if known else {},
            "next_page_token": str(more[0][0]) if more and known else None,
        }  # fmt: skip

    def yahoo(self, symbol: str, query: dict[str, str]) -> None:
        """Yahoo's."""
        if symbol != "ACME":
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            self.answer({"chart": {"result": None, "error": error}}, 404)
            return
        since, until = int(query.get("period1", 0)), int(query.get("period2", 2**40))
        rows = self.bars(since, until, DAY_S, BEGIN_S + OPENING_S)
        closes = [close for _, close, _ in rows]
        quote = {
            "open": closes,
            "high": [close * 1.01 for close in closes],
            "low": [close * 0.99 for close in closes],
            "close": closes,
            "volume": [volume for _, _, volume in rows],
        }
        period = {"timezone": "EST", "start": 0, "end": 1, "gmtoffset": -18_000}
        meta = {
            "currency": "USD", "symbol": symbol, "exchangeTimezoneName": "America/New_York",
            "timezone": "EST", "gmtoffset": -18_000, "instrumentType": "EQUITY",
            "regularMarketTime": BEGIN_S, "regularMarketPrice": 1.0, "priceHint": 2,
            "dataGranularity": query.get("interval", "1d"), "range": "", "firstTradeDate": BEGIN_S,
            "currentTradingPeriod": {"pre": period, "regular": period, "post": period},
            "tradingPeriods": [[period]], "validRanges": ["1d", "max"],
        }  # fmt: skip
        result = {"meta": meta, "timestamp": [time_s for time_s, _, _ in rows],
                  "indicators": {"quote": [quote], "adjclose": [{"adjclose": closes}]}}  # fmt: skip
        self.answer({"chart": {"result": [result], "error": None}})


def exchange_info() -> dict[str, Any]:
    """The only symbol of the exchange, as Binance describes it."""
    filters = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01",
            "maxPrice": "1000000",
            "tickSize": "0.01",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
    ]
    symbol = {
        "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "baseAssetPrecision": 8,
        "quoteAsset": "USDT", "quotePrecision": 8, "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "orderTypes": ["LIMIT"],
        "filters": filters, "permissions": ["SPOT"], "permissionSets": [["SPOT"]],
        "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8,
    }  # fmt: skip
    return {"timezone": "UTC", "serverTime": BEGIN_S * 1_000, "rateLimits": [], "symbols": [symbol]}


def main() -> None:
    """Serves until the process is ended."""
    Speaker.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Speaker)
    print(server.server_address[1], flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
