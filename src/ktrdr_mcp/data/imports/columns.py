"""What a column means, by its name and by what stands in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

MOST_HEADER_LINES: Final = 40
NUMBER: Final = re.compile(r"[-+]?[$€£]?\s?\d[\d.,' \u00a0]*(?:[eE][-+]?\d+)?\s?[%KMBT]?")
EPOCH: Final = re.compile(
    r"\d{9,10}(?:\.\d+)?|\d{12,13}(?:\.0+)?|\d{16}(?:\.0+)?|\d{19}|\d\.\d+[eE]\+?\d+"
)
DAY: Final = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})|(?:19|20)\d{6}"
    r"|[A-Za-z]{3,9}\.? \d{1,2}, \d{4}|\d{1,2}[- ][A-Za-z]{3}[- ]\d{2,4}"
)
CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp][Mm])?|\d{6}|\d{4}")
NAMES: Final[dict[str, frozenset[str]]] = {
    "time": frozenset(
        [
            "time",
            "timestamp",
            "date",
            "datetime",
            "opentime",
            "unix",
            "unixtime",
            "unixtimestamp",
            "tsevent",
            "windowstart",
            "t",
            "gmttime",
            "localtime",
            "datetimeutc",
            "dateutc",
            "utctime",
            "starttime",
            "begin",
            "start",
            "bartime",
            "epoch",
            "ts",
            "candletime",
            "datum",
            "data",
            "fecha",
            "kerzenzeit",
            "opendate",
            "quotedate",
            "tradedate",
            "index",
        ]
    ),
    "open": frozenset(
        [
            "open",
            "o",
            "openprice",
            "priceopen",
            "otwarcie",
            "eroffn",
            "eröffn",
            "eröffnung",
            "erster",
            "apertura",
            "ouv",
            "ouverture",
            "abertura",
            "opening",
        ]
    ),
    "high": frozenset(
        [
            "high",
            "h",
            "highprice",
            "pricehigh",
            "najwyzszy",
            "hoch",
            "máximo",
            "maximo",
            "max",
            "plushaut",
            "maxima",
            "haut",
        ]
    ),
    "low": frozenset(
        [
            "low",
            "l",
            "lowprice",
            "pricelow",
            "najnizszy",
            "tief",
            "mínimo",
            "minimo",
            "min",
            "plusbas",
            "minima",
            "bas",
        ]
    ),
    "close": frozenset(
        [
            "close",
            "c",
            "closeprice",
            "priceclose",
            "last",
            "closelast",
            "zamkniecie",
            "zuletzt",
            "schluss",
            "schlusskurs",
            "último",
            "ultimo",
            "dernier",
            "cierre",
            "closing",
        ]
    ),
    "volume": frozenset(
        [
            "volume",
            "v",
            "vol",
            "wolumen",
            "volumen",
            "realvolume",
            "basevolume",
            "volumebase",
            "volumen",
            "tradedvolume",
            "totalvolume",
        ]
    ),
    "ticks": frozenset(["tickvol", "tickvolume"]),
    "symbol": frozenset(["symbol", "ticker", "sym", "instrument", "rawsymbol", "pair"]),
    "clock": frozenset(["time", "hour", "timeofday", "zeit", "hora"]),
}
PRICES: Final = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Header:
    """The names of a table's columns.

    Args:
        names: as the file has them; empty if it has none.
        rows: lines before the first bar: what comes before the names, they, and more of them.
        preamble: the lines before the names.
        more: the lines between the names and the first bar, as of tickers.
    """

    names: list[str]
    rows: int = 0
    preamble: tuple[str, ...] = ()
    more: tuple[tuple[str, ...], ...] = ()


@dataclass
class Layout:
    """Where the columns of bars stand in a table.

    Args:
        time: of the time, or of the day if there is a clock.
        clock: of the time of day, if it is a column of its own.
        prices: of open, high, low, close.
        volume: if there is one.
        symbol: of the name of what was traded, if rows have one.
        price_scale: what a price is multiplied by.
        zone: in which times without an offset are; None where it must be said.
        guesses: of that zone, with a word each, for whoever must say it.
        day_first: in days like 03/04/2024; None if the rows must tell.
        notes: for whoever imports it.
    """

    time: int
    prices: dict[str, int]
    clock: int | None = None
    volume: int | None = None
    symbol: int | None = None
    price_scale: float = 1.0
    zone: str | None = "UTC"
    guesses: tuple[tuple[str, str], ...] = ()
    day_first: bool | None = None
    notes: list[str] = field(default_factory=list)


def word(name: str) -> str:
    """A column's name without what tools put around it: `1. open`, `<OPEN>`, `Open (USD)`."""
    plain = re.sub(r"^\s*\d+[a-z]?\.\s*|\(.*?\)|[<>]", "", name.strip().lower())
    return re.sub(r"[\s_./-]+", "", plain)


def means(name: str, role: str) -> bool:
    """Whether a column's name is one of a role's."""
    return word(name) in NAMES[role]


def role_places(names: Sequence[str], role: str) -> list[int]:
    """Where a role's columns stand."""
    return [place for place, name in enumerate(names) if means(name, role)]


def has_prices(names: Sequence[str]) -> bool:
    """Whether names of columns are those of bars; Investing calls the close a price."""
    closes = role_places(names, "close") or [
        n for n, one in enumerate(names) if word(one) == "price"
    ]
    return bool(closes) and all(role_places(names, role) for role in ("open", "high", "low"))


def is_number(cell: str) -> bool:
    """Whether a cell is a number, with whatever marks."""
    return NUMBER.fullmatch(cell.strip()) is not None


def is_time(cell: str) -> bool:
    """Whether a cell begins like a day or is an epoch."""
    text = cell.strip()
    return EPOCH.fullmatch(text) is not None or DAY.match(text) is not None


def is_bar(row: Sequence[str]) -> bool:
    """Whether a line has a time and four prices."""
    times = [place for place, cell in enumerate(row) if is_time(cell)]
    if not times:
        return False
    rest = [cell for place, cell in enumerate(row) if place != times[0] and is_number(cell)]
    return len(rest) >= len(PRICES)


def find_header(rows: Sequence[Sequence[str]]) -> Header | None:
    """The names of the columns, however many lines come before and after them.

    Args:
        rows: the first lines of a table.
    Returns:
        nothing if there are neither names nor bars.
    """
    for number, row in enumerate(rows[:MOST_HEADER_LINES]):
        if has_prices(row):
            after = number + 1
            while after < len(rows) and not is_bar(rows[after]) and after < number + 4:
                after += 1
            more = rows[number + 1 : after]
            if after >= len(rows) or not is_bar(rows[after]):
                after, more = number + 1, []
            before = tuple(", ".join(one) for one in rows[:number] if any(one))
            kept = tuple(tuple(one) for one in more if any(one))
            return Header(list(row), after, before, kept + tickers(rows[:number]))
        if is_bar(row):
            before = tuple(", ".join(one) for one in rows[:number] if any(one))
            return Header([], number, before)
    return None


def tickers(before: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Lines above the names that name tickers, as yfinance grouped by ticker writes them."""
    return tuple(tuple(one) for one in before if one and word(one[0]) == "ticker")


def layout_of(names: Sequence[str], head: Sequence[Sequence[str]]) -> Layout | None:
    """The columns of bars by their names, or by their order where there are none.

    Args:
        names: of the columns; empty if the file has none.
        head: the first rows.
    Returns:
        nothing if they cannot be told apart.
    """
    return by_names(names, head) if names else by_order(head)


def by_names(names: Sequence[str], head: Sequence[Sequence[str]]) -> Layout | None:
    """The columns by their names."""
    prices = {}
    for role in PRICES:
        places = role_places(names, role)
        if role == "close" and not places:
            places = [place for place, one in enumerate(names) if word(one) == "price"]
        if not places:
            return None
        prices[role] = places[0]
    time = time_place(names, head, set(prices.values()))
    if time is None:
        return None
    layout = Layout(time, prices, clock=clock_place(names, head, time))
    volumes = role_places(names, "volume") or [
        place
        for place, one in enumerate(names)
        if one.strip().lower().startswith(("volume ", "vol"))
    ]
    ticks = role_places(names, "ticks")
    if ticks and (not volumes or not any(number_of(cells(head, volumes[0])))):
        volumes = ticks
        layout.notes.append("The volume is the number of ticks.")
    layout.volume = volumes[0] if volumes else None
    symbols = role_places(names, "symbol")
    layout.symbol = symbols[0] if symbols else None
    if any(word(one) == "adjclose" for one in names):
        layout.notes.append("Adj Close is left out: prices are as traded, adjusted for splits.")
    return layout


def number_of(texts: Sequence[str]) -> list[bool]:
    """Which cells are numbers other than zero."""
    return [is_number(one) and re.search(r"[1-9]", one) is not None for one in texts]


def cells(head: Sequence[Sequence[str]], place: int) -> list[str]:
    """What stands in a column of the first rows."""
    return [row[place] for row in head if place < len(row) and row[place]]


def time_place(names: Sequence[str], head: Sequence[Sequence[str]], used: set[int]) -> int | None:
    """Where the time stands: a column called so that has times, else the first that has."""

    def timely(place: int) -> bool:
        texts = cells(head, place)
        return bool(texts) and sum(map(is_time, texts)) * 2 > len(texts)

    named = [place for place in role_places(names, "time") if timely(place)]
    closing = [place for place in named if word(names[place]).startswith("close")]
    whole = [place for place in named if place not in closing and not is_day_alone(head, place)]
    free = [place for place in range(len(names)) if place not in used and timely(place)]
    return next(iter([*whole, *named, *free]), None)


def is_day_alone(head: Sequence[Sequence[str]], place: int) -> bool:
    """Whether a column has days without a time of day."""
    return all(DAY.fullmatch(cell) is not None for cell in cells(head, place))


def clock_place(names: Sequence[str], head: Sequence[Sequence[str]], time: int) -> int | None:
    """Where the time of day stands, if days and times are two columns."""
    if not is_day_alone(head, time):
        return None
    for place in role_places(names, "clock"):
        texts = cells(head, place)
        if place != time and texts and all(CLOCK.fullmatch(one) is not None for one in texts):
            return place
    return None


def by_order(head: Sequence[Sequence[str]]) -> Layout | None:
    """The columns of a table without names: a time, maybe a time of day, then the prices."""
    row = head[0]
    times = [place for place, cell in enumerate(row) if is_time(cell)]
    if not times:
        return None
    time = times[0]
    clock, first = None, time + 1
    texts = cells(head, first)
    marked = bool(texts) and all(":" in one and CLOCK.fullmatch(one) for one in texts)
    compact = bool(texts) and all(len(one) in {4, 6} and one.isdigit() for one in texts)
    if is_day_alone(head, time) and (marked or compact):
        clock, first = first, first + 1
    if len(row) < first + len(PRICES):
        return None
    prices = {role: first + number for number, role in enumerate(PRICES)}
    volume = first + len(PRICES)
    return Layout(time, prices, clock=clock, volume=volume if volume < len(row) else None)
