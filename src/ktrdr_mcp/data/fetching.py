"""Fetching: pages from a feed, kept one by one, joined with what is stored.

What is stored is never changed in place: new bars, revised volumes and a split each make a version,
and whatever else differs is refused with its places.

A fetch runs in a process of its own, which is this module as a program. Its request is one line of
JSON on standard input, which stays open as long as the parent lives. It reports as lines of JSON,
of which the last has `staged` or `error`, and ends with its parent.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, TypedDict

import numpy as np

from ktrdr_mcp import files
from ktrdr_mcp.data import stored, versions
from ktrdr_mcp.data.bars import COLUMNS, PRICES, Bars, Integers, width_ns
from ktrdr_mcp.data.feeds import feed_named
from ktrdr_mcp.data.feeds.base import Feed, FeedBusy, Page, Row, client_version
from ktrdr_mcp.data.tables import BarTable
from ktrdr_mcp.data.timestamps import SECOND_NS, format_timestamp
from ktrdr_mcp.data.validation import check_bars
from ktrdr_mcp.data.zones import offsets
from ktrdr_mcp.data.zones import zone as named_zone
from ktrdr_mcp.errors import Conflict, FeedFailed, KtrdrError, NotEnoughData
from ktrdr_mcp.paths import Workspace

OVERLAP_BARS: Final = 50
SAME: Final = 1e-6  # share of a price
SPLIT_TOLERANCE: Final = 2e-3  # share of the ratio, or half a cent
HALF_CENT: Final = 0.006
MOST_TRIES: Final = 8
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 300.0
MOST_PAGES: Final = 100_000
PLACES_NAMED: Final = 3
STATE: Final = "state.json"
SETTLING_S: Final = 5  # after the end of a bar, until it is taken as final


@dataclass(frozen=True)
class Progress:
    """How far a fetch has come: pages and bars kept, and the time of the last bar."""

    pages: int
    bars: int
    last_ns: int | None
    note: str = ""


Report = Callable[[Progress], None]


class Pages:
    """The pages of a fetch, in a folder: each is kept before the next is asked for.

    Args:
        folder: of the fetch; what an earlier attempt kept is taken up.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files.make_folder(folder, 0o700)
        path = folder / STATE
        state = json.loads(path.read_bytes()) if path.exists() else {}
        self.count: int = state.get("pages", 0)
        self.bars: int = state.get("bars", 0)
        self.after: int | None = state.get("after")
        self.last: int | None = state.get("last")
        self.begun_at: int | None = state.get("begun_at")
        self.ended: bool = state.get("ended", False)
        self.zone: str = state.get("zone", "UTC")

    def keep(self, rows: list[Row], since: int, after: int | None, zone: str) -> None:
        """Keeps a page, then from where to go on: a crash in between asks for it again."""
        files.replace(self._folder / f"{self.count:06}.json", json.dumps(rows).encode(), 0o600)
        self.count += 1
        self.bars += len(rows)
        self.begun_at = since if self.begun_at is None else self.begun_at
        self.last = rows[-1][0] if rows else self.last
        self.after, self.ended, self.zone = after, after is None, zone
        state = {
            "pages": self.count,
            "bars": self.bars,
            "after": self.after,
            "last": self.last,
            "begun_at": self.begun_at,
            "ended": self.ended,
            "zone": zone,
        }
        files.replace(self._folder / STATE, json.dumps(state).encode(), 0o600)

    def rows(self) -> Iterator[Row]:
        """All bars kept, in the order in which they came."""
        for number in range(self.count):
            for row in json.loads((self._folder / f"{number:06}.json").read_bytes()):
                yield tuple(row)


def fetch_rows(
    feed: Feed,
    since_ns: int,
    pages: Pages,
    report: Report,
    wait: Callable[[float], None] = time.sleep,
) -> list[Row]:
    """All bars of a feed from a time on; goes on where an earlier attempt was broken off.

    Args:
        feed: the feed.
        since_ns: from when on.
        pages: keeps what came.
        report: hears of each page.
        wait: waits for some seconds.
    Returns:
        the bars, each once, oldest first.
    Raises:
        FeedFailed: it does not answer properly, however often it is asked.
        KtrdrError: it refused.
    """
    while not pages.ended:
        since = since_ns if pages.after is None else pages.after
        page = ask_patiently(feed, since, lambda one: report(of(pages, one.note)), wait)
        known = -(2**63) if pages.last is None else pages.last
        rows = sorted({one[0]: one for one in page.rows if one[0] > known}.values())
        after = page.after
        if after is not None and after <= since:
            after = None  # it repeats itself: nothing more is to come
        if pages.count >= MOST_PAGES:
            raise FeedFailed("The feed has no end.", hint="Ask for fewer bars.")
        pages.keep(list(rows), since, after, page.zone)
        report(of(pages, ""))
    return list(pages.rows())


def of(pages: Pages, note: str) -> Progress:
    """How far pages have come."""
    return Progress(pages.count, pages.bars, pages.last, note)


def ask_patiently(
    feed: Feed, since: int, report: Report, wait: Callable[[float], None] = time.sleep
) -> Page:
    """One page, asked for again while the feed is busy: after what it says, else ever longer."""
    reason = ""
    for attempt in range(MOST_TRIES):
        try:
            return feed.page(since)
        except FeedBusy as busy:
            reason = busy.reason
            spread = random.uniform(0.75, 1.25)  # noqa: S311 - several must not come at once
            backoff = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * spread
            pause = backoff if busy.wait_s is None else min(busy.wait_s, LONGEST_WAIT_S)
            report(Progress(0, 0, None, f"waiting {pause:.0f} s: {reason}"))
            wait(pause)
    raise FeedFailed(
        f"The feed did not answer properly {MOST_TRIES} times: {reason}.",
        hint="Try again later; what has come is kept until then.",
    )


def zone_of(folder: Path) -> str:
    """By which clock the series of a fetch names its days."""
    found = "UTC"
    for name in ("update", "all"):
        if (folder / name / STATE).exists():
            found = Pages(folder / name).zone
    return found


def final_bars(
    rows: list[Row], symbol: str, timeframe: str, now_ns: int, zone: str = "UTC"
) -> Bars:
    """The rows as checked bars, without what is not final yet.

    Args:
        rows: each bar once, oldest first.
        symbol: what was traded.
        timeframe: the width of a bar.
        now_ns: the feed's clock.
        zone: by which the series names its days.
    Raises:
        NotEnoughData: there are none.
        DataInvalid: they contradict themselves.
    """
    settled = now_ns - SETTLING_S * SECOND_NS
    kept = [row for row in rows if row[0] + width_ns(timeframe) <= settled]
    if not kept:
        raise NotEnoughData(
            f"The feed has no final {timeframe} bar of {symbol} in this range.",
            hint="Ask for an earlier beginning.",
            field="since",
        )
    time_ns = np.array([row[0] for row in kept], dtype=np.int64)
    array = np.array([row[1:] for row in kept], dtype=np.float64)
    table = BarTable(
        f"{symbol} {timeframe}",
        time_ns,
        np.ones(len(kept), dtype=np.bool_),
        offsets(time_ns, named_zone(zone)),
        {name: np.ascontiguousarray(array[:, place]) for place, name in enumerate(COLUMNS)},
        "bar",
        1,
    )
    return check_bars(table, symbol, timeframe)


@dataclass(frozen=True)
class Joined:
    """A series after an update.

    Args:
        bars: all of it; None if the whole series must be fetched again.
        new: how many bars are new.
        revised: how many stored volumes were changed, or bars came late.
        why: what happened, for people.
    """

    bars: Bars | None
    new: int
    revised: int
    why: str


def overlap_start(stored: Bars) -> int:
    """From when on an update asks: the last bars that are stored are asked for again."""
    return int(stored.time[max(0, len(stored) - OVERLAP_BARS)])


def join(stored: Bars, fetched: Bars) -> Joined:
    """What is stored, with what was fetched behind it.

    Args:
        stored: the newest version.
        fetched: from its last bars on.
    Raises:
        Conflict: bars that are stored are others now, and not by one constant ratio.
    """
    begin = int(np.searchsorted(stored.time, fetched.time[0]))
    old, within = stored.slice(begin, len(stored)), fetched.time <= stored.time[-1]
    again = int(within.sum())
    gone = np.setdiff1d(old.time, fetched.time[within])
    if not again or len(gone):
        raise differing("are not in the feed any more", gone if len(gone) else old.time)
    late = np.setdiff1d(fetched.time[within], old.time)
    places = np.searchsorted(fetched.time, old.time)
    ratio = np.stack([getattr(fetched, name)[places] / getattr(old, name) for name in PRICES])
    cents = HALF_CENT / np.stack([getattr(old, name) for name in PRICES])
    changed = np.abs(ratio - 1) > SAME
    if changed.any():
        return split(old, fetched, places, ratio, cents)
    volumes = int((fetched.volume[places] != old.volume).sum())
    whole = concatenate_bars(stored.slice(0, begin), fetched)
    new = len(fetched) - again
    parts = [f"{new:,} new bars"] if new else []
    if volumes:
        parts.append(f"{volumes:,} revised volumes")
    if len(late):
        parts.append(f"{len(late):,} bars that came late")
    return Joined(whole, new, volumes + len(late), ", ".join(parts) or "nothing new")


def split(old: Bars, fetched: Bars, places: Integers, ratio: Any, cents: Any) -> Joined:
    """A constant ratio up to some bar, for which the whole series must be fetched again.

    Raises:
        Conflict: it is none.
    """
    factor = float(np.median(ratio[:, 0]))
    tolerance = SPLIT_TOLERANCE * factor + cents * max(factor, 1.0)
    scaled = (np.abs(ratio - factor) <= tolerance).all(axis=0)
    same = (np.abs(ratio - 1) <= SAME).all(axis=0)
    until = int(np.argmin(scaled)) if not scaled.all() else len(scaled)
    if until == 0 or abs(factor - 1) <= SAME or not same[until:].all():
        raise differing("have other prices now", old.time[~same])
    if until < len(old):
        since = format_timestamp(int(old.time[until]))
    else:
        behind = int(places[-1]) + 1
        since = (
            format_timestamp(int(fetched.time[behind]))
            if behind < len(fetched)
            else f"after {format_timestamp(int(old.time[-1]))}"
        )
    return Joined(None, 0, 0, f"prices before {since} times {factor:.6g} (a split or dividend)")


def differing(how: str, times: Integers) -> Conflict:
    """The refusal of a feed that contradicts what is stored."""
    listed = ", ".join(format_timestamp(int(one)) for one in times[:PLACES_NAMED])
    more = f" and {len(times) - PLACES_NAMED} more" if len(times) > PLACES_NAMED else ""
    return Conflict(
        f"{len(times)} of the stored bars {how}: {listed}{more}.",
        hint="Nothing was changed. Compare with the source; to take its bars as they are now,"
        " remove the series and fetch it again.",
    )


def concatenate_bars(first: Bars, second: Bars) -> Bars:
    """Two series one behind the other."""
    columns = [
        np.concatenate([one, other])
        for one, other in zip(first.columns(), second.columns(), strict=True)
    ]
    offset = None
    if first.offset is not None or second.offset is not None:
        both = [
            np.zeros(len(one), dtype=np.int64) if one.offset is None else one.offset
            for one in (first, second)
        ]
        offset = np.concatenate(both)
    time_ns = np.concatenate([first.time, second.time])
    return Bars(second.symbol, second.timeframe, time_ns, *columns, offset=offset)


class FetchRequest(TypedDict):
    """What the process that fetches gets: which bars from where on, and where its files lie.

    A `dry_run` fetches a first page and stages nothing.
    """

    workspace: str
    folder: str
    source: str
    symbol: str
    timeframe: str
    since_ns: int
    dry_run: bool


class FetchedBars(TypedDict):
    """What a fetch came to; `why` says in words what is new."""

    first_bar: str
    last_bar: str
    bars: int
    new: int
    revised: int
    why: str
    since_ns: int
    client: str
    adjustment: str
    terms: str
    zone: str


class Fetched(FetchedBars):
    """The same with what was staged of it."""

    staged: stored.Staged | None


def run(request: FetchRequest, report: Report) -> Fetched:
    """Fetches a series and stages what it comes to.

    Args:
        request: which.
        report: hears how far it has come.
    Returns:
        what was staged and what happened. Raises KtrdrError.
    """
    kind, venue = feed_named(request["source"])
    symbol, timeframe = request["symbol"], request["timeframe"]
    workspace, folder = Workspace(Path(request["workspace"])), Path(request["folder"])
    manifest = versions.read_manifest(workspace, symbol, timeframe)
    if manifest is not None and manifest.source != request["source"]:
        raise Conflict(
            f"{symbol} {timeframe} is there already, from {manifest.source}.",
            hint="Remove it first (ktrdr-mcp data remove), or fetch it from there.",
            field="source",
        )
    feed = kind(venue, symbol, timeframe)

    def fetch(name: str, since_ns: int) -> Bars:
        pages = Pages(folder / name)
        rows = fetch_rows(feed, since_ns, pages, report)
        return final_bars(rows, symbol, timeframe, feed.now_ns(), pages.zone)

    def whole(since_ns: int, why: str) -> Joined:
        bars = fetch("all", since_ns)
        return Joined(bars, len(bars), 0, why)

    since_ns = request["since_ns"]
    if request["dry_run"]:
        page = ask_patiently(feed, since_ns, report)
        looked = final_bars(list(page.rows), symbol, timeframe, feed.now_ns(), page.zone)
        joined = Joined(looked, len(looked), 0, "a first page; nothing was stored")
    elif manifest is None:
        joined = whole(since_ns, "fetched")
    elif since_ns < int(manifest.request["since_ns"]):
        joined = whole(since_ns, "fetched from an earlier beginning")
    else:
        since_ns = int(manifest.request["since_ns"])
        before = versions.load_version(workspace, symbol, timeframe, manifest.newest.name)
        joined = join(before, fetch("update", overlap_start(before)))
        if joined.bars is None:
            joined = whole(since_ns, joined.why)
    bars = joined.bars
    if bars is None:
        raise AssertionError("a whole series has bars")
    staging = folder / "staged"
    return {
        "staged": None if request["dry_run"] else stored.stage(bars, staging),
        "first_bar": bars.timestamp(0),
        "last_bar": bars.timestamp(len(bars) - 1),
        "bars": len(bars),
        "new": joined.new,
        "revised": joined.revised,
        "why": joined.why,
        "since_ns": since_ns,
        "client": client_version(kind),
        "adjustment": kind.adjustment,
        "terms": kind.terms,
        "zone": "UTC" if bars.offset is None else zone_of(folder),
    }


def end_with(parent: IO[str]) -> None:
    """Ends this process when its parent has ended."""
    parent.read()
    os._exit(1)


def main() -> None:
    """Answers the one request on standard input."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with, args=(sys.stdin,), daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)  # clients print

        def say(line: Mapping[str, object]) -> None:
            output.write(f"{json.dumps(line)}\n")
            output.flush()

        try:
            say(run(request, lambda progress: say(asdict(progress))))
        except KtrdrError as error:
            say({"error": error.to_json()})
    os._exit(0)


if __name__ == "__main__":
    main()
