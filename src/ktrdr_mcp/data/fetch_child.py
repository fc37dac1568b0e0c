"""The process that fetches one series; it reports as lines of JSON and ends with its parent.

The request is one line of JSON on standard input, which stays open as long as the parent lives. The
last line that is written has `staged` or `error`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ktrdr_mcp.data import fetching, stored, versions
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.feeds import feed_named
from ktrdr_mcp.data.feeds.base import client_version
from ktrdr_mcp.errors import Conflict, KtrdrError
from ktrdr_mcp.paths import Workspace


def run(request: dict[str, Any], report: fetching.Report) -> dict[str, Any]:
    """Fetches a series and stages what it comes to.

    Args:
        request: workspace, folder, source, symbol, timeframe and since_ns.
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

    def fetched(name: str, since_ns: int) -> Bars:
        pages = fetching.Pages(folder / name)
        rows = fetching.fetch_rows(feed, since_ns, pages, report)
        return fetching.final_bars(rows, symbol, timeframe, feed.now_ns(), pages.zone)

    def whole(since_ns: int, why: str) -> fetching.Joined:
        bars = fetched("all", since_ns)
        return fetching.Joined(bars, len(bars), 0, why)

    since_ns = int(request["since_ns"])
    if request["dry_run"]:
        page = fetching.ask_patiently(feed, since_ns, report)
        looked = fetching.final_bars(list(page.rows), symbol, timeframe, feed.now_ns(), page.zone)
        joined = fetching.Joined(looked, len(looked), 0, "a first page; nothing was stored")
    elif manifest is None:
        joined = whole(since_ns, "fetched")
    elif since_ns < int(manifest.request["since_ns"]):
        joined = whole(since_ns, "fetched from an earlier beginning")
    else:
        since_ns = int(manifest.request["since_ns"])
        before = versions.load_version(workspace, symbol, timeframe, manifest.newest.name)
        joined = fetching.join(before, fetched("update", fetching.overlap_start(before)))
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
        "zone": "UTC" if bars.offset is None else fetching.zone_of(folder),
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

        def say(line: dict[str, Any]) -> None:
            output.write(f"{json.dumps(line)}\n")
            output.flush()

        try:
            say(run(request, lambda progress: say(asdict(progress))))
        except KtrdrError as error:
            names = ("code", "message", "hint", "field")
            say({"error": {name: getattr(error, name) for name in names}})
    os._exit(0)


if __name__ == "__main__":
    main()
