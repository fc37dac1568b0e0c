"""The checks that every source of `data fetch` must pass, for its author to run.

    check_source(MyFeed, "", "BTC/USDT", "1h", since="2024-01-01")

asks the source itself. Where the server is one's own, `breaks` has its next answer broken, too.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Final

from ktrdr_mcp.data.bars import width_ns
from ktrdr_mcp.data.feeds.base import Feed, FeedBusy, Page, Row
from ktrdr_mcp.data.fetching import ask_patiently
from ktrdr_mcp.data.timestamps import format_timestamp, parse_timestamp
from ktrdr_mcp.data.validation import ROUNDING
from ktrdr_mcp.errors import InvalidRequest, KtrdrError
from ktrdr_mcp.paths import TIMEFRAME_MINUTES

ABSENT: Final = "NOSUCHSYMBOL"
MOST_PAGES: Final = 1_000
PAGE_ROWS: Final = 200_000  # a page is kept as one file, and held in memory
CLOCK_NS: Final = 86_400 * 10**9  # how far two clocks may lie apart
WAIT_S: Final = 1.0  # of the answer "429", in its Retry-After
BROKEN: Final = {"429": WAIT_S, "429 bare": None, "html": None, "cut": None}


def check_source(
    kind: type[Feed],
    venue: str,
    symbol: str,
    timeframe: str,
    *,
    since: str,
    absent: str = ABSENT,
    breaks: Callable[[str], None] | None = None,
) -> list[Row]:
    """Checks whether a source keeps its promises, on a series of at least two finished bars.

    It says what it is; its pages are in order, sound, and go on where the one before ended, for a
    process that begins anew as well; the same question has the same answer; no bar lies in the
    future; the end of a series, a symbol that is not there and a timeframe that it lacks are said
    as such; and where `breaks` is given, an answer that is none is FeedBusy, with the time to wait.

    Args:
        kind: the source.
        venue: what stands behind the colon of a source.
        symbol: of the series.
        timeframe: of the series.
        since: its first day.
        absent: a symbol that the source does not have.
        breaks: has the next answer broken: "429" says Retry-After: 1, "429 bare" does not, "html"
            is a page of HTML with status 503, "cut" ends before its Content-Length.
    Returns:
        the bars of the series, each once, oldest first.
    Raises:
        AssertionError: it breaks a promise, which the message names.
    """
    check_words(kind)
    since_ns = parse_timestamp(since, "since", end_of_day=False)

    def opened(of: str = symbol) -> Feed:
        return kind(venue, of, timeframe)

    feed = opened()
    now_ns = feed.now_ns()
    require(abs(now_ns - time.time_ns()) < CLOCK_NS, "its clock is more than a day off")
    pages = read_pages(lambda: feed, since_ns)
    rows = joined(pages)
    require(len(rows) >= 2, "the series has fewer than two bars; check it on a longer one")
    check_rows(rows, since_ns - width_ns(timeframe), feed.now_ns())
    final = [row for row in rows if row[0] + width_ns(timeframe) <= now_ns]
    require(len(final) >= 2, "the series has fewer than two finished bars")
    check_resuming(opened, since_ns, final, timeframe)
    check_end(opened(), final[-1][0], timeframe)
    check_absent(lambda: opened(absent), since_ns)
    check_other_timeframes(kind, venue, symbol)
    if breaks is not None:
        check_broken(opened(), since_ns, final, breaks)
    return rows


def check_words(kind: type[Feed]) -> None:
    """What a source says of itself."""
    require(kind.name.isidentifier(), "its name is no plain word")
    require(kind.example.partition(":")[0] == kind.name, "its example is no source of its name")
    require(kind.adjustment in {"raw", "split", "all"}, "its adjustment is not raw, split or all")
    require(not set(kind.timeframes) - set(TIMEFRAME_MINUTES), "a timeframe is not known")


def read_pages(opened: Callable[[], Feed], since_ns: int) -> list[Page]:
    """Every page from a time on; each is asked of what `opened` gives."""
    pages, after = list[Page](), since_ns
    while len(pages) < MOST_PAGES:
        page = ask_patiently(opened(), after, lambda _: None)
        require(len(page.rows) <= PAGE_ROWS, f"a page has more than {PAGE_ROWS:,} bars")
        pages.append(page)
        if page.after is None or page.after <= after:
            return pages
        if page.rows:
            require(page.after > page.rows[0][0], "a page goes on before its own first bar")
        after = page.after
    raise AssertionError(f"The source is not sound: it has no end within {MOST_PAGES:,} pages.")


def joined(pages: list[Page]) -> list[Row]:
    """The bars of pages, each once; a page may repeat some of the one before."""
    rows = list[Row]()
    for page in pages:
        times = [row[0] for row in page.rows]
        require(all(a < b for a, b in itertools.pairwise(times)), "a page is not in order")
        if rows and times:
            require(times[-1] >= rows[-1][0], "a page ends before the one that it follows")
        rows += [row for row in page.rows if not rows or row[0] > rows[-1][0]]
    return rows


def check_rows(rows: list[Row], earliest_ns: int, now_ns: int) -> None:
    """What is required of bars."""
    for row in rows:
        where = f"the bar of {format_timestamp(row[0])}"
        require(isinstance(row[0], int) and len(row) == 6, "a row is not a time and five numbers")
        opened, high, low, close, volume = row[1:]
        require(all(map(math.isfinite, row[1:])), f"{where} has a value that is no number")
        require(low > 0, f"{where} has a price that is not positive")
        inside = low * (1 - ROUNDING) <= min(opened, close)
        inside = inside and max(opened, close) <= high * (1 + ROUNDING)
        require(inside, f"{where} has a price outside low to high")
        require(volume >= 0, f"{where} has a negative volume")
    require(rows[0][0] >= earliest_ns, "its first bar is older than what was asked for")
    require(rows[-1][0] <= now_ns, "a bar opens in the future: times are those of its opening")


def check_resuming(
    opened: Callable[[], Feed], since_ns: int, final: list[Row], timeframe: str
) -> None:
    """A fetch that begins anew anywhere comes to the same bars."""
    again = joined(read_pages(opened, since_ns))[: len(final)]
    require(again == final, "asked again, a new process at each page, it has other bars")
    middle = final[len(final) // 2]
    rows = joined(read_pages(opened, middle[0]))
    begin = next((place for place, row in enumerate(rows) if row[0] >= middle[0]), len(rows))
    rest = final[len(final) // 2 :]
    require(
        rows[begin : begin + len(rest)] == rest, "from a bar in the middle on, it has other bars"
    )
    require(
        not begin or rows[0][0] > middle[0] - width_ns(timeframe) * 2, "it begins long before that"
    )


def check_end(feed: Feed, last_ns: int, timeframe: str) -> None:
    """Behind the last bar there is nothing but what is not finished, and an end."""
    rows = joined(read_pages(lambda: feed, last_ns + width_ns(timeframe)))
    settled = feed.now_ns() - width_ns(timeframe)
    late = [row for row in rows if last_ns < row[0] <= settled]
    require(len(late) <= 1, "behind its last bar there are more")  # one may have ended meanwhile


def check_absent(opened: Callable[[], Feed], since_ns: int) -> None:
    """A symbol that is not there is refused, or has no bars."""
    try:
        rows = joined(read_pages(opened, since_ns))
    except KtrdrError as error:
        require(bool(error.message and error.hint), "a refusal does not say what to do")
        return
    require(not rows, "it has bars of a symbol that does not exist")


def check_other_timeframes(kind: type[Feed], venue: str, symbol: str) -> None:
    """A timeframe that it lacks is refused when it is opened."""
    for timeframe in TIMEFRAME_MINUTES:
        try:
            kind(venue, symbol, timeframe)
        except InvalidRequest as error:
            require(error.field == "timeframe", f"it refuses {timeframe} for another reason")
        else:
            there = not kind.timeframes or timeframe in kind.timeframes
            require(there, f"it takes {timeframe}, which it says it does not have")


def check_broken(
    feed: Feed, since_ns: int, final: list[Row], breaks: Callable[[str], None]
) -> None:
    """An answer that is none is FeedBusy, and the same question is answered the next time."""

    def first_page() -> list[Row]:
        return [row for row in feed.page(since_ns).rows if row[0] <= final[-1][0]]

    first = first_page()
    require(first == final[: len(first)], "the first page has other bars")
    for kind, wait_s in BROKEN.items():
        breaks(kind)
        try:  # a client that asks again by itself gets the answer
            require(first_page() == first, f'"{kind}" is taken as an answer')
        except FeedBusy as busy:
            require(bool(busy.reason), f'"{kind}" is FeedBusy without a reason')
            require(busy.wait_s in {wait_s, None}, f'"{kind}" is to be waited for {busy.wait_s} s')
        require(first_page() == first, f'after "{kind}" it has other bars')


def require(condition: bool, otherwise: str) -> None:
    """Raises AssertionError with the given words unless the condition holds."""
    if not condition:
        raise AssertionError(f"The source is not sound: {otherwise}.")
