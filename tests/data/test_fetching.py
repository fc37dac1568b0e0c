"""Paging, joining and keeping of fetched bars, by a feed that is made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ktrdr_mcp.data import fetching
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.feeds import feed_named, feeds
from ktrdr_mcp.data.feeds.base import Feed, FeedBusy, Page, Row
from ktrdr_mcp.errors import Conflict, FeedFailed, InvalidRequest, NotEnoughData

HOUR_NS = 3_600 * 10**9
BEGIN_NS = 1_704_067_200 * 10**9  # 2024-01-01


def price_row(number: int) -> Row:
    close = 100 + float(np.sin(number))
    return (BEGIN_NS + number * HOUR_NS, close, close + 2, close - 2, close, 5.0 + number % 7)


class MadeFeed(Feed):
    """A feed of hourly bars.

    Attributes:
        rows: all that it has.
        page_bars: how many come at once.
        faults: what it does at each question, in order, instead of answering.
        now: its clock.
    """

    def __init__(self, count: int, page_bars: int = 40) -> None:
        self.rows = [price_row(number) for number in range(count)]
        self.page_bars = page_bars
        self.faults: list[Callable[[Page], Page]] = []
        self.now = BEGIN_NS + (count - 1) * HOUR_NS + HOUR_NS // 2  # the last bar is under way
        self.asked: list[int] = []

    def page(self, since_ns: int) -> Page:
        self.asked.append(since_ns)
        rows = [row for row in self.rows if row[0] >= since_ns][: self.page_bars]
        more = bool(rows) and rows[-1][0] < self.rows[-1][0]
        page = Page(rows, rows[-1][0] + 1 if more else None)
        return self.faults.pop(0)(page) if self.faults else page

    def now_ns(self) -> int:
        return self.now


def busy(wait_s: float | None) -> Callable[[Page], Page]:
    def fault(page: Page) -> Page:
        raise FeedBusy("429", wait_s)

    return fault


def fetched(feed: MadeFeed, folder: Path, since: int = BEGIN_NS) -> Bars:
    rows = fetching.fetch_rows(
        feed, since, fetching.Pages(folder), lambda _: None, lambda seconds: None
    )
    return fetching.final_bars(rows, "X", "1h", feed.now_ns())


def times(count: int) -> list[int]:
    return [BEGIN_NS + number * HOUR_NS for number in range(count)]


def test_every_final_bar_comes_once_and_the_unfinished_one_never(tmp_path: Path) -> None:
    bars = fetched(MadeFeed(100), tmp_path)
    assert bars.time.tolist() == times(99)


def test_a_repeated_page_and_overlapping_pages_come_once(tmp_path: Path) -> None:
    feed = MadeFeed(100)
    first = feed.rows[:40]
    feed.faults = [lambda page: page, lambda page: Page([*first, *page.rows], page.after)]
    assert fetched(feed, tmp_path).time.tolist() == times(99)


def test_a_feed_that_repeats_itself_for_ever_comes_to_an_end(tmp_path: Path) -> None:
    feed = MadeFeed(100)
    feed.faults = [lambda page: Page(page.rows, BEGIN_NS)] * 5
    assert fetched(feed, tmp_path).time.tolist() == times(40)


def test_a_cut_page_is_gone_on_from(tmp_path: Path) -> None:
    feed = MadeFeed(100)
    feed.faults = [lambda page: Page(page.rows[:7], page.rows[6][0] + 1)]
    assert fetched(feed, tmp_path).time.tolist() == times(99)


def test_a_busy_feed_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    feed, waited = MadeFeed(50), list[float]()
    feed.faults = [busy(7.0), busy(None), busy(None)]
    pages = fetching.Pages(tmp_path)
    rows = fetching.fetch_rows(feed, BEGIN_NS, pages, lambda _: None, waited.append)
    assert waited[0] == 7.0
    assert waited[1] < waited[2] * 1.7
    assert len(rows) == 50


def test_a_feed_that_stays_busy_fails_and_keeps_what_came(tmp_path: Path) -> None:
    feed = MadeFeed(100)
    feed.faults = [lambda page: page, *[busy(None)] * 20]
    with pytest.raises(FeedFailed):
        fetched(feed, tmp_path)
    feed.faults, feed.asked = [], []
    assert fetched(feed, tmp_path).time.tolist() == times(99)
    assert feed.asked[0] == BEGIN_NS + 39 * HOUR_NS + 1  # the first page is not asked for again


def test_a_fetch_that_was_broken_off_anywhere_comes_out_the_same(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(page: Page) -> Page:
        raise Killed

    whole = fetched(MadeFeed(200), tmp_path / "whole")
    for place in range(5):
        feed, folder = MadeFeed(200), tmp_path / str(place)
        feed.faults = [*[lambda page: page] * place, kill]
        with pytest.raises(Killed):
            fetched(feed, folder)
        again = fetched(feed, folder)
        assert again.time.tolist() == whole.time.tolist()
        assert again.close.tolist() == whole.close.tolist()


def test_a_page_that_was_kept_without_its_state_is_asked_for_again(tmp_path: Path) -> None:
    feed = MadeFeed(100)
    pages = fetching.Pages(tmp_path)
    pages.keep(list(feed.rows[:40]), BEGIN_NS, BEGIN_NS + 39 * HOUR_NS + 1, "UTC")
    (tmp_path / "000001.json").write_text("[[1, 2", encoding="utf-8")  # torn by a crash
    assert fetched(feed, tmp_path).time.tolist() == times(99)


def test_an_empty_feed_is_said_to_have_nothing(tmp_path: Path) -> None:
    feed = MadeFeed(1)
    feed.rows = []
    with pytest.raises(NotEnoughData):
        fetched(feed, tmp_path)


def test_a_clock_that_is_ahead_makes_no_bar_final(tmp_path: Path) -> None:
    feed = MadeFeed(100)
    feed.now = BEGIN_NS + 99 * HOUR_NS + 10**10  # by the feed's clock, the last bar just began
    assert fetched(feed, tmp_path).time.tolist() == times(99)


# Joining with what is stored


def stored_and_again(old: int, new: int) -> tuple[Bars, MadeFeed, list[Row]]:
    """So many stored bars, and a feed of the next ones with the last 50 again."""
    stored = fetching.final_bars([price_row(n) for n in range(old)], "X", "1h", 2**62)
    feed = MadeFeed(new + 1, page_bars=10_000)
    return stored, feed, feed.rows


def update(stored: Bars, feed: MadeFeed, folder: Path) -> fetching.Joined:
    return fetching.join(stored, fetched(feed, folder, fetching.overlap_start(stored)))


def test_new_bars_are_appended(tmp_path: Path) -> None:
    stored, feed, _ = stored_and_again(100, 130)
    joined = update(stored, feed, tmp_path)
    assert joined.bars is not None
    assert joined.bars.time.tolist() == times(130)
    assert (joined.new, joined.revised) == (30, 0)
    assert feed.asked == [BEGIN_NS + 50 * HOUR_NS]


def test_nothing_new_changes_nothing(tmp_path: Path) -> None:
    stored, feed, _ = stored_and_again(100, 100)
    joined = update(stored, feed, tmp_path)
    assert joined.bars is not None
    assert joined.bars.close.tolist() == stored.close.tolist()
    assert (joined.new, joined.revised, joined.why) == (0, 0, "nothing new")


def revise(rows: list[Row], number: int, factor: float = 1.0, volume: float = 0.0) -> None:
    time, *prices, traded = rows[number]
    rows[number] = (time, *(price * factor for price in prices), traded + volume)  # type: ignore[assignment]


def test_revised_volumes_are_taken_and_counted(tmp_path: Path) -> None:
    stored, feed, rows = stored_and_again(100, 110)
    revise(rows, 80, volume=3)
    joined = update(stored, feed, tmp_path)
    assert joined.bars is not None
    assert joined.bars.volume[80] == stored.volume[80] + 3
    assert (joined.new, joined.revised) == (10, 1)


def test_a_revised_price_is_refused_with_its_place(tmp_path: Path) -> None:
    stored, feed, rows = stored_and_again(100, 110)
    revise(rows, 80, factor=1.01)
    with pytest.raises(Conflict, match="2024-01-04T08:00:00Z"):
        update(stored, feed, tmp_path)


def test_a_stored_bar_that_is_gone_is_refused_with_its_place(tmp_path: Path) -> None:
    stored, feed, rows = stored_and_again(100, 110)
    del rows[80]
    with pytest.raises(Conflict, match="2024-01-04T08:00:00Z"):
        update(stored, feed, tmp_path)


def test_a_bar_that_came_late_is_taken_and_counted(tmp_path: Path) -> None:
    full, feed, _ = stored_and_again(100, 110)
    kept = np.arange(100) != 80
    stored = Bars("X", "1h", full.time[kept], *(one[kept] for one in full.columns()))
    joined = update(stored, feed, tmp_path)
    assert joined.bars is not None
    assert joined.bars.time.tolist() == times(110)
    assert joined.revised == 1


@pytest.mark.parametrize("since", [80, 100])
def test_a_split_asks_for_the_whole_series_and_says_date_and_factor(
    since: int, tmp_path: Path
) -> None:
    stored, feed, rows = stored_and_again(100, 110)
    for number in range(since):
        revise(rows, number, factor=0.25)
    joined = update(stored, feed, tmp_path)
    assert joined.bars is None
    day = "2024-01-04T08:00:00Z" if since == 80 else "2024-01-05T04:00:00Z"
    assert f"before {day} times 0.25" in joined.why


def test_a_split_of_prices_in_cents_is_still_one_ratio(tmp_path: Path) -> None:
    stored, feed, rows = stored_and_again(100, 110)
    for number in range(100):
        time, *prices, volume = rows[number]
        rows[number] = (time, *(round(price / 3, 2) for price in prices), volume)  # type: ignore[assignment]
    assert update(stored, feed, tmp_path).bars is None


def test_two_ratios_are_no_split(tmp_path: Path) -> None:
    stored, feed, rows = stored_and_again(100, 110)
    for number in range(100):
        revise(rows, number, factor=0.25 if number < 70 else 0.5)
    with pytest.raises(Conflict):
        update(stored, feed, tmp_path)


# The registry


def test_every_feed_has_what_is_said_of_it() -> None:
    assert {"ccxt", "alpaca", "yfinance"} <= set(feeds())
    for name, feed in feeds().items():
        assert feed.name == name
        assert feed.example.startswith(name)
        assert feed.adjustment in {"raw", "split", "all"}


def test_an_unknown_source_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match="ccxt"):
        feed_named("ccxtt:binance")
