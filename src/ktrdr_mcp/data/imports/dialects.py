"""The dialects: how each tool's files are told from the others', and what is peculiar to them.

One dialect is one entry of DIALECTS, which are tried in order. What columns mean by their names is
in `columns`; an entry only says by what its files are recognised and what their columns do not say:
zone, scale, symbol.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ktrdr_mcp.data.imports.cells import is_epoch
from ktrdr_mcp.data.imports.columns import DAY, Layout, cells, word
from ktrdr_mcp.data.imports.tables import Table, refuse_file
from ktrdr_mcp.errors import InvalidRequest, did_you_mean, quote

BROKERS: Final = (
    ("NY+7", "New York and seven hours, as most brokers for MetaTrader have it"),
    ("Europe/Athens", "Eastern Europe, with Europe's summer time"),
    ("UTC", "a few"),
)
STATIONS: Final = (
    ("America/New_York", "New York, where most charts are kept"),
    ("America/Chicago", "Chicago, for futures"),
    ("UTC", "charts that are kept in UTC"),
)
EXCHANGES: Final = [
    "BINANCE",
    "COINBASE",
    "KRAKEN",
    "BITSTAMP",
    "BYBIT",
    "OKX",
    "BITFINEX",
    "GEMINI",
    "NASDAQ",
    "NYSE",
    "AMEX",
    "FX",
    "OANDA",
    "FOREXCOM",
    "CME",
    "CBOT",
    "NYMEX",
    "COMEX",
    "CBOE",
    "ICEUS",
    "TVC",
    "SP",
    "INDEX",
    "CRYPTO",
    "XETR",
    "LSE",
    "TSX",
    "BATS",
    "ARCA",
    "DAT",
    "ASCII",
    "MT",
    "NT",
]


@dataclass(frozen=True)
class Dialect:
    """One tool's way to write bars.

    Args:
        name: as `--from` has it.
        title: for people.
        matches: whether a table is one.
        settle: puts what is peculiar into the layout, for a symbol if one is wanted.
        file_name: finds symbol and timeframe in a file's name, where the tool puts them.
    """

    name: str
    title: str
    matches: Callable[[Table, Layout], bool]
    settle: Callable[[Table, Layout, str | None], None] = lambda table, layout, symbol: None
    file_name: str | None = None


def words(table: Table) -> set[str]:
    """The names of a table's columns, without what tools put around them."""
    return {word(one) for one in table.header.names}


def has(*names: str) -> Callable[[Table, Layout], bool]:
    """Matches tables with all of these columns."""
    wanted = set(names)
    return lambda table, layout: wanted <= words(table)


def first(table: Table, place: int) -> str:
    """A cell of the first row; no text if there is none."""
    row = table.head[0] if table.head else []
    return row[place] if place < len(row) else ""


def in_zone(
    name: str | None, guesses: tuple[tuple[str, str], ...] = ()
) -> Callable[[Table, Layout, str | None], None]:
    """Settles in which zone times without an offset are; None: it must be said."""

    def settle(table: Table, layout: Layout, symbol: str | None) -> None:
        layout.zone, layout.guesses = name, guesses

    return settle


def headerless(columns: int, *epochs: int) -> Callable[[Table, Layout], bool]:
    """Matches tables without names, of so many columns, with epochs at these places."""

    def matches(table: Table, layout: Layout) -> bool:
        row = table.head[0]
        return (
            not table.header.names
            and len(row) == columns
            and all(is_epoch(row[place]) for place in epochs)
        )

    return matches


def either(*ways: Callable[[Table, Layout], bool]) -> Callable[[Table, Layout], bool]:
    """Matches what one of several matches."""
    return lambda table, layout: any(one(table, layout) for one in ways)


def is_yfinance(table: Table, layout: Layout) -> bool:
    """Names with a line of tickers below or above, dividends and splits, or Adj Close."""
    tickers = any(word(one[0]) == "ticker" for one in table.header.more)
    return (
        tickers
        or {"dividends", "stocksplits"} <= words(table)
        or ("adjclose" in words(table) and table.kind == "csv")
        or (
            table.header.names[1:] == ["Close", "High", "Low", "Open", "Volume"]
            and word(table.header.names[0]) in {"date", "datetime", ""}
        )
    )


def settle_yfinance(table: Table, layout: Layout, symbol: str | None) -> None:
    """Takes the columns of one ticker; a table may have those of several."""
    line = next((one for one in table.header.more if word(one[0]) == "ticker"), None)
    if line is None:
        return
    tickers = list(dict.fromkeys(cell for cell in line[1:] if cell))
    chosen = choose(tickers, symbol, table.name)
    table.about["symbol"] = chosen
    mine = [place for place, cell in enumerate(line) if cell == chosen]
    names = [word(one) for one in table.header.names]
    for role in layout.prices:
        layout.prices[role] = next(place for place in mine if names[place] == role)
    layout.volume = next((place for place in mine if names[place] == "volume"), None)


def choose(symbols: list[str], wanted: str | None, name: str) -> str:
    """The one symbol that is wanted of those in a file. Raises DataInvalid."""
    if len(symbols) == 1:
        return symbols[0]
    alike = [one for one in symbols if wanted is not None and bare(one) == bare(wanted)]
    if len(alike) == 1:
        return alike[0]
    listed = ", ".join(symbols[:8]) + (f" and {len(symbols) - 8} more" if len(symbols) > 8 else "")
    what = f"has the bars of {len(symbols)} symbols ({listed})"
    raise refuse_file(name, what, "Say which one with --symbol, and import each by itself.")


def bare(symbol: str) -> str:
    """A symbol without what tools separate its parts by."""
    return re.sub(r"[^A-Z0-9^]", "", symbol.upper())


def settle_databento(table: Table, layout: Layout, symbol: str | None) -> None:
    """Prices are whole numbers of 1e-9, unless they were written as decimals."""
    if all("." not in cell for cell in cells(table.head, layout.prices["close"])):
        layout.price_scale = 1e-9
        layout.notes.append("Prices are in units of 1e-9.")
    if layout.symbol is None and "instrumentid" in words(table):
        layout.symbol = [word(one) for one in table.header.names].index("instrumentid")


def is_metatrader_4(table: Table, layout: Layout) -> bool:
    """A day with points, a time of day, four prices and a volume, without names."""
    row = table.head[0]
    return (
        not table.header.names
        and len(row) in {6, 7}
        and re.fullmatch(r"\d{4}\.\d\d\.\d\d", row[0]) is not None
        and layout.clock == 1
        and not table.stem.upper().startswith("DAT_")
    )


def is_histdata(table: Table, layout: Layout) -> bool:
    """A day and a time of day without marks, then semicolons; or its name for MetaTrader."""
    compact = re.fullmatch(r"\d{8} \d{6}", first(table, 0)) is not None
    named = re.match(r"DAT_(MT|ASCII|NT|MS)_", table.stem.upper()) is not None
    return not table.header.names and (named or (compact and table.delimiter == ";"))


def is_dukascopy(table: Table, layout: Layout) -> bool:
    """`Gmt time`, `Local time`, or `Time (EET)` beside prices and a volume."""
    name = table.header.names[layout.time] if table.header.names else ""
    return word(name) in {"gmttime", "localtime"} or (
        re.fullmatch(r"\s*Time \((\w+)\)\s*", name) is not None
    )


def settle_dukascopy(table: Table, layout: Layout, symbol: str | None) -> None:
    """The name of the column says the zone."""
    name = table.header.names[layout.time]
    said = re.search(r"\((\w+)\)", name)
    if said is not None:
        layout.zone = said[1]
    elif word(name) == "localtime":
        layout.zone, layout.guesses = None, STATIONS
    layout.day_first = True


def is_cryptodatadownload(table: Table, layout: Layout) -> bool:
    """Its address above the names, or its pair of volumes."""
    address = any("cryptodatadownload" in one.lower() for one in table.header.preamble)
    volumes = [one for one in table.header.names if one.lower().startswith("volume ")]
    return address or (len(volumes) >= 2 and "symbol" in words(table))


def settle_cryptodatadownload(table: Table, layout: Layout, symbol: str | None) -> None:
    """Of its two volumes, the one in units of what is traded."""
    pair = first(table, layout.symbol) if layout.symbol is not None else ""
    for place, name in enumerate(table.header.names):
        unit = name.lower().removeprefix("volume ").strip()
        if name.lower().startswith("volume ") and pair.lower().startswith(unit):
            layout.volume = place


def is_interactive_brokers(table: Table, layout: Layout) -> bool:
    """The columns of BarData: average and barCount, or wap and count."""
    found = words(table)
    return {"average", "barcount"} <= found or ({"wap", "count"} <= found and "date" in found)


def is_alpha_vantage(table: Table, layout: Layout) -> bool:
    """Numbered names, its adjusted columns, or its own order: newest first, without a zone."""
    names = [one.strip().lower() for one in table.header.names]
    numbered = any(re.match(r"1[a-z]?\. open", one) for one in names)
    adjusted = {"adjustedclose", "dividendamount"} <= words(table)
    plain = names == ["timestamp", "open", "high", "low", "close", "volume"]
    times = [row[0] for row in table.head[:2]]
    falling = len(times) == 2 and times[1] < times[0] and re.fullmatch(r"[-\d: ]+", times[0])
    return numbered or adjusted or (plain and bool(falling))


def settle_alpha_vantage(table: Table, layout: Layout, symbol: str | None) -> None:
    """Times of day are New York's, unless the reply says another zone."""
    layout.zone = table.about.get("zone", "America/New_York")
    if {"adjustedclose"} & words(table):
        layout.notes.append("Adjusted close is left out: prices are as traded.")


def is_stooq(table: Table, layout: Layout) -> bool:
    """Its names in Polish, or those of its database with ticker and period."""
    return "otwarcie" in words(table) or {"ticker", "per", "date", "openint"} <= words(table)


def is_sierra(table: Table, layout: Layout) -> bool:
    """Date, Time and Last beside the number of trades or the volumes of bid and ask."""
    found = words(table)
    return {"date", "time", "last"} <= found and bool(
        found & {"numberoftrades", "bidvolume", "#oftrades"}
    )


def is_tradingview(table: Table, layout: Layout) -> bool:
    """`time,open,high,low,close` in small letters, then whatever the chart shows."""
    names = table.header.names
    if names[:5] != ["time", "open", "high", "low", "close"]:
        return False
    cell = first(table, 0)
    shown_as = is_epoch(cell) or "T" in cell or DAY.fullmatch(cell) is not None
    return shown_as and (len(names) == 5 or names[5] not in {"volume", "tick_volume"})


def is_polygon(table: Table, layout: Layout) -> bool:
    """Its flat files, its aggregates, or the letters of its replies."""
    found = words(table)
    return (
        {"windowstart", "transactions"} <= found
        or {"vwap", "transactions"} <= found
        or ({"v", "vw", "o", "c", "h", "l", "t"} <= found and not is_text_time(table, layout))
    )


def is_text_time(table: Table, layout: Layout) -> bool:
    """Whether its times are text, not numbers."""
    return not is_epoch(first(table, layout.time))


def settle_kraken(table: Table, layout: Layout, symbol: str | None) -> None:
    """Without names, the replies of its API have an average price before the volume."""
    if not table.header.names and len(table.head[0]) == 8:
        layout.volume = layout.prices["close"] + 2


def is_freqtrade(table: Table, layout: Layout) -> bool:
    """Feather with a date and five columns, or JSON of lists, under its kind of name."""
    if table.kind == "feather":
        return table.header.names == ["date", "open", "high", "low", "close", "volume"]
    return (
        table.kind == "json"
        and not table.header.names
        and len(table.head[0]) == 6
        and re.match(r"[A-Z0-9]+_[A-Z0-9]+(_[A-Z0-9]+)?-\d+[a-zA-Z]", table.stem) is not None
    )


def is_metatrader_5(table: Table, layout: Layout) -> bool:
    """Names in angle brackets with the number of ticks, or what its Python package gives."""
    return {"date", "tickvol", "spread"} <= words(table) or {
        "tickvolume", "spread", "realvolume"
    } <= words(table)  # fmt: skip


BROKER_TIME: Final = in_zone(None, BROKERS)
DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect(
        "databento", "Databento", has("tsevent", "open", "close"), settle_databento
    ),
    Dialect(
        "metatrader5", "MetaTrader 5", is_metatrader_5, BROKER_TIME,
        r"(?P<symbol>[A-Za-z0-9.#^-]+?)_(?P<timeframe>(?:M|H|D|W)\w*?\d*)_\d{8,12}_\d{8,12}",
    ),
    Dialect("histdata", "HistData", is_histdata, in_zone("-05:00"),
            r"DAT_(?:MT|ASCII|NT|MS)_(?P<symbol>[A-Z0-9]+)_(?P<timeframe>[A-Z0-9]+)_\d+"),
    Dialect("metatrader4", "MetaTrader 4", is_metatrader_4, BROKER_TIME,
            r"(?P<symbol>[A-Za-z.#^-]+?)(?P<timeframe>1|5|15|30|60|240|1440|10080)"),
    Dialect(
        "cryptodatadownload", "CryptoDataDownload",
        is_cryptodatadownload, settle_cryptodatadownload,
    ),
    Dialect("yfinance", "Yahoo Finance (yfinance)",
            lambda table, layout: bool(table.header.names) and is_yfinance(table, layout),
            settle_yfinance),
    Dialect("investing", "Investing.com",
            lambda table, layout: "price" in words(table) or bool(
                {"zuletzt", "último", "ultimo", "dernier"} & words(table)),
            file_name=r"(?P<symbol>[A-Za-z0-9]+)[ _](?:Historical Data|Historische Daten).*"),
    Dialect("nasdaq", "Nasdaq", has("closelast")),
    Dialect("sierra", "Sierra Chart", is_sierra, in_zone(None, STATIONS)),
    Dialect("dukascopy", "Dukascopy", is_dukascopy, settle_dukascopy,
            r"(?P<symbol>[A-Z0-9.]+)_(?:Candlestick_|UTC_)?(?P<timeframe>\d+_?[A-Za-z]+|Daily|Hourly)_.*"),
    Dialect("alphavantage", "Alpha Vantage", is_alpha_vantage, settle_alpha_vantage),
    Dialect("stooq", "Stooq", is_stooq, in_zone("Europe/Warsaw"),
            r"(?P<symbol>[A-Za-z0-9^]+)(?:[._][a-z]{2})?_(?P<timeframe>[dwm])"),
    Dialect("interactivebrokers", "Interactive Brokers", is_interactive_brokers,
            in_zone(None, STATIONS)),
    Dialect("alpaca", "Alpaca", either(
        has("tradecount", "vwap"),
        lambda table, layout: {"t", "o", "h", "l", "c", "vw"} <= words(table)
        and is_text_time(table, layout),
    )),
    Dialect("polygon", "Polygon", is_polygon),
    Dialect("binance", "Binance", either(
        headerless(12, 0, 6), has("opentime", "closetime", "open"),
        has("takerbuyvolume"), has("takerbuybaseassetvolume"),
    ), file_name=r"(?P<symbol>[A-Z0-9]+)(?:_\w+)?-(?P<timeframe>\d+\w{1,2})-\d{4}-\d\d(?:-\d\d)?"),
    Dialect("kraken", "Kraken", either(
        headerless(7, 0), headerless(8, 0), has("vwap", "count", "time"),
        has("vwap", "trades", "time"),
        has("trades", "timestamp"),
    ), settle_kraken, file_name=r"(?P<symbol>[A-Z0-9]+)_(?P<timeframe>\d+)"),
    Dialect("freqtrade", "freqtrade", is_freqtrade,
            file_name=r"(?P<symbol>[A-Z0-9]+_[A-Z0-9]+(?:_[A-Z0-9]+)?)-(?P<timeframe>\d+\w)(?:-futures)?"),
    Dialect("ccxt", "ccxt", either(
        headerless(6, 0),
        lambda table, layout: table.kind != "parquet" and bool(table.header.names) and
        table.header.names[layout.time] in {"timestamp", "time", "date", "datetime"}
        and re.fullmatch(r"\d{13}", first(table, layout.time)) is not None,
    )),
    Dialect(
        "tradingview", "TradingView",
        lambda table, layout: bool(table.header.names) and is_tradingview(table, layout),
        file_name=r"(?:[A-Z]+_)?(?P<symbol>[A-Za-z0-9.!^]+), (?P<timeframe>\d*[A-Za-z]?)(?:_\w+)?",
    ),
    Dialect("plain", "a plain table", lambda table, layout: True),
)  # fmt: skip
BY_NAME: Final = {one.name: one for one in DIALECTS}


def dialect_named(name: str) -> Dialect:
    """The dialect of a name. Raises InvalidRequest."""
    if name not in BY_NAME:
        raise InvalidRequest(
            f"{quote(name)} is not a dialect.{did_you_mean(name, BY_NAME)}",
            hint=f"Use one of {', '.join(BY_NAME)}, or leave it out: it is recognised.",
            field="dialect",
        )
    return BY_NAME[name]


def recognise(table: Table, layout: Layout) -> Dialect:
    """The first dialect that a table is."""
    return next(one for one in DIALECTS if one.matches(table, layout))
