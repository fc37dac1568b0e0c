"""Fetches: tasks that bring bars from a feed, each in a process of its own.

A fetch is kept in `.ktrdr/data/fetches/{task_id}/`, page by page, so that one which was broken off
goes on where it was. It is taken up again when the server starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import shutil
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import anyio.to_thread

from ktrdr_mcp import files, paths
from ktrdr_mcp.data import fetching, versions
from ktrdr_mcp.data.feeds import feed_named
from ktrdr_mcp.data.timestamps import format_timestamp, parse_timestamp
from ktrdr_mcp.errors import (
    Conflict,
    CrashLoop,
    ErrorJson,
    KtrdrError,
    TaskNotFound,
    error_of,
)
from ktrdr_mcp.schemas import requests, responses

CHILD: Final = "ktrdr_mcp.data.fetching"
PREFIX: Final = "fetch_"
DOCUMENT: Final = "task.json"
AT_ONCE: Final = 4
MOST_DEATHS: Final = 3
FRESH_S: Final = 60
EARLIEST: Final = "2000"
ISO: Final = "%Y-%m-%dT%H:%M:%SZ"
UNDER_WAY: Final = frozenset({"pending", "fetching"})
ANSWER_BYTES: Final = 16 * 1024**2  # of one line of the process

log = logging.getLogger(__name__)


class FetchResult(fetching.FetchedBars, total=False):
    """What a completed fetch keeps of it."""

    dataset: str
    is_new: bool


@dataclass(frozen=True)
class Fetch:
    """One fetch, as it is kept."""

    task_id: str
    source: str
    symbol: str
    timeframe: str
    since: str
    since_ns: int
    status: str = "pending"
    created_at: str = field(default_factory=versions.now)
    started_at: str | None = None
    completed_at: str | None = None
    attempt: int = 0
    deaths: int = 0
    pages: int = 0
    bars: int = 0
    last_ns: int | None = None
    note: str = ""
    error: ErrorJson | None = None
    result: FetchResult | None = None

    @property
    def series(self) -> tuple[str, str]:
        """Symbol and timeframe."""
        return self.symbol, self.timeframe


class Fetches:
    """The fetches of a workspace. Used on the event loop only.

    Args:
        workspace: whose series they are; this process owns it.
        storing: held while a version is made.
    """

    def __init__(self, workspace: paths.Workspace, storing: asyncio.Lock) -> None:
        self._workspace = workspace
        self._storing = storing
        self._folder = workspace.internal / "data" / "fetches"
        self._known: dict[str, Fetch] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()
        self._places = asyncio.Semaphore(AT_ONCE)

    @property
    def running(self) -> int:
        """How many run or wait."""
        return len(self._running)

    async def open(self) -> None:
        """Takes up what an earlier process left."""
        for one in await anyio.to_thread.run_sync(read_all, self._folder):
            self._known[one.task_id] = one
            if one.status in UNDER_WAY:
                self._begin(one)

    async def close(self) -> None:
        """Ends what runs; it is taken up again at the next start."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def knows(self, task_id: str) -> bool:
        """Whether an id is that of a fetch."""
        return task_id in self._known

    def refuse(self, task_id: str) -> None:
        """Refuses what only trainings have. Raises TaskNotFound if an id is that of a fetch."""
        if self.knows(task_id):
            raise TaskNotFound(
                f"{task_id} is a fetch of bars, not a training.",
                hint="get_training_status says where it stands, cancel_training stops it.",
                field="task_id",
            )

    def ids_with_prefix(self, prefix: str, limit: int) -> list[str]:
        """Ids that begin with the prefix, newest first."""
        found = [one.task_id for one in self.list_fetches() if one.task_id.startswith(prefix)]
        return found[:limit]

    def list_fetches(self, status: str | None = None, symbol: str | None = None) -> list[Fetch]:
        """The fetches, newest first.

        Args:
            status: only those that a list of tasks shows with it.
            symbol: only those of this symbol.
        """
        found = [
            one
            for one in self._known.values()
            if status in {None, task_status(one)} and symbol in {None, one.symbol}
        ]
        return sorted(found, key=lambda one: (one.created_at, one.task_id), reverse=True)

    async def submit(self, request: requests.FetchData) -> Fetch:
        """Begins a fetch; the same that is under way is that one.

        Raises:
            Conflict: another fetch of this series is under way.
            KtrdrError: it cannot be fetched.
        """
        feed_named(request.source)
        since = await anyio.to_thread.run_sync(beginning, self._workspace, request)
        since_ns = parse_timestamp(full_day(since), "since", end_of_day=False)
        for one in self._known.values():
            if one.status in UNDER_WAY and one.series == (request.symbol, request.timeframe):
                if (one.source, one.since_ns) == (request.source, since_ns):
                    return one
                raise Conflict(
                    f"{one.symbol} {one.timeframe} is being fetched already, by {one.task_id}.",
                    hint="Wait for it, or cancel it with cancel_training.",
                    field="symbol",
                )
        ended = self._just_ended(request, since_ns)
        if ended is not None:
            return ended
        stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
        fetch = Fetch(
            f"{PREFIX}{stamp}_{secrets.token_hex(3)}",
            request.source,
            request.symbol,
            request.timeframe,
            since,
            since_ns,
        )
        await self._keep(fetch)
        self._begin(fetch)
        return fetch

    def _just_ended(self, request: requests.FetchData, since_ns: int) -> Fetch | None:
        """The same fetch, if it completed so lately that there can be no new bar."""
        wanted = (request.source, request.symbol, request.timeframe, since_ns)
        width_s = paths.TIMEFRAME_MINUTES[request.timeframe] * 60
        since = (datetime.now(UTC) - timedelta(seconds=min(width_s, FRESH_S))).strftime(ISO)
        alike = [
            one
            for one in self._known.values()
            if (one.source, *one.series, one.since_ns) == wanted
            and one.status == "completed"
            and str(one.completed_at) >= since
        ]
        return max(alike, key=lambda one: str(one.completed_at), default=None)

    async def wait(self, task_id: str, wait_s: float) -> Fetch:
        """A fetch once it has ended, or after a time. Raises TaskNotFound."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self._changed:
                await self._changed.wait_for(lambda: self.get(task_id).status not in UNDER_WAY)
        return self.get(task_id)

    def get(self, task_id: str) -> Fetch:
        """A fetch. Raises TaskNotFound."""
        if task_id not in self._known:
            raise TaskNotFound(
                f"There is no task {task_id}.", hint="Begin one with fetch_market_data."
            )
        return self._known[task_id]

    async def cancel(self, task_id: str) -> Fetch:
        """Stops a fetch for good; one that has ended stays as it is. Raises TaskNotFound."""
        fetch = self.get(task_id)
        running = self._running.get(task_id)
        if running is not None:
            await self._keep(replace(fetch, status="cancelled", completed_at=versions.now()))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await anyio.to_thread.run_sync(discard_pages, self._folder / task_id)
        return self.get(task_id)

    def _begin(self, fetch: Fetch) -> None:
        """Runs a fetch beside what else runs."""
        task = asyncio.create_task(self._run(fetch.task_id))
        self._running[fetch.task_id] = task
        task.add_done_callback(lambda _: self._running.pop(fetch.task_id, None))

    async def _run(self, task_id: str) -> None:
        """Runs a fetch to its end, again if its process dies."""
        async with self._places:
            while self.get(task_id).status in UNDER_WAY:
                one = self.get(task_id)
                started = one.started_at or versions.now()
                await self._keep(
                    replace(one, status="fetching", started_at=started, attempt=one.attempt + 1)
                )
                try:
                    answer = await self._ask(task_id)
                    await self._end(task_id, answer)
                except KtrdrError as error:
                    await self._fail(task_id, error)
                except Exception:
                    log.exception("fetch %s ended by an internal error", task_id)
                    hint = "Report it with the server's log."
                    await self._fail(task_id, KtrdrError("An internal error.", hint=hint))

    async def _ask(self, task_id: str) -> fetching.Fetched | None:
        """What the process of a fetch says at its end; None if it died. Raises KtrdrError."""
        one = self.get(task_id)
        folder = self._folder / task_id
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder / "staged", ignore_errors=True))
        request: fetching.FetchRequest = {
            "workspace": str(self._workspace.root),
            "folder": str(folder),
            "source": one.source,
            "symbol": one.symbol,
            "timeframe": one.timeframe,
            "since_ns": one.since_ns,
            "dry_run": False,
        }
        async with child(request) as lines:
            async for line in lines:
                if "pages" in line:
                    await self._hear(task_id, line)
                elif "error" in line:
                    raise error_of(line["error"])
                else:
                    fetched: fetching.Fetched = line
                    return fetched
        return None

    async def _hear(self, task_id: str, line: Mapping[str, Any]) -> None:
        """Remembers how far a fetch has come; its pages are kept by its process."""
        one = self.get(task_id)
        heard: dict[str, Any] = {"note": str(line["note"])[:200]}
        if not line["note"]:
            heard |= {name: line[name] for name in ("pages", "bars", "last_ns")}
        self._known[task_id] = replace(one, **heard)
        async with self._changed:
            self._changed.notify_all()

    async def _end(self, task_id: str, answer: fetching.Fetched | None) -> None:
        """Stores what a fetch came to. Raises KtrdrError."""
        one = self.get(task_id)
        if answer is None:
            if one.deaths + 1 >= MOST_DEATHS:
                raise CrashLoop(
                    f"The process that fetched died {MOST_DEATHS} times.",
                    hint="Look into the server's log, then fetch again.",
                )
            await self._keep(replace(one, deaths=one.deaths + 1))
            return
        async with self._storing:
            manifest, is_new = await anyio.to_thread.run_sync(store, self._workspace, one, answer)
        kept = {name: value for name, value in answer.items() if name != "staged"}
        result = cast("FetchResult", {**kept, "dataset": manifest.newest.name, "is_new": is_new})
        await self._keep(
            replace(one, status="completed", completed_at=versions.now(), result=result, note="")
        )
        await anyio.to_thread.run_sync(discard_pages, self._folder / task_id)

    async def _fail(self, task_id: str, error: KtrdrError) -> None:
        """Notes why a fetch failed; its pages are kept for another try."""
        await self._keep(
            replace(
                self.get(task_id),
                status="failed",
                completed_at=versions.now(),
                error=error.to_json(),
                note="",
            )
        )

    async def _keep(self, fetch: Fetch) -> None:
        """Writes a fetch down, then lets whoever waits know."""
        path = self._folder / fetch.task_id / DOCUMENT
        await anyio.to_thread.run_sync(files.replace, path, files.json_bytes(asdict(fetch)), 0o600)
        self._known[fetch.task_id] = fetch
        async with self._changed:
            self._changed.notify_all()


def beginning(workspace: paths.Workspace, request: requests.FetchData) -> str:
    """From when on bars are fetched: as is said, else as before, else from 2000 on."""
    if request.since:
        return request.since
    known = versions.read_manifest(workspace, request.symbol, request.timeframe)
    return str(known.request.get("since", EARLIEST)) if known is not None else EARLIEST


def full_day(text: str) -> str:
    """A year or a month as its first day; anything else as it is."""
    return {4: f"{text}-01-01", 7: f"{text}-01"}.get(len(text), text)


@contextlib.asynccontextmanager
async def child(request: fetching.FetchRequest) -> Any:
    """The lines of a process that fetches; it ends with the block."""
    # -P keeps the current folder from being searched for modules.
    process: Process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", CHILD,
        stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL, limit=ANSWER_BYTES,
    )  # fmt: skip

    async def lines() -> Any:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the process has pipes")
        process.stdin.write(f"{json.dumps(request)}\n".encode())
        await process.stdin.drain()
        while line := await process.stdout.readline():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    try:
        yield lines()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def read_all(folder: Path) -> list[Fetch]:
    """Every fetch that is kept; damaged ones are passed over."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*/{DOCUMENT}")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Fetch(**json.loads(path.read_bytes())))
    return found


def discard_pages(folder: Path) -> None:
    """Removes what only a further attempt would need."""
    for name in ("all", "update", "staged"):
        shutil.rmtree(folder / name, ignore_errors=True)


def store(
    workspace: paths.Workspace, one: Fetch, answer: fetching.Fetched
) -> tuple[versions.Manifest, bool]:
    """Makes a version of what was staged. Raises Conflict, StorageError."""
    path = workspace.data_file(*one.series, ".parquet")
    if path.exists() and versions.version_of_file(workspace, *one.series) is None:
        raise Conflict(
            f"data/{path.name} is there already, and was neither imported nor fetched.",
            hint="Move it out of data/, then fetch again.",
            field="symbol",
        )
    facts = versions.Manifest(
        symbol=one.symbol,
        timeframe=one.timeframe,
        source=one.source,
        request={"since": format_timestamp(answer["since_ns"]), "since_ns": answer["since_ns"]},
        client=answer["client"],
        fetched_at=versions.now(),
        adjustment=answer["adjustment"],
        zone=answer["zone"],
    )
    if answer["staged"] is None:
        raise AssertionError("what is stored was staged")
    return versions.commit(workspace, answer["staged"], facts, answer["why"])


def status_of(one: Fetch) -> responses.FetchStatus:
    """A fetch as replies have it."""
    result = one.result or cast("FetchResult", {})
    notes = [note for note in (one.note, result.get("terms")) if note]
    return responses.FetchStatus(
        task_id=one.task_id,
        status=one.status,
        source=one.source,
        symbol=one.symbol,
        timeframe=one.timeframe,
        progress=progress_of(one),
        pages=one.pages,
        bars=result.get("bars", one.bars),
        new=result.get("new"),
        revised=result.get("revised"),
        first_bar=result.get("first_bar"),
        last_bar=result.get("last_bar"),
        adjustment=result.get("adjustment"),
        dataset=result.get("dataset"),
        what=result.get("why"),
        notes=notes,
        error=None if one.error is None else f"{one.error['message']} {one.error['hint']}",
        error_code=None if one.error is None else one.error["code"],
    )


def progress_of(one: Fetch) -> int:
    """How much of its range a fetch has, percent."""
    if one.status == "completed":
        return 100
    if one.last_ns is None:
        return 0
    now_ns = int(datetime.now(UTC).timestamp() * 1e9)
    share = (one.last_ns - one.since_ns) / max(1, now_ns - one.since_ns)
    return max(0, min(99, int(100 * share)))


def task_status(one: Fetch) -> requests.Status:
    """A fetch's status in the words of all tasks."""
    status = "training" if one.status == "fetching" else one.status
    return cast("requests.Status", status)


def summary_of(one: Fetch) -> responses.TaskSummary:
    """A fetch in a list of tasks."""
    return responses.TaskSummary(
        task_id=one.task_id,
        status=task_status(one),
        progress=progress_of(one),
        symbol=one.symbol,
        timeframe=one.timeframe,
        strategy="",
        created_at=one.created_at,
        val_accuracy=None,
        error_code=None if one.error is None else one.error["code"],
        differs=f"fetch from {one.source} since {one.since}",
    )


def as_training(one: Fetch) -> responses.TrainingStatus:
    """A fetch as the status of any task: pages stand in the place of epochs."""
    return responses.TrainingStatus(
        task_id=one.task_id,
        status=task_status(one),
        progress=progress_of(one),
        current_epoch=one.pages,
        total_epochs=one.pages,
        symbol=one.symbol,
        timeframe=one.timeframe,
        started_at=one.started_at,
        estimated_completion=None,
        current_metrics=None,
        error=None if one.error is None else f"{one.error['message']} {one.error['hint']}"[:220],
        error_code=None if one.error is None else one.error["code"],
        attempt=one.attempt,
    )


def describe_cancelled(one: Fetch) -> responses.TaskCancelled:
    """What cancelling a fetch did."""
    done = one.status == "cancelled"
    message = "The fetch is cancelled; nothing was stored." if done else f"It is {one.status}."
    return responses.TaskCancelled(
        task_id=one.task_id,
        status=as_training(one).status,
        message=message,
    )


def try_out(workspace: paths.Workspace, request: requests.FetchData) -> responses.FetchReply:
    """A first page of a source, of which nothing is stored. Blocks. Raises KtrdrError."""
    since = beginning(workspace, request)
    since_ns = parse_timestamp(full_day(since), "since", end_of_day=False)
    with tempfile.TemporaryDirectory() as folder:
        asked: fetching.FetchRequest = {
            "workspace": str(workspace.root),
            "folder": folder,
            "source": request.source,
            "symbol": request.symbol,
            "timeframe": request.timeframe,
            "since_ns": since_ns,
            "dry_run": True,
        }
        answer = fetching.run(asked, lambda _: None)
    one = Fetch("dry_run", request.source, *(request.symbol, request.timeframe), since, since_ns)
    shown = status_of(replace(one, status="completed", result=cast("FetchResult", answer)))
    return responses.FetchReply(fetch=shown)
