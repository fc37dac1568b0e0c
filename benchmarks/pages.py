"""(l) How long a report takes to draw, and the live page with 1,000 tasks in a real browser."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import services
from benchmarks.report import Report, Table, Target, skipped, under
from benchmarks.server import Server
from benchmarks.timing import Latencies
from ktrdr_mcp.schemas import requests

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TITLE: Final = "The live page in Chromium"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
TASKS: Final = 1_000
CARDS: Final = 8
LIMIT_MS: Final = 180_000
FOREVER: Final = {"epochs": 100_000, "early_stopping": None, "walk_forward": None}
MOST_REPORT_S: Final = 0.3
MOST_PAINT_S: Final = 0.5
MOST_EVENT_MS: Final = 100.0

# From the arrival of an event to the first frame that has its epoch, in ms.
WATCH_EVENTS: Final = """() => {
  const shown = window.show, times = window.times = [];
  window.show = (status) => {
    const came = performance.now();
    shown(status);
    if (status.status === "training") requestAnimationFrame(() => {
      const words = document.querySelector("#running").textContent;
      if (words.includes(`epoch ${status.current_epoch} `)) times.push(performance.now() - came);
    });
  };
}"""
# Whether so many tasks are listed; the moment is kept.
LISTED: Final = """(rows) => document.querySelectorAll("#tasks tbody tr").length >= rows
  && performance.mark("listed")"""
# Times between frames, in ms, of some seconds.
FRAMES: Final = """(ms) => new Promise((done) => {
  const gaps = [], began = performance.now();
  let last = began;
  requestAnimationFrame(function next(now) {
    gaps.push(now - last); last = now;
    if (now - began < ms) requestAnimationFrame(next); else done(gaps.slice(1));
  });
})"""
# Eight cards that change ten times a second each, with curves that the server draws.
FEED: Final = """(ids) => {
  let epoch = 0;
  window.feeding = setInterval(() => {
    epoch += 1;
    for (const id of ids) show({
      task_id: id, status: "training", symbol: "AAPL", timeframe: "1d", progress: epoch % 100,
      current_epoch: epoch, total_epochs: 100000, alarm: null,
      current_metrics: { val_loss: 1 + 1 / epoch, val_accuracy: 0.4 },
    });
  }, 100);
}"""
MARKED: Final = "() => performance.getEntriesByName('listed')[0].startTime"
PAINT: Final = """() => new Promise((done) => new PerformanceObserver((list) =>
  done(list.getEntriesByName("first-contentful-paint")[0].startTime)
).observe({ type: "paint", buffered: true }))"""


def measure(short: bool) -> Report:
    """Reports in this process, then the page, where there is a browser."""
    drawn = asyncio.run(report_times(1 if short else 15))
    found = browser_path()
    page = (
        skipped(TITLE, "no playwright or no Chromium: pip install 'ktrdr-mcp[browser]'")
        if found is None
        else live_page(found, 20 if short else TASKS, 1 if short else 10, 1.0 if short else 10.0)
    )
    return Report([*drawn.tables, *page.tables], [*drawn.targets, *page.targets])


def browser_path() -> str | None:
    """Where Chromium is; None without it or without playwright."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return None
    return next(filter(None, map(shutil.which, NAMES)), None)


async def report_times(rounds: int) -> Report:
    """A default training's report, the first time and again and again."""
    with tempfile.TemporaryDirectory() as name:
        async with services.open_service(Path(name)) as service:
            rows, targets = [], []
            for timeframe in ("1h", "1d"):
                what = {"symbol": "AAPL", "timeframe": timeframe}
                task = requests.TaskOnly(task_id=await services.train(service, {}, what))
                seconds = []
                for _ in range(rounds + 1):
                    began = time.perf_counter()
                    reply = await service.training_report(task)
                    seconds.append(time.perf_counter() - began)
                size = f"{len(reply.html.encode()) / 1000:.0f}"
                again = sorted(seconds[1:])[len(seconds[1:]) // 2]
                rows.append([f"AAPL {timeframe}", f"{seconds[0]:.3f}", f"{again:.3f}", size])
                what_is = f"report of a default training, AAPL {timeframe}"
                targets.append(under(what_is, max(seconds[0], again), MOST_REPORT_S, " s"))
    table = Table(
        "A training's report", ["bars", "first, s", f"median of {rounds}, s", "size, kB"], rows
    )
    return Report([table], targets)


def live_page(chromium: str, tasks: int, loads: int, watched_s: float) -> Report:
    """The page with so many tasks: how soon it is there, how soon an event is seen."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as name,
        Server(Path(name)) as server,
        sync_playwright() as playwright,
    ):
        ids = listed_tasks(server, tasks)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        painted, complete = loads_of(browser, Path(name), tasks, loads)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(LIMIT_MS)
        page.goto(address(Path(name)))
        page.wait_for_function(LISTED, arg=tasks)
        running = [started(server) for _ in range(os.cpu_count() or 1)]
        events, frames = watched(page, watched_s)
        for each in running:
            server.tool("cancel_training", {"task_id": each})
        page.wait_for_function("() => !document.querySelector('article')")
        page.evaluate(FEED, ids[:CARDS])
        eight = Latencies.of([gap / 1e3 for gap in page.evaluate(FRAMES, watched_s * 1e3)])
        browser.close()
    at = Latencies.of([each / 1e3 for each in events])
    moving = Latencies.of([each / 1e3 for each in frames])
    rows = [
        ["first contentful paint", *(f"{each:.0f}" for each in painted)],
        [f"{tasks:,} tasks listed", *(f"{each:.0f}" for each in complete)],
        ["an event to the frame that shows it", *(f"{each:.0f}" for each in at)],
        [f"from frame to frame, {len(running)} trainings", *(f"{each:.0f}" for each in moving)],
        [f"from frame to frame, {CARDS} cards", *(f"{each:.0f}" for each in eight)],
    ]
    note = (
        f"{loads} loads; events and frames of {watched_s:.0f} s. The trainings share the cores "
        f"with the browser. The {CARDS} cards get a status each, ten times a second, from the "
        "benchmark, and their curves from the server."
    )
    targets: list[Target] = [
        under(
            f"first paint of the page with {tasks:,} tasks", painted.p95 / 1e3, MOST_PAINT_S, " s"
        ),
        under("an event to the pixel, p95", at.p95, MOST_EVENT_MS, " ms"),
    ]
    return Report([Table(TITLE, ["what, ms", "p50", "p95", "p99"], rows, [note])], targets)


def listed_tasks(server: Server, count: int) -> list[str]:
    """The ids of so many tasks, each cancelled while it waited or ran."""
    ids = [started(server) for _ in range(count)]
    for each in reversed(ids):
        server.tool("cancel_training", {"task_id": each})
    return ids


def started(server: Server) -> str:
    """The id of a training that runs until it is cancelled."""
    asked: dict[str, Any] = {"symbol": "AAPL", "timeframe": "1d", "config": FOREVER}
    return str(server.tool("start_training", asked)["task_id"])


def address(workspace: Path) -> str:
    """Where a browser gets in, once."""
    line = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace)]
    line += ["open", "--no-browser"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def loads_of(
    browser: Browser, workspace: Path, tasks: int, count: int
) -> tuple[Latencies, Latencies]:
    """From the navigation to the first paint, and to the whole list, in fresh tabs."""
    painted, complete = [], []
    for _ in range(count):
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(LIMIT_MS)
        page.goto(address(workspace))
        page.wait_for_function(LISTED, arg=tasks)
        painted.append(page.evaluate(PAINT) / 1e3)
        complete.append(page.evaluate(MARKED) / 1e3)
        page.close()
    return Latencies.of(painted), Latencies.of(complete)


def watched(page: Page, seconds: float) -> tuple[list[float], list[float]]:
    """Times from events to frames, and between frames, while trainings run."""
    page.wait_for_selector("article svg path.line")
    page.evaluate(WATCH_EVENTS)
    frames: list[float] = page.evaluate(FRAMES, seconds * 1e3)
    events: list[float] = page.evaluate("() => window.times")
    return events, frames
