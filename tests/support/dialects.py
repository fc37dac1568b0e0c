"""Files of bars in the shape that each tool writes, made here: no recorded data of others.

Every file holds the same bars: HOURLY, DAILY or WINTER, which spans the night in March when clocks
in New York are set forward.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Bar:
    """One bar; prices of two decimals."""

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: int

    @property
    def seconds(self) -> int:
        return int(self.time.timestamp())

    @property
    def prices(self) -> tuple[float, float, float, float]:
        return (self.open, self.high, self.low, self.close)


def made(times: Sequence[datetime], seed: int = 7) -> list[Bar]:
    """Bars at some times, of a walk in cents."""
    generator = np.random.default_rng(seed)
    bars, last = [], 100_00
    for time in times:
        close = last + int(generator.integers(-40, 41))
        high = max(last, close) + int(generator.integers(1, 40))
        low = min(last, close) - int(generator.integers(1, 40))
        prices = [one / 100 for one in (last, high, low, close)]
        bars.append(Bar(time, *prices, int(generator.integers(100, 9_999))))
        last = close
    return bars


HOURLY = made([datetime(2024, 1, 2, 14, 30, tzinfo=UTC) + timedelta(hours=n) for n in range(60)])
DAYS = [datetime(2024, 1, 2, tzinfo=UTC) + timedelta(days=n) for n in range(90)]
DAILY = made([day for day in DAYS if day.weekday() < 5][:60])
WINTER = made([datetime(2024, 3, 8, 12, tzinfo=UTC) + timedelta(hours=n) for n in range(72)])


@dataclass(frozen=True)
class Case:
    """One file and what it must be recognised as.

    Args:
        file: its name.
        content: its bytes.
        dialect: as `--from` has it.
        bars: that it holds.
        said: what is said on the command line.
        symbol: what is recognised of it.
        left_out: how many kinds of lines are left out.
    """

    file: str
    content: bytes
    dialect: str
    bars: list[Bar]
    said: dict[str, str]
    symbol: str
    left_out: int = 0


CASES: dict[str, Case] = {}


def case(
    name: str,
    file: str,
    dialect: str,
    bars: list[Bar],
    content: str | bytes,
    symbol: str = "",
    left_out: int = 0,
    **said: str,
) -> None:
    """Adds a file to the table."""
    raw = content if isinstance(content, bytes) else content.encode()
    if not symbol:
        said.setdefault("symbol", "TEST")
    CASES[name] = Case(file, raw, dialect, bars, said, symbol or said["symbol"], left_out)


def lines(
    bars: Sequence[Bar],
    row: Callable[[Bar], Sequence[Any]],
    header: str = "",
    mark: str = ",",
    end: str = "\n",
) -> str:
    """A header and a line for each bar."""
    rows = [mark.join(map(str, row(bar))) for bar in bars]
    return end.join([*([header] if header else []), *rows, ""])


def local(bar: Bar, zone: str | ZoneInfo, form: str, ahead_h: int = 0) -> str:
    """A bar's time on another clock."""
    place = ZoneInfo(zone) if isinstance(zone, str) else zone
    return (bar.time.astimezone(place) + timedelta(hours=ahead_h)).strftime(form)


def utc(bar: Bar, form: str) -> str:
    """A bar's time in UTC."""
    return bar.time.strftime(form)


def ohlcv(bar: Bar) -> tuple[Any, ...]:
    return (*bar.prices, bar.volume)


SPACE, T = "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"

# Yahoo
case(
    "yfinance download", "prices.csv", "yfinance", DAILY,
    "Price,Close,High,Low,Open,Volume\nTicker,ACME,ACME,ACME,ACME,ACME\nDate,,,,,\n"
    + lines(DAILY, lambda b: (utc(b, "%Y-%m-%d"), b.close, b.high, b.low, b.open, b.volume)),
    symbol="ACME",
)  # fmt: skip
case(
    "yfinance download of several", "prices.csv", "yfinance", DAILY,
    "Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\n"
    "Ticker,ACME,OTHER,ACME,OTHER,ACME,OTHER,ACME,OTHER,ACME,OTHER\nDate,,,,,,,,,,\n"
    + lines(DAILY, lambda b: (utc(b, "%Y-%m-%d"), b.close, 1, b.high, 2, b.low, 1, b.open, 1,
                              b.volume, 5)),
    symbol="ACME", symbol_said="ACME",
)  # fmt: skip
case(
    "yfinance by ticker", "prices.csv", "yfinance", HOURLY,
    "Ticker,ACME,ACME,ACME,ACME,ACME\nPrice,Open,High,Low,Close,Volume\nDatetime,,,,,\n"
    + lines(HOURLY, lambda b: (utc(b, SPACE + "+00:00"), *ohlcv(b))),
    symbol="ACME",
)  # fmt: skip
case(
    "yfinance history", "ACME_1h.csv", "yfinance", WINTER,
    lines(WINTER, lambda b: (b.time.astimezone(NEW_YORK).isoformat(" "), *ohlcv(b), 0.0, 0.0),
          "Datetime,Open,High,Low,Close,Volume,Dividends,Stock Splits"),
    symbol="ACME",
)  # fmt: skip
case(
    "Yahoo's page", "ACME.csv", "yfinance", DAILY,
    lines(DAILY, lambda b: (utc(b, "%Y-%m-%d"), *b.prices, b.close / 2, b.volume),
          "Date,Open,High,Low,Close,Adj Close,Volume"),
)  # fmt: skip
case(
    "yfinance flat", "x.csv", "yfinance", DAILY,
    lines(DAILY, lambda b: (utc(b, "%Y-%m-%d"), b.close, b.high, b.low, b.open, b.volume),
          "Date,Close,High,Low,Open,Volume"),
)  # fmt: skip

# Charts and brokers
case(
    "TradingView epochs", "NASDAQ_ACME, 60.csv", "tradingview", HOURLY,
    lines(HOURLY, lambda b: (b.seconds, *b.prices, b.volume, ""),
          "time,open,high,low,close,Volume,Volume MA"),
    symbol="ACME",
)  # fmt: skip
case(
    "TradingView times", "BINANCE_BTCUSDT, 60_1a2b3.csv", "tradingview", WINTER,
    lines(WINTER, lambda b: (b.time.astimezone(NEW_YORK).isoformat(), *b.prices, b.volume, 51.5),
          "time,open,high,low,close,Volume,RSI"),
    symbol="BTCUSDT",
)  # fmt: skip
MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
case(
    "MetaTrader 5", "EURUSD_H1_202403081400_202403111300.csv", "metatrader5", WINTER,
    lines(WINTER, lambda b: (local(b, NEW_YORK, "%Y.%m.%d", 7), local(b, NEW_YORK, "%H:%M:%S", 7),
                             *(f"{p:.5f}" for p in b.prices), b.volume, 0, 12),
          MT5, "\t", "\r\n"),
    symbol="EURUSD", timezone="NY+7",
)  # fmt: skip
case(
    "MetaTrader 5 daily", "EURUSD_Daily_202401020000_202403250000.csv", "metatrader5", DAILY,
    lines(DAILY, lambda b: (utc(b, "%Y.%m.%d"), *b.prices, b.volume, 0, 12),
          MT5.replace("<TIME>\t", ""), "\t", "\r\n"),
    symbol="EURUSD",
)  # fmt: skip
case(
    "MetaTrader 5 in UTF-16", "EURUSD.csv", "metatrader5", HOURLY,
    lines(HOURLY, lambda b: (local(b, "Europe/Athens", "%Y.%m.%d"),
                             local(b, "Europe/Athens", "%H:%M:%S"), *b.prices, b.volume, 0, 12),
          MT5, "\t", "\r\n").encode("utf-16"),
    timezone="Europe/Athens",
)  # fmt: skip
case(
    "MetaTrader 4", "EURUSD60.csv", "metatrader4", HOURLY,
    lines(HOURLY, lambda b: (local(b, "Europe/Athens", "%Y.%m.%d"),
                             local(b, "Europe/Athens", "%H:%M"), *b.prices, b.volume),
          end="\r\n"),
    symbol="EURUSD", timezone="Europe/Athens",
)  # fmt: skip
case(
    "Interactive Brokers", "bars.csv", "interactivebrokers", WINTER,
    lines(list(enumerate(WINTER)),  # type: ignore[arg-type]
          lambda nb: (nb[0], nb[1].time.astimezone(NEW_YORK).isoformat(" "), *nb[1].prices,
                      float(nb[1].volume), nb[1].close, 11),
          ",date,open,high,low,close,volume,average,barCount"),
)  # fmt: skip
case(
    "Interactive Brokers midpoints", "bars.csv", "interactivebrokers",
    [Bar(b.time, *b.prices, 0) for b in HOURLY],
    lines(HOURLY, lambda b: (local(b, NEW_YORK, "%Y%m%d %H:%M:%S US/Eastern"), *b.prices, -1,
                             -1.0, -1),
          "date,open,high,low,close,volume,average,barCount"),
)  # fmt: skip
case(
    "Sierra", "ESH4.txt", "sierra", HOURLY,
    lines(HOURLY, lambda b: (
        local(b, NEW_YORK, "%Y/%m/%d").replace("/0", "/"), local(b, NEW_YORK, "%H:%M:%S"),
        *(f"{p:.2f}" for p in b.prices), b.volume, 61, 100, 200),
          "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume", ", "),
    timezone="America/New_York",
)  # fmt: skip


# Crypto
def kline(bar: Bar, unit: int) -> tuple[Any, ...]:
    """A row of Binance's, with epochs of so many in a second."""
    start = bar.seconds * unit
    return (start, *(f"{p:.8f}" for p in bar.prices), f"{bar.volume:.8f}",
            start + 3_600 * unit - 1, "1.0", 5, "1.0", "1.0", 0)  # fmt: skip


def zipped(member: str, text: str) -> bytes:
    """A zip archive of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return buffer.getvalue()


FUTURES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
case(
    "Binance spot ms",
    "BTCUSDT-1h-2024-01.zip",
    "binance",
    HOURLY,
    zipped("BTCUSDT-1h-2024-01.csv", lines(HOURLY, lambda b: kline(b, 1_000))),
    symbol="BTCUSDT",
)
case(
    "Binance spot us",
    "BTCUSDT-1h-2025-01.csv",
    "binance",
    HOURLY,
    lines(HOURLY, lambda b: kline(b, 1_000_000)),
    symbol="BTCUSDT",
)
case(
    "Binance ms and us",
    "BTCUSDT-1h.csv",
    "binance",
    HOURLY,
    lines(HOURLY[:30], lambda b: kline(b, 1_000))
    + lines(HOURLY[30:], lambda b: kline(b, 1_000_000)),
    symbol="BTCUSDT",
)
case(
    "Binance futures",
    "BTCUSDT-1h-2024-01.csv",
    "binance",
    HOURLY,
    lines(HOURLY, lambda b: kline(b, 1_000), FUTURES),
    symbol="BTCUSDT",
)
case(
    "Binance's API", "klines.json", "binance", HOURLY, json.dumps([kline(b, 1_000) for b in HOURLY])
)
case(
    "Kraken",
    "XBTUSD_60.csv",
    "kraken",
    HOURLY,
    lines(HOURLY, lambda b: (b.seconds, *b.prices, b.volume, 61)),
    symbol="XBTUSD",
)
case(
    "Kraken's API",
    "ohlc.json",
    "kraken",
    HOURLY,
    json.dumps(
        {
            "error": [],
            "result": {
                "XXBTZUSD": [
                    [b.seconds, *map(str, b.prices), str(b.close), str(b.volume), 61]
                    for b in HOURLY
                ],
                "last": 5,
            },
        }
    ),
)
case(
    "ccxt",
    "btc_1h.csv",
    "ccxt",
    HOURLY,
    lines(HOURLY, lambda b: (b.seconds * 1_000, *ohlcv(b)), "timestamp,open,high,low,close,volume"),
    symbol="BTC",
)
case(
    "ccxt without names",
    "x.csv",
    "ccxt",
    HOURLY,
    lines(HOURLY, lambda b: (b.seconds * 1_000, *ohlcv(b))),
)
case(
    "CryptoDataDownload",
    "Gemini_BTCUSD_1h.csv",
    "cryptodatadownload",
    HOURLY,
    "https://www.CryptoDataDownload.com\n"
    + lines(
        HOURLY[::-1],
        lambda b: (b.seconds, utc(b, SPACE), "BTC/USD", *b.prices, b.volume, b.volume * b.close),
        "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD",
    ),
    symbol="BTC/USD",
)
case(
    "CryptoDataDownload of Binance",
    "Binance_BTCUSDT_1h.csv",
    "cryptodatadownload",
    HOURLY,
    "https://www.CryptoDataDownload.com\n"
    + lines(
        HOURLY[::-1],
        lambda b: (
            b.seconds * 1_000,
            utc(b, SPACE),
            "BTCUSDT",
            *b.prices,
            b.volume,
            b.volume * b.close,
            12,
        ),
        "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount",
    ),
    symbol="BTCUSDT",
)
AT = [Bar(b.time.replace(minute=0), *b.prices, b.volume) for b in HOURLY]
case(
    "CryptoDataDownload's old hours",
    "x.csv",
    "cryptodatadownload",
    AT,
    "https://www.CryptoDataDownload.com\n"
    + lines(
        AT[::-1],
        lambda b: (utc(b, "%Y-%m-%d %I-%p"), "BTCUSD", *b.prices, b.volume, 5.0),
        "Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD",
    ),
    symbol="BTCUSD",
)

# Stocks and futures
case(
    "Alpaca",
    "bars.csv",
    "alpaca",
    HOURLY,
    lines(
        HOURLY,
        lambda b: ("ACME", utc(b, SPACE + "+00:00"), *b.prices, float(b.volume), 61.0, b.close),
        "symbol,timestamp,open,high,low,close,volume,trade_count,vwap",
    ),
    symbol="ACME",
)
case(
    "Alpaca's API",
    "bars.json",
    "alpaca",
    HOURLY,
    json.dumps(
        {
            "bars": {
                "ACME": [
                    {
                        "c": b.close,
                        "h": b.high,
                        "l": b.low,
                        "n": 61,
                        "o": b.open,
                        "t": utc(b, T + "Z"),
                        "v": b.volume,
                        "vw": b.close,
                    }
                    for b in HOURLY
                ]
            },
            "next_page_token": None,
        }
    ),
    symbol="ACME",
)
case(
    "Polygon flat file",
    "2024-01-02.csv.gz",
    "polygon",
    HOURLY,
    gzip.compress(
        lines(
            HOURLY,
            lambda b: ("ACME", b.volume, b.open, b.close, b.high, b.low, b.seconds * 10**9, 61),
            "ticker,volume,open,close,high,low,window_start,transactions",
        ).encode()
    ),
    symbol="ACME",
)
case(
    "Polygon's API",
    "aggs.json",
    "polygon",
    HOURLY,
    json.dumps(
        {
            "ticker": "ACME",
            "queryCount": 60,
            "adjusted": True,
            "results": [
                {
                    "v": b.volume,
                    "vw": b.close,
                    "o": b.open,
                    "c": b.close,
                    "h": b.high,
                    "l": b.low,
                    "t": b.seconds * 1_000,
                    "n": 61,
                }
                for b in HOURLY
            ],
            "status": "OK",
        }
    ),
    symbol="ACME",
)
case(
    "Polygon's client",
    "x.csv",
    "polygon",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (*ohlcv(b), b.close, b.seconds * 1_000, 61, ""),
        "open,high,low,close,volume,vwap,timestamp,transactions,otc",
    ),
)
case(
    "Databento raw",
    "x.csv",
    "databento",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (b.seconds * 10**9, 34, 1, 42, *(round(p * 1e9) for p in b.prices), b.volume),
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume",
    ),
)
case(
    "Databento pretty",
    "x.csv",
    "databento",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (
            utc(b, T + ".000000000Z"),
            34,
            1,
            42,
            *(f"{p:.9f}" for p in b.prices),
            b.volume,
            "ESH4",
        ),
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol",
    ),
    symbol="ESH4",
)
case(
    "Dukascopy",
    "EURUSD_Candlestick_1_Hour_BID_02.01.2024-05.01.2024.csv",
    "dukascopy",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (utc(b, "%d.%m.%Y %H:%M:%S.000"), *ohlcv(b)),
        "Gmt time,Open,High,Low,Close,Volume",
    ),
)
case(
    "Dukascopy in local time",
    "x.csv",
    "dukascopy",
    WINTER,
    lines(
        WINTER,
        lambda b: (local(b, "Europe/Athens", "%d.%m.%Y %H:%M:%S.000 GMT%z"), *ohlcv(b)),
        "Local time,Open,High,Low,Close,Volume",
    ),
)
case(
    "Dukascopy's platform",
    "x.csv",
    "dukascopy",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (local(b, "Europe/Athens", "%Y.%m.%d %H:%M:%S"), *ohlcv(b)),
        "Time (EET),Open,High,Low,Close,Volume",
    ),
)
EST = "Etc/GMT+5"
case(
    "HistData",
    "DAT_ASCII_EURUSD_M1_2024.csv",
    "histdata",
    WINTER,
    lines(
        WINTER,
        lambda b: (local(b, EST, "%Y%m%d %H%M%S"), *(f"{p:.6f}" for p in b.prices), b.volume),
        mark=";",
        end="\r\n",
    ),
    symbol="EURUSD",
)
case(
    "HistData for MetaTrader",
    "HISTDATA_COM_MT_EURUSD_M1_2024.zip",
    "histdata",
    HOURLY,
    zipped(
        "DAT_MT_EURUSD_M1_2024.csv",
        lines(HOURLY, lambda b: (local(b, EST, "%Y.%m.%d"), local(b, EST, "%H:%M"), *ohlcv(b))),
    ),
    symbol="EURUSD",
)
case(
    "Stooq in Polish",
    "acme_us_d.csv",
    "stooq",
    DAILY,
    lines(
        DAILY,
        lambda b: (utc(b, "%Y-%m-%d"), *ohlcv(b)),
        "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen",
    ),
    symbol="ACME",
)
case(
    "Stooq's database",
    "acme.us.txt",
    "stooq",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (
            "ACME.US",
            60,
            local(b, "Europe/Warsaw", "%Y%m%d"),
            local(b, "Europe/Warsaw", "%H%M%S"),
            *ohlcv(b),
            0,
        ),
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
    ),
    symbol="ACME.US",
)
case(
    "Alpha Vantage intraday",
    "intraday_60min_ACME.csv",
    "alphavantage",
    HOURLY,
    lines(
        HOURLY[::-1],
        lambda b: (local(b, NEW_YORK, SPACE), *ohlcv(b)),
        "timestamp,open,high,low,close,volume",
        end="\r\n",
    ),
)
case(
    "Alpha Vantage adjusted",
    "daily_adjusted_ACME.csv",
    "alphavantage",
    DAILY,
    lines(
        DAILY[::-1],
        lambda b: (utc(b, "%Y-%m-%d"), *b.prices, b.close, b.volume, 0.0, 1.0),
        "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
    ),
)
case(
    "Alpha Vantage's API",
    "x.json",
    "alphavantage",
    HOURLY,
    json.dumps(
        {
            "Meta Data": {
                "1. Information": "Intraday",
                "2. Symbol": "ACME",
                "6. Time Zone": "US/Eastern",
            },
            "Time Series (60min)": {
                local(b, NEW_YORK, SPACE): {
                    "1. open": str(b.open),
                    "2. high": str(b.high),
                    "3. low": str(b.low),
                    "4. close": str(b.close),
                    "5. volume": str(b.volume),
                }
                for b in HOURLY[::-1]
            },
        }
    ),
)


def many(bars: Sequence[Bar]) -> list[Bar]:
    """The same bars, dear and with round volumes in tens of thousands."""
    return [Bar(b.time, *(round(p * 30, 2) for p in b.prices), b.volume * 10_000) for b in bars]


INVESTING = '"Date","Price","Open","High","Low","Vol.","Change %"'


def quoted(*cells: Any) -> tuple[str, ...]:
    return tuple(f'"{one}"' for one in cells)


case(
    "Investing",
    "ACME Historical Data.csv",
    "investing",
    many(DAILY),
    "\ufeff"
    + lines(
        many(DAILY)[::-1],
        lambda b: quoted(
            utc(b, "%m/%d/%Y"),
            *(f"{p:,.2f}" for p in (b.close, b.open, b.high, b.low)),
            f"{b.volume / 1e6:.2f}M",
            "0.10%",
        ),
        INVESTING,
        end="\r\n",
    ),
    symbol="ACME",
)
case(
    "Investing in German",
    "ACME Historische Daten.csv",
    "investing",
    many(DAILY),
    "\ufeff"
    + lines(
        many(DAILY)[::-1],
        lambda b: quoted(
            utc(b, "%d.%m.%Y"),
            *(
                f"{p:,.2f}".translate(str.maketrans(",.", ".,"))
                for p in (b.close, b.open, b.high, b.low)
            ),
            f"{b.volume / 1e6:.2f}M".replace(".", ","),
            "0,10%",
        ),
        '"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"',
    ),
    symbol="ACME",
)
case(
    "Investing with the day first",
    "x.csv",
    "investing",
    many(DAILY),
    lines(
        many(DAILY)[::-1],
        lambda b: quoted(
            utc(b, "%d/%m/%Y"),
            *(f"{p:,.2f}" for p in (b.close, b.open, b.high, b.low)),
            f"{b.volume / 1e3:.2f}K",
            "0.10%",
        ),
        INVESTING,
    ),
)
case(
    "Nasdaq",
    "HistoricalData_1711456789.csv",
    "nasdaq",
    many(DAILY),
    lines(
        many(DAILY)[::-1],
        lambda b: (
            utc(b, "%m/%d/%Y"),
            f"${b.close}",
            b.volume,
            f"${b.open}",
            f"${b.high}",
            f"${b.low}",
        ),
        "Date,Close/Last,Volume,Open,High,Low",
    ),
)


def feather(bars: Sequence[Bar]) -> bytes:
    """A file as freqtrade keeps it."""
    frame = pl.DataFrame({
        "date": pl.Series([b.time for b in bars]).cast(pl.Datetime("ms", "UTC")),
        **{name: [getattr(b, name) for b in bars] for name in ("open", "high", "low", "close")},
        "volume": [float(b.volume) for b in bars],
    })  # fmt: skip
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def parquet_of_pandas(bars: Sequence[Bar], zone: str, index: str | None) -> bytes:
    """A file of a data frame whose index is the time: pandas puts it last, and says so."""
    column = index or "__index_level_0__"
    names = ("Open", "High", "Low", "Close", "Volume")
    frame = pl.DataFrame({
        **{name: [getattr(b, name.lower()) for b in bars] for name in names},
        column: pl.Series([b.time for b in bars]).cast(pl.Datetime("ns", "UTC"))
        .dt.convert_time_zone(zone),
    })  # fmt: skip
    about = {"index_columns": [column], "columns": [], "pandas_version": "3.1.1"}
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata={"pandas": json.dumps(about)})
    return buffer.getvalue()


def parquet_of_polars(bars: Sequence[Bar]) -> bytes:
    """A file of polars, with small numbers and naive microseconds."""
    frame = pl.DataFrame({
        "ts": pl.Series([b.time.replace(tzinfo=None) for b in bars]).cast(pl.Datetime("us")),
        **{name: [getattr(b, name) for b in bars] for name in ("open", "high", "low", "close")},
        "volume": pl.Series([b.volume for b in bars]).cast(pl.UInt32),
    })  # fmt: skip
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


case(
    "freqtrade feather",
    "BTC_USDT-1h.feather",
    "freqtrade",
    HOURLY,
    feather(HOURLY),
    symbol="BTC/USDT",
)
case(
    "freqtrade futures",
    "BTC_USDT_USDT-1h-futures.feather",
    "freqtrade",
    HOURLY,
    feather(HOURLY),
    symbol="BTC/USDT:USDT",
)
case(
    "freqtrade JSON",
    "BTC_USDT-1h.json",
    "freqtrade",
    HOURLY,
    json.dumps([[b.seconds * 1_000, *b.prices, b.volume] for b in HOURLY]),
    symbol="BTC/USDT",
)
case(
    "Parquet of pandas",
    "ACME_1h.parquet",
    "plain",
    WINTER,
    parquet_of_pandas(WINTER, "America/New_York", "Datetime"),
    symbol="ACME",
)
case(
    "Parquet of pandas, nameless index",
    "ACME_1h.parquet",
    "plain",
    HOURLY,
    parquet_of_pandas(HOURLY, "UTC", None),
    symbol="ACME",
)
case(
    "Parquet of polars",
    "ACME_1h.parquet",
    "plain",
    HOURLY,
    parquet_of_polars(HOURLY),
    symbol="ACME",
)

# Plain tables in unusual forms
PLAIN = "timestamp,open,high,low,close,volume"
PLAIN_LINES = lines(HOURLY, lambda b: (utc(b, SPACE), *ohlcv(b)), PLAIN)
case("gz", "ACME_1h.csv.gz", "plain", HOURLY, gzip.compress(PLAIN_LINES.encode()), symbol="ACME")
case(
    "byte order mark",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    PLAIN_LINES.encode("utf-8-sig"),
    symbol="ACME",
)
case(
    "UTF-16 of Excel",
    "ACME_1h.txt",
    "plain",
    HOURLY,
    PLAIN_LINES.replace(",", "\t").encode("utf-16"),
    symbol="ACME",
)
case(
    "cp1252 with a footer",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    PLAIN_LINES.replace("volume\n", "volume,Währung\n").encode("cp1252") + b"\n\xa9 2024 Nobody\n",
    symbol="ACME",
    left_out=1,
)
case(
    "semicolons and decimal commas",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    PLAIN_LINES.replace(",", ";").replace(".", ","),
    symbol="ACME",
)
case(
    "two columns of date and time",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (utc(b, "%Y-%m-%d"), utc(b, "%H:%M"), *ohlcv(b)),
        "Date,Time,Open,High,Low,Close,Volume",
    ),
    symbol="ACME",
)
case(
    "epochs in s",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    lines(HOURLY, lambda b: (f"{b.seconds}.0", *ohlcv(b)), PLAIN),
    symbol="ACME",
)
case(
    "epochs in us",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    lines(HOURLY, lambda b: (b.seconds * 10**6, *ohlcv(b)), PLAIN),
    symbol="ACME",
)
case(
    "epochs in ns",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    lines(HOURLY, lambda b: (b.seconds * 10**9, *ohlcv(b)), PLAIN),
    symbol="ACME",
)
case(
    "newest first",
    "ACME_1d.csv",
    "plain",
    DAILY,
    lines(
        DAILY[::-1],
        lambda b: (utc(b, "%b %d, %Y").join('""'), *ohlcv(b)),
        "Date,Open,High,Low,Close,Volume",
    ),
    symbol="ACME",
)
case(
    "afternoons",
    "ACME_1h.csv",
    "plain",
    HOURLY,
    lines(
        HOURLY,
        lambda b: (utc(b, "%m/%d/%Y %I:%M:%S %p"), *ohlcv(b)),
        "Date,Open,High,Low,Close,Volume",
    ),
    symbol="ACME",
)
case("blank lines", "ACME_1h.csv", "plain", HOURLY, PLAIN_LINES + "\n\n", symbol="ACME", left_out=1)
