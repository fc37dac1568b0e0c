"""What `check_source` finds, and that a source needs no more than its own file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ktrdr_mcp.data.feeds.base import FeedBusy, Page, Row
from ktrdr_mcp.data.feeds.checks import check_source
from tests.data import outside_source
from tests.data.outside_source import BEGIN_NS, HOUR_NS, Outside

OUTSIDE = Path(outside_source.__file__)


def test_a_sound_source_passes_and_its_bars_are_those_that_it_has() -> None:
    rows = check_source(Outside, "", "MADE", "1h", since="2024-01-01")
    assert [row[0] for row in rows] == [BEGIN_NS + number * HOUR_NS for number in range(500)]


def changed(row: Row, place: int, value: float) -> Row:
    values = list(row)
    values[place] = value  # type: ignore[call-overload]
    return tuple(values)  # type: ignore[return-value]


def with_first(page: Page, place: int, value: float) -> Page:
    return (
        page
        if not page.rows
        else replace(page, rows=[changed(page.rows[0], place, value), *page.rows[1:]])
    )


BREACHES: dict[str, tuple[Callable[[Page, int, int], Page], str]] = {
    "newest first": (lambda page, since, asked: replace(page, rows=page.rows[::-1]), "in order"),
    "a bar twice": (
        lambda page, since, asked: replace(page, rows=[*page.rows[:1], *page.rows]),
        "in order",
    ),
    "no end": (lambda page, since, asked: replace(page, after=since + HOUR_NS * 100), "no end"),
    "always from the first bar on": (
        lambda page, since, asked: (
            Outside("", "MADE", "1h").page(BEGIN_NS) if since > BEGIN_NS else page
        ),
        "long before",
    ),
    "pages that leave one out": (
        lambda page, since, asked: replace(page, rows=page.rows[:-1]),
        "in the middle",
    ),
    "a price below zero": (lambda page, since, asked: with_first(page, 3, -1.0), "not positive"),
    "a close above the high": (
        lambda page, since, asked: with_first(page, 4, 900.0),
        "outside low to high",
    ),
    "no number": (lambda page, since, asked: with_first(page, 5, float("nan")), "no number"),
    "a negative volume": (lambda page, since, asked: with_first(page, 5, -1.0), "negative volume"),
    "prices that change": (
        lambda page, since, asked: with_first(page, 5, float(asked)),
        "other bars",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_broken_promise_is_named(breach: str) -> None:
    change, said = BREACHES[breach]
    asked: list[int] = []

    class Broken(Outside):
        def page(self, since_ns: int) -> Page:
            asked.append(since_ns)
            return change(super().page(since_ns), since_ns, len(asked))

    with pytest.raises(AssertionError, match=said):
        check_source(Broken, "", "MADE", "1h", since="2024-01-01")


def test_times_of_ends_and_a_wrong_clock_are_named() -> None:
    class Fast(Outside):
        def now_ns(self) -> int:
            return super().now_ns() + 10 * 86_400 * 10**9

    class Future(Outside):
        def page(self, since_ns: int) -> Page:
            page = super().page(since_ns)
            return replace(page, rows=[*page.rows, (2**62, *page.rows[0][1:])], after=None)

    with pytest.raises(AssertionError, match="clock"):
        check_source(Fast, "", "MADE", "1h", since="2024-01-01")
    with pytest.raises(AssertionError, match="future"):
        check_source(Future, "", "MADE", "1h", since="2024-01-01")


def test_a_source_that_has_every_symbol_or_takes_every_timeframe_is_named() -> None:
    class EverySymbol(Outside):
        def page(self, since_ns: int) -> Page:
            self.symbol = "MADE"
            return super().page(since_ns)

    class EveryTimeframe(Outside):
        def __init__(self, venue: str, symbol: str, timeframe: str) -> None:
            super().__init__(venue, symbol, "1h")

    with pytest.raises(AssertionError, match="symbol"):
        check_source(EverySymbol, "", "MADE", "1h", since="2024-01-01")
    with pytest.raises(AssertionError, match="does not have"):
        check_source(EveryTimeframe, "", "MADE", "1h", since="2024-01-01")


def test_a_broken_answer_must_be_a_reason_to_ask_again() -> None:
    broken: list[str] = []

    class Patient(Outside):
        def page(self, since_ns: int) -> Page:
            if broken:
                raise FeedBusy(broken[0], 1.0 if broken.pop() == "429" else None)
            return super().page(since_ns)

    class Careless(Outside):
        def page(self, since_ns: int) -> Page:
            return Page([], None) if broken and broken.pop() else super().page(since_ns)

    check_source(Patient, "", "MADE", "1h", since="2024-01-01", breaks=broken.append)
    with pytest.raises(AssertionError, match="taken as an answer"):
        check_source(Careless, "", "MADE", "1h", since="2024-01-01", breaks=broken.append)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a workspace, where a package that lies beside it is installed."""
    return subprocess.run(
        [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(folder / "lab"), "--in-process",
         *words],
        env={**os.environ, "PYTHONPATH": str(folder / "packages")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def install(folder: Path, target: str) -> None:
    """A package with one file, which brings one source."""
    packages = folder / "packages"
    (packages / "outside_source-1.dist-info").mkdir(parents=True)
    shutil.copy(OUTSIDE, packages)
    info = packages / "outside_source-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-source\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[ktrdr_mcp.feeds]\noutside = {target}\n")
    (folder / "lab" / "data").mkdir(parents=True)


def test_a_source_that_another_package_brings_is_fetched_and_needs_no_other_change(
    tmp_path: Path,
) -> None:
    install(tmp_path, "outside_source:Outside")
    words = ("data", "fetch", "MADE", "1h", "--from", "outside", "--since", "2024", "--json")
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    fetch = json.loads(done.stdout)["fetch"]
    assert (fetch["status"], fetch["bars"], fetch["dataset"]) == ("completed", 500, "v1")


def test_a_source_that_cannot_be_loaded_is_said_and_the_others_serve(tmp_path: Path) -> None:
    install(tmp_path, "outside_source:Missing")
    words = ("data", "fetch", "MADE", "1h", "--since", "2024", "--json", "--from")
    refused = json.loads(run(tmp_path, *words, "outside").stdout)["error"]
    assert refused["field"] == "source"
    assert "outside_source:Missing" in refused["hint"]
    other = json.loads(run(tmp_path, *words, "outsid").stdout)["error"]
    assert "outside" in other["message"]
