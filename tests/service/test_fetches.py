"""Fetches as tasks: followed, cancelled, taken up again, and stored as versions.

The feed is made here and put among the others by name; its bars come from a folder of the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ktrdr_mcp import files
from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.errors import Conflict, InvalidRequest, TaskNotFound
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.service import fetching, replies
from ktrdr_mcp.service.fetching import Fetches
from tests.support.service_calls import Bench, names_of

# Runs in the child's place: the real child, with a feed that reads what it must do from a file.
CHILD = """
import json, os, sys, time
from pathlib import Path
from ktrdr_mcp.data import feeds
from ktrdr_mcp.data.feeds.base import Feed, FeedBusy, Page

HOUR_NS = 3600 * 10**9
BEGIN_NS = 1704067200 * 10**9

class Made(Feed):
    name = "made"; example = "made"; extra = "made"; package = "pip"
    adjustment = "raw"; terms = "Made here."
    def __init__(self, venue, symbol, timeframe):
        self.folder = Path(os.environ["MADE_FEED"])
    def told(self):
        return json.loads((self.folder / "told.json").read_text())
    def page(self, since_ns):
        with (self.folder / "asked").open("a") as file:
            file.write(f"{since_ns}\\n")
        told = self.told()
        while told.get("hang"):
            time.sleep(0.01)
            told = self.told()
        rows = []
        for n in range(told["bars"]):
            price = (100.0 + n % 9) * (told["factor"] if n < told["until"] else 1.0)
            rows.append((BEGIN_NS + n * HOUR_NS, price, price * 1.01, price * 0.99, price, 5.0))
        rows = [row for row in rows if row[0] >= since_ns][:20]
        asked = len((self.folder / "asked").read_text().split())
        if asked > told.get("hang_after", asked):
            (self.folder / "hanging").write_text("")
            while True:
                time.sleep(0.01)
        return Page(rows, rows[-1][0] + 1 if rows else None)
    def now_ns(self):
        return BEGIN_NS + 10**6 * HOUR_NS

feeds.feeds = lambda: {"made": Made}
feeds.feed_named.__globals__["feeds"] = feeds.feeds
from ktrdr_mcp.data import fetching
fetching.main()
"""


class MadeFeed:
    """What the feed of a test does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.tell(bars=100)

    def tell(self, **said: Any) -> None:
        said = {"factor": 1.0, "until": 0, **said}
        files.replace(self.folder / "told.json", json.dumps(said).encode())

    def wait_until_it_hangs(self) -> None:
        end = time.monotonic() + 40
        while not (self.folder / "hanging").exists():
            assert time.monotonic() < end
            time.sleep(0.01)

    @property
    def asked(self) -> list[int]:
        path = self.folder / "asked"
        return (
            [int(line) for line in path.read_text(encoding="utf-8").split()]
            if path.exists()
            else []
        )


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeFeed:
    script = tmp_path / "made_child.py"
    script.write_text(CHILD, encoding="utf-8")
    monkeypatch.setenv("MADE_FEED", str(tmp_path / "feed"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fetching, "CHILD", "made_child")
    monkeypatch.setattr(fetching, "feed_named", lambda source: (None, ""))
    monkeypatch.setattr(fetching, "FRESH_S", -60)  # asking again is asking anew
    return MadeFeed(tmp_path / "feed")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    files.make_private_folder(made.internal)
    return made


@pytest_asyncio.fixture
async def fetches(workspace: Workspace) -> AsyncIterator[Fetches]:
    made = Fetches(workspace, asyncio.Lock())
    await made.open()
    yield made
    await made.close()


def request(symbol: str = "BTC/USDT", **raw: Any) -> requests.FetchData:
    given = {"source": "made", "symbol": symbol, "timeframe": "1h", "since": "2024", **raw}
    return parse(requests.FetchData, given)


async def ended(fetches: Fetches, symbol: str = "BTC/USDT") -> fetching.Fetch:
    one = await fetches.submit(request(symbol))
    return await fetches.wait(one.task_id, 40)


@pytest.mark.asyncio
async def test_a_fetch_becomes_a_version_and_is_updated(
    fetches: Fetches, feed: MadeFeed, workspace: Workspace
) -> None:
    one = await ended(fetches)
    assert one.status == "completed", one.error
    status = fetching.status_of(one)
    assert (status.bars, status.dataset, status.progress) == (100, "v1", 100)
    assert "Made here." in status.notes
    feed.tell(bars=130)
    again = fetching.status_of(await ended(fetches))
    assert (again.bars, again.new, again.dataset) == (130, 30, "v2")
    nothing = fetching.status_of(await ended(fetches))
    assert (nothing.new, nothing.dataset) == (0, "v2")
    loaded = BarCatalog(workspace).load("BTC/USDT", "1h")
    assert (len(loaded.bars), loaded.dataset) == (130, "1h v2")


@pytest.mark.asyncio
async def test_a_split_becomes_a_version_of_its_own_with_date_and_factor(
    fetches: Fetches, feed: MadeFeed, workspace: Workspace
) -> None:
    await ended(fetches)
    feed.tell(bars=110, factor=0.25, until=100)
    status = fetching.status_of(await ended(fetches))
    assert (status.bars, status.dataset) == (110, "v2")
    assert "times 0.25" in str(status.what)
    assert "2024-01-05T04:00:00Z" in str(status.what)
    catalog = BarCatalog(workspace)
    assert catalog.load("BTC/USDT", "1h").bars.close[0] == 25.0
    assert catalog.load("BTC/USDT", "1h", dataset="1h v1").bars.close[0] == 100.0


@pytest.mark.asyncio
async def test_a_process_that_is_killed_loses_nothing_and_fetches_nothing_twice(
    fetches: Fetches, feed: MadeFeed, workspace: Workspace
) -> None:
    feed.tell(bars=100, hang_after=3)
    one = await fetches.submit(request())
    await asyncio.to_thread(feed.wait_until_it_hangs)
    feed.tell(bars=100)
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    done = await fetches.wait(one.task_id, 40)
    assert (done.status, done.attempt) == ("completed", 2)
    assert len(BarCatalog(workspace).load("BTC/USDT", "1h").bars) == 100
    pages = feed.asked
    assert len(pages) == len(set(pages)) + 1  # only the one that was under way, again


def children() -> list[int]:
    """The processes that fetch for this test."""
    mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    return [int(pid) for pid in mine if b"made_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.asyncio
async def test_a_server_that_ended_takes_its_fetch_up_again(
    feed: MadeFeed, workspace: Workspace
) -> None:
    feed.tell(bars=100, hang_after=3)
    first = Fetches(workspace, asyncio.Lock())
    one = await first.submit(request())
    await asyncio.to_thread(feed.wait_until_it_hangs)
    await first.close()
    feed.tell(bars=100)
    second = Fetches(workspace, asyncio.Lock())
    await second.open()
    done = await second.wait(one.task_id, 40)
    await second.close()
    assert done.status == "completed"
    assert fetching.status_of(done).bars == 100
    assert len(feed.asked) == len(set(feed.asked)) + 1


@pytest.mark.asyncio
async def test_a_cancelled_fetch_stores_nothing(
    fetches: Fetches, feed: MadeFeed, workspace: Workspace
) -> None:
    feed.tell(bars=100, hang=True)
    one = await fetches.submit(request())
    cancelled = await fetches.cancel(one.task_id)
    assert cancelled.status == "cancelled"
    assert children() == []
    assert not workspace.data.exists()
    assert fetching.as_training(cancelled).status == "cancelled"


@pytest.mark.asyncio
async def test_several_series_are_fetched_at_once_and_the_same_call_is_the_same_fetch(
    fetches: Fetches, feed: MadeFeed
) -> None:
    feed.tell(bars=100, hang=True)
    one = await fetches.submit(request())
    assert (await fetches.submit(request())).task_id == one.task_id
    other = await fetches.submit(request("ETH/USDT"))
    with pytest.raises(Conflict):
        await fetches.submit(request(since="2023"))
    assert fetches.running == 2
    feed.tell(bars=100)
    for each in (one, other):
        assert (await fetches.wait(each.task_id, 40)).status == "completed"


@pytest.mark.asyncio
async def test_what_a_feed_contradicts_is_refused_and_nothing_is_stored(
    fetches: Fetches, feed: MadeFeed, workspace: Workspace
) -> None:
    await ended(fetches)
    feed.tell(bars=60)
    one = await ended(fetches)
    assert (one.status, (one.error or {})["code"]) == ("failed", "conflict")
    assert len(BarCatalog(workspace).load("BTC/USDT", "1h").bars) == 100


@pytest.mark.asyncio
async def test_a_file_of_the_user_is_not_overwritten(
    fetches: Fetches, feed: MadeFeed, workspace: Workspace
) -> None:
    path = workspace.data_file("BTC/USDT", "1h", ".parquet")
    files.replace(path, b"mine")
    one = await ended(fetches)
    assert (one.error or {})["code"] == "conflict"
    assert path.read_bytes() == b"mine"


def test_an_unknown_source_is_refused_at_once(workspace: Workspace) -> None:
    async def submit() -> None:
        await Fetches(workspace, asyncio.Lock()).submit(request(source="nowhere"))

    with pytest.raises(InvalidRequest):
        asyncio.run(submit())


def summary(task_id: str, created_at: str) -> responses.TaskSummary:
    return responses.TaskSummary(
        task_id=task_id, status="completed", progress=100, symbol="X", timeframe="1h", strategy="",
        created_at=created_at, val_accuracy=None, error_code=None, differs="",
    )  # fmt: skip


def test_pages_of_trainings_and_fetches_are_cut_from_one_list() -> None:
    trainings = [summary(f"t{n}", f"2026-01-01T00:00:{n:02}Z") for n in (40, 30, 30, 20, 11, 10)]
    fetches = [summary(f"f{n}", f"2026-01-01T00:00:{n:02}Z") for n in (50, 30, 25, 11, 5)]
    for few in (fetches, fetches[:1], fetches[-2:], []):
        whole = sorted([*trainings, *few], key=lambda one: one.created_at, reverse=True)
        for offset in range(14):
            for limit in range(1, 14):
                begin = max(0, offset - len(few))
                rows = trainings[begin : offset + limit]
                has_more = offset + limit < len(trainings)
                wanted = parse(requests.ListTasks, {"offset": offset, "limit": limit})
                page = replies.task_page(rows, few, has_more, wanted)
                assert page.tasks == whole[offset : offset + limit], (offset, limit, len(few))
                assert page.has_more == (offset + limit < len(whole))


@pytest.mark.asyncio
async def test_a_fetch_is_listed_followed_and_cancelled_like_any_task(
    feed: MadeFeed, workspace: Workspace
) -> None:
    feed.tell(bars=100, hang=True)
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        task_id = (await bench.service.fetch_market_data(request())).fetch.task_id

        async def listed(**raw: Any) -> list[tuple[str, str, str]]:
            wanted = parse(requests.ListTasks, raw)
            page = await bench.service.list_training_tasks(wanted)
            return [(one.task_id, one.status, one.differs) for one in page.tasks]

        while not (await listed(status="training", symbol="btc/usdt")):
            await bench.status(task_id, wait_s=0.05)
        ((found, status, differs),) = await listed()
        assert (found, status) == (task_id, "training")
        assert "made" in differs
        assert await listed(symbol="AAPL") == []
        assert await names_of(bench.service, "task_id", "fetch_") == [task_id]
        with pytest.raises(TaskNotFound) as refused:
            await bench.performance(task_id)
        assert "fetch" in refused.value.message
        assert (await bench.cancel(task_id)).status == "cancelled"
        assert (await bench.status(task_id)).status == "cancelled"
        assert [one[1] for one in await listed()] == ["cancelled"]
