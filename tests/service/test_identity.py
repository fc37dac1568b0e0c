"""Trials are known by the content of their bars, under whatever name and in whatever workspace."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.errors import StorageFull
from ktrdr_mcp.paths import RECORD_VARIABLE, Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.responses import ModelBacktest
from ktrdr_mcp.service.reconciliation import rebuild
from ktrdr_mcp.store import record
from ktrdr_mcp.store.trials import TrialLog
from tests.conversation.program import wait_until
from tests.support.service_calls import SHORT, Bench

pytestmark = pytest.mark.asyncio

HOUR = 3_600
NOT_OURS = b"nothing of ours" * 100
Open = Callable[[str], Awaitable[Bench]]


def write_series(
    workspace: Workspace, symbol: str, close: np.ndarray, start: str = "2024-01-01T00:00:00"
) -> None:
    """An hourly file of these closes."""
    times = np.datetime64(start) + np.arange(len(close)) * HOUR
    opens = np.r_[close[0], close[:-1]]
    lines = ["timestamp,open,high,low,close,volume"]
    for time, one, other in zip(times, opens.tolist(), close.tolist(), strict=True):
        high, low = max(one, other) * 1.001, min(one, other) * 0.999
        lines.append(f"{time}Z,{one!r},{high!r},{low!r},{other!r},10")
    workspace.data.mkdir(parents=True, exist_ok=True)
    path = workspace.data / f"{symbol}_1h.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def walk(bars: int = 900, seed: int = 1) -> np.ndarray:
    return 100 * np.exp(np.cumsum(0.005 * np.random.default_rng(seed).standard_normal(bars)))


async def trial_of(bench: Bench, symbol: str, seed: int = 1, **more: object) -> tuple[int, str]:
    """What a training says of its place in its family, and of what has been spent."""
    task_id = await bench.trained(symbol=symbol, config={**SHORT, "seed": seed}, **more)
    verdict = (await bench.performance(task_id)).verdict
    return verdict.as_of_trial, verdict.luck


def spent(luck: str) -> list[int]:
    """The numbers behind the sizes of luck: trials on these bars, families on others."""
    return [int(each) for each in re.findall(r"\d+", luck.partition(";")[2])]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record that all workspaces of the test have."""
    path = tmp_path / "user" / "trials.db"
    monkeypatch.setenv(RECORD_VARIABLE, str(path))
    return path


@pytest_asyncio.fixture
async def open_bench(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens workspaces by name until the test ends."""
    async with AsyncExitStack() as stack:

        async def enter(name: str) -> Bench:
            workspace = Workspace(tmp_path / name)
            opened = await stack.enter_async_context(open_workspace(workspace))
            return Bench(opened.service, workspace)

        yield enter


def rows_of(path: Path) -> list[tuple[str, ...]]:
    """The record's outcomes; none while it is not there."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return connection.execute("SELECT * FROM outcomes").fetchall() if made else []


def write_scores(path: Path, scores: str) -> None:
    """Puts other scores into the record's first outcome."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE outcomes SET scores = ? WHERE rowid = 1", (scores,))


async def outcomes(path: Path, wanted: int) -> list[tuple[str, ...]]:
    """The record's outcomes, once there are as many."""

    def reached() -> list[tuple[str, ...]] | None:
        rows = rows_of(path)
        return rows if len(rows) >= wanted else None

    return await asyncio.to_thread(wait_until, reached)


@pytest.fixture
def damaged(shared: Path) -> Path:
    """The record, with something else in it."""
    shared.parent.mkdir()
    shared.write_bytes(NOT_OURS)
    return shared


async def test_the_same_bars_under_another_name_and_other_dates_are_one_family(bench) -> None:
    close = walk()
    write_series(bench.workspace, "FIRST", close)
    write_series(bench.workspace, "OTHER", close, "2019-05-05T00:00:00")
    write_series(bench.workspace, "STRANGE", walk(seed=2))
    assert (await trial_of(bench, "FIRST"))[0] == 1
    number, luck = await trial_of(bench, "OTHER")
    assert number == 2
    assert spent(luck) == [1]
    number, luck = await trial_of(bench, "STRANGE")
    assert number == 1
    assert spent(luck) == [1]


async def test_another_timeframe_of_the_same_bars_is_one_family_under_another_name(bench) -> None:
    close = walk(6_000)
    write_series(bench.workspace, "FIRST", close)
    write_series(bench.workspace, "OTHER", close, "2010-05-05T00:00:00")
    assert (await trial_of(bench, "FIRST"))[0] == 1
    assert (await trial_of(bench, "OTHER", timeframe="4h"))[0] == 2


async def test_another_version_of_a_series_is_the_same_family(bench) -> None:
    close = walk()
    write_series(bench.workspace, "FIRST", close[:-50])
    assert (await trial_of(bench, "FIRST"))[0] == 1
    write_series(bench.workspace, "LONGER", close, "2019-01-01T00:00:00")
    assert (await trial_of(bench, "LONGER"))[0] == 2


async def test_disjoint_windows_feed_the_stream(bench) -> None:
    close = walk(2_700)
    for number in range(3):
        part = close[number * 900 : (number + 1) * 900]
        write_series(bench.workspace, f"PART{number}", part)
    told = [await trial_of(bench, f"PART{number}") for number in range(3)]
    assert [number for number, _ in told] == [1, 1, 1]
    assert [spent(luck) for _, luck in told] == [[], [1], [2]]


async def test_trials_of_another_workspace_count(shared: Path, open_bench: Open) -> None:
    first, second = await open_bench("first"), await open_bench("second")
    write_series(first.workspace, "FIRST", walk())
    write_series(second.workspace, "SAME", walk(), "2019-01-01T00:00:00")
    write_series(second.workspace, "STRANGE", walk(seed=2))
    assert (await trial_of(first, "FIRST"))[0] == 1
    await outcomes(shared, 1)
    number, luck = await trial_of(second, "SAME")
    assert number == 2
    assert spent(luck) == [1]
    assert "workspace" in luck
    number, luck = await trial_of(second, "STRANGE", seed=2)
    assert number == 1
    assert spent(luck) == [1]
    assert "workspace" not in luck


async def test_a_verdict_stays_when_the_record_is_gone(
    shared: Path, open_bench: Open, tmp_path: Path
) -> None:
    first = await open_bench("first")
    write_series(first.workspace, "FIRST", walk())
    await trial_of(first, "FIRST")
    await outcomes(shared, 1)
    workspace = Workspace(tmp_path / "second")
    write_series(workspace, "SAME", walk())
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        task_id = await bench.trained(symbol="SAME")
        before = (await bench.performance(task_id)).verdict
        await outcomes(shared, 2)
    await asyncio.to_thread(shared.unlink)
    async with open_workspace(workspace) as opened:
        again = await Bench(opened.service, workspace).performance(task_id)
    assert before.as_of_trial == 2
    assert again.verdict == before


async def test_scores_of_another_workspace_that_cannot_be_read_are_missing_for_good(
    shared: Path, open_bench: Open, tmp_path: Path
) -> None:
    first = await open_bench("first")
    write_series(first.workspace, "FIRST", walk())
    await trial_of(first, "FIRST")
    ((*_, scores),) = await outcomes(shared, 1)
    await asyncio.to_thread(write_scores, shared, "{}")
    workspace = Workspace(tmp_path / "second")
    write_series(workspace, "SAME", walk())
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        task_id = await bench.trained(symbol="SAME")
        before = (await bench.performance(task_id)).verdict
        await outcomes(shared, 2)
    await asyncio.to_thread(write_scores, shared, scores)
    async with open_workspace(workspace) as opened:
        again = await Bench(opened.service, workspace).performance(task_id)
    assert before.as_of_trial == 2
    assert again.verdict == before


async def test_a_standing_that_the_disk_refused_is_stored_with_the_next_reading(
    bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StorageFull("No space left.", hint="Free disk space.")

    write_series(bench.workspace, "FIRST", walk())
    with monkeypatch.context() as patched:
        patched.setattr(TrialLog, "settle", refuse)
        task_id = await bench.trained(symbol="FIRST")
        before = (await bench.performance(task_id)).verdict
    assert (await bench.performance(task_id)).verdict == before
    with closing(sqlite3.connect(bench.workspace.database)) as connection:
        kept = connection.execute("SELECT task_id FROM standings").fetchall()
    assert kept == [(task_id,)]


async def test_what_could_not_be_sent_is_sent_at_the_next_start(
    damaged: Path, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "first")
    write_series(workspace, "FIRST", walk())
    async with open_workspace(workspace) as opened:
        bench = Bench(opened.service, workspace)
        number, luck = await trial_of(bench, "FIRST")
    assert number == 1
    assert "only this workspace's trials are counted" in luck
    assert await asyncio.to_thread(damaged.read_bytes) == NOT_OURS
    await asyncio.to_thread(damaged.unlink)
    async with open_workspace(workspace):
        (row,) = await outcomes(damaged, 1)
    assert row[2] == "completed"


@pytest.mark.parametrize("harm", ["locked", "newer", "read-only folder", "no folder"])
async def test_a_record_that_cannot_be_used_neither_fails_nor_delays_a_training(
    harm: str, shared: Path, open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(shared.parent.mkdir)
    connection = sqlite3.connect(shared, isolation_level=None)
    if harm == "locked":
        connection.execute("BEGIN EXCLUSIVE")
    elif harm == "newer":
        connection.execute(f"PRAGMA application_id = {record.APPLICATION}")
        connection.execute("PRAGMA user_version = 99")
    elif harm == "read-only folder":
        monkeypatch.setenv(RECORD_VARIABLE, "/proc/nothing/trials.db")
    else:
        monkeypatch.setenv(RECORD_VARIABLE, str(shared / "in" / "a" / "file"))
    bench = await open_bench("first")
    write_series(bench.workspace, "FIRST", walk())
    number, luck = await trial_of(bench, "FIRST")
    connection.close()
    assert number == 1
    assert "only this workspace's trials are counted" in luck


async def test_a_copy_of_a_workspace_counts_what_it_took_along_once(
    shared: Path, tmp_path: Path
) -> None:
    workspace, copy = Workspace(tmp_path / "first"), Workspace(tmp_path / "copy")
    write_series(workspace, "FIRST", walk())
    async with open_workspace(workspace) as opened:
        await trial_of(Bench(opened.service, workspace), "FIRST")
        await outcomes(shared, 1)
    await asyncio.to_thread(shutil.copytree, workspace.root, copy.root)
    async with open_workspace(copy) as opened:
        assert (await trial_of(Bench(opened.service, copy), "FIRST", seed=2))[0] == 2
        await outcomes(shared, 3)
    async with open_workspace(workspace) as opened:
        assert (await trial_of(Bench(opened.service, workspace), "FIRST", seed=3))[0] == 3


async def test_a_reproduction_and_a_repeated_start_are_no_trials(
    shared: Path, open_bench: Open
) -> None:
    bench = await open_bench("first")
    write_series(bench.workspace, "FIRST", walk())
    task_id = await bench.trained(symbol="FIRST", task_id="once")
    await bench.start(symbol="FIRST", task_id="once")
    asked = parse(requests.ReproduceTraining, {"task_id": task_id, "wait_s": 50.0})
    assert (await bench.service.reproduce_training(asked)).result == "match"
    assert (await trial_of(bench, "FIRST", seed=2))[0] == 2
    assert len(await outcomes(shared, 2)) == 2


async def test_bars_that_rest_are_known_by_symbol_and_time_only(bench) -> None:
    close = np.round(walk() / 10) * 10 + np.arange(900) % 2
    write_series(bench.workspace, "TICKS", close)
    write_series(bench.workspace, "COPY", close)
    started = await bench.start(symbol="TICKS")
    assert any("symbol and time only" in warning for warning in started.warnings)
    await bench.finish(started.task_id)
    assert (await trial_of(bench, "COPY"))[0] == 1
    assert (await trial_of(bench, "TICKS", seed=2))[0] == 2


async def test_a_prediction_on_bars_that_trained_the_model_is_in_sample_whatever_their_name(
    bench,
) -> None:
    close = walk()
    write_series(bench.workspace, "FIRST", close)
    write_series(bench.workspace, "COPY", close, "2019-01-01T00:00:00")
    write_series(bench.workspace, "STRANGE", walk(seed=2), "2019-01-01T00:00:00")
    await bench.save(await bench.trained(symbol="FIRST"), "kept")
    day = {"test_date": "2019-01-15"}  # within the first half of the bars
    copy = await bench.predict("kept", symbol="COPY", **day)
    assert copy.in_sample
    assert any("another name" in warning for warning in copy.warnings)
    assert not (await bench.predict("kept", symbol="STRANGE", **day)).in_sample
    assert not (await bench.predict("kept", symbol="COPY")).in_sample


async def test_a_backtest_on_bars_that_made_the_model_is_told_so_whatever_their_name(
    bench,
) -> None:
    close = walk(1_200)
    write_series(bench.workspace, "FIRST", close[:900])
    write_series(bench.workspace, "COPY", close, "2019-01-01T00:00:00")
    await bench.save(await bench.trained(symbol="FIRST"), "kept")
    asked = parse(requests.BacktestModel, {"model_name": "kept", "symbol": "COPY"})
    told = await bench.service.backtest_model(asked)
    assert told.bars.in_sample > 500
    assert told.bars.choosing > 100
    assert told.bars.out_of_sample == pytest.approx(300, abs=20)
    assert any("another name" in warning for warning in told.warnings)


@pytest.mark.parametrize("way", ["summary", "dry run"])
async def test_a_look_at_the_same_bars_under_another_name_is_told(way: str, bench) -> None:
    close = walk()
    write_series(bench.workspace, "FIRST", close)
    write_series(bench.workspace, "COPY", close[:600], "2019-01-01T00:00:00")
    write_series(bench.workspace, "STRANGE", walk(600, seed=2), "2019-01-01T00:00:00")
    asked = {"symbol": "FIRST", "timeframe": "1h"}
    if way == "summary":
        await bench.service.get_market_data_summary(parse(requests.SummarizeData, asked))
    else:
        strategy = await bench.service.get_available_strategies(
            parse(requests.ListStrategies, {"name": "default"})
        )
        asked |= {"name": "mine", "strategy": strategy.text.replace("default", "mine", 1)}
        await bench.service.save_strategy(parse(requests.SaveStrategy, {**asked, "dry_run": True}))
    copy, strange = [await bench.start(symbol=each) for each in ("COPY", "STRANGE")]
    (sentence,) = [each for each in copy.warnings if "looked at" in each]
    with closing(sqlite3.connect(bench.workspace.database)) as connection:
        query = "SELECT test_start FROM training_tasks WHERE task_id = ?"
        (first,) = connection.execute(query, (copy.task_id,)).fetchone()
        (until,) = connection.execute("SELECT until FROM looks").fetchone()
    hours = (np.datetime64(first[:19]) - np.datetime64("2019-01-01")) / np.timedelta64(1, "h")
    shown = (until // 10**9 - int(np.datetime64("2024-01-01", "s").astype(int))) / HOUR
    assert int(sentence.split()[0]) == shown - hours > 50
    assert not [each for each in strange.warnings if "looked at" in each]


async def test_backtests_on_the_same_fresh_bars_count_whatever_their_name(bench) -> None:
    fresh = walk(seed=5)
    write_series(bench.workspace, "FIRST", walk())
    write_series(bench.workspace, "FRESH", fresh, "2019-01-01T00:00:00")
    write_series(bench.workspace, "SAME", fresh[200:], "2009-01-01T00:00:00")
    write_series(bench.workspace, "STRANGE", walk(seed=2), "2019-01-01T00:00:00")
    await bench.save(await bench.trained(symbol="FIRST"), "kept")

    async def earlier(symbol: str, **more: object) -> int:
        asked = parse(requests.BacktestModel, {"model_name": "kept", "symbol": symbol, **more})
        return (await bench.service.backtest_model(asked)).timing.earlier

    assert await earlier("FRESH") == 0
    assert await earlier("SAME") == 1
    assert await earlier("STRANGE") == 0
    assert await earlier("SAME", cost_bps=1.0) == 2
    assert await earlier("SAME") == 1
    assert await earlier("FRESH") == 0


async def backtest(bench: Bench, model: str, symbol: str, **more: object) -> ModelBacktest:
    asked = parse(requests.BacktestModel, {"model_name": model, "symbol": symbol, **more})
    return await bench.service.backtest_model(asked)


async def earlier(bench: Bench, model: str, symbol: str, **more: object) -> int:
    """How many backtests one is judged beside."""
    return (await backtest(bench, model, symbol, **more)).timing.earlier


async def with_a_model(bench: Bench, name: str, seed: int, fresh: np.ndarray) -> None:
    """Gives a workspace a saved model and bars that it has not seen."""
    write_series(bench.workspace, "OWN", walk(seed=seed))
    write_series(bench.workspace, name, fresh, "2019-01-01T00:00:00")
    await bench.save(await bench.trained(symbol="OWN"), "kept")


async def test_backtests_of_other_workspaces_on_the_same_bars_count(
    shared: Path, open_bench: Open
) -> None:
    first, second = await open_bench("first"), await open_bench("second")
    await with_a_model(first, "FRESH", 1, walk(seed=5))
    await with_a_model(second, "SAME", 3, walk(seed=5)[200:])
    write_series(second.workspace, "STRANGE", walk(seed=2), "2019-01-01T00:00:00")
    assert await earlier(first, "kept", "FRESH") == 0
    assert await earlier(first, "kept", "FRESH", cost_bps=1.0) == 1
    assert await earlier(second, "kept", "SAME") == 2
    assert await earlier(second, "kept", "STRANGE") == 0
    assert await earlier(second, "kept", "SAME") == 2
    assert await asyncio.to_thread(count_rows, shared, "backtests") == 4


async def test_a_backtest_that_a_copy_of_a_workspace_repeats_changes_no_count(
    shared: Path, open_bench: Open, tmp_path: Path
) -> None:
    first = await open_bench("first")
    await with_a_model(first, "FRESH", 1, walk(seed=5))
    await asyncio.to_thread(shutil.copytree, first.workspace.root, tmp_path / "copy")
    copy = await open_bench("copy")
    assert await earlier(first, "kept", "FRESH", cost_bps=1.0) == 0
    assert await earlier(copy, "kept", "FRESH", cost_bps=2.0) == 1
    assert await earlier(copy, "kept", "FRESH", cost_bps=1.0) == 1
    assert await earlier(copy, "kept", "FRESH", cost_bps=2.0) == 1


async def test_backtests_made_while_the_record_could_not_be_used_are_sent_at_the_next_start(
    damaged: Path, open_bench: Open, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "first")
    async with open_workspace(workspace) as opened:
        first = Bench(opened.service, workspace)
        await with_a_model(first, "FRESH", 1, walk(seed=5))
        reply = await backtest(first, "kept", "FRESH")
        assert (reply.timing.earlier, "other workspaces" in reply.summary) == (0, True)
    await asyncio.to_thread(damaged.unlink)
    async with open_workspace(workspace):
        await asyncio.to_thread(wait_until, lambda: has_rows(damaged, "backtests"))
    second = await open_bench("second")
    await with_a_model(second, "SAME", 3, walk(seed=5))
    reply = await backtest(second, "kept", "SAME")
    assert (reply.timing.earlier, "other workspaces" in reply.summary) == (1, False)


def has_rows(path: Path, table: str) -> bool:
    """Whether a table of the record has any, once it is there."""
    try:
        return count_rows(path, table) > 0
    except sqlite3.Error:
        return False


def count_rows(path: Path, table: str) -> int:
    """How many rows a table of the record has."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


async def test_one_seed_of_a_set_again_counts_as_the_set_whatever_the_name_of_the_bars(
    bench,
) -> None:
    write_series(bench.workspace, "FIRST", walk())
    write_series(bench.workspace, "COPY", walk(), "2019-01-01T00:00:00")
    await bench.trained(symbol="FIRST", config={**SHORT, "seed": 1, "seeds": 3})
    assert (await trial_of(bench, "COPY", seed=2))[0] == 4


SEARCH = {"trials": 2, "vary": {"learning_rate": {"low": 1e-3, "high": 1e-2}}, "sampler": "random"}


@pytest.mark.parametrize("way", ["one candidate's figures", "one seed again"])
async def test_candidates_that_became_trials_count_in_other_workspaces(
    way: str, shared: Path, open_bench: Open
) -> None:
    first, second = await open_bench("first"), await open_bench("second")
    write_series(first.workspace, "FIRST", walk())
    write_series(second.workspace, "SAME", walk(), "2019-01-01T00:00:00")
    several = {"sweep": SEARCH} if way == "one candidate's figures" else {"seeds": 3}
    task_id = await first.trained(symbol="FIRST", config={**SHORT, "seed": 1, **several})
    await outcomes(shared, 1)
    before = await second.trained(symbol="SAME", config={**SHORT, "seed": 5})
    verdict = (await second.performance(before)).verdict
    assert verdict.as_of_trial == 2
    if "sweep" in several:
        asked = parse(requests.ReadCandidate, {"task_id": task_id, "candidate": 2})
        added, trials = (await first.service.candidate_test(asked)).adds_trials, 2
        assert added > 1
    else:
        await first.trained(symbol="FIRST", config={**SHORT, "seed": 2})
        added, trials = 2, 3
    await outcomes(shared, trials)
    await asyncio.to_thread(wait_until, lambda: count_rows(shared, "additions"))
    number, luck = await trial_of(second, "SAME", seed=6)
    assert number == 1 + trials + added
    assert spent(luck) == [trials + added, trials - 1 + added]
    assert (await second.performance(before)).verdict.as_of_trial == 2
    await outcomes(shared, trials + 1)
    assert (await trial_of(first, "FIRST", seed=7))[0] == 1 + trials + 1 + added


def forget(workspace: Workspace, task_id: str, folder: bool) -> None:
    """Loses the database, and what the task's folder keeps of its start, as earlier ones did."""
    for file in workspace.database.parent.glob(f"{workspace.database.name}*"):
        file.unlink()
    path = workspace.task_directory(task_id) / "task.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert Sketch.from_text(kept["tested_sketch"]).hashes.size > 100
    if not folder:
        old = {name: kept[name] for name in ("task_id", "request_hash", "idempotency_key")}
        path.write_text(json.dumps(old), encoding="utf-8")


@pytest.mark.parametrize("source", ["folder", "record"])
async def test_a_rebuilt_database_knows_its_trials_by_content(
    source: str, shared: Path, open_bench: Open, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "first")
    write_series(workspace, "FIRST", walk())
    write_series(workspace, "COPY", walk(), "2019-01-01T00:00:00")
    async with open_workspace(workspace) as opened:
        task_id = await Bench(opened.service, workspace).trained(symbol="FIRST")
        await outcomes(shared, 1)
    await asyncio.to_thread(forget, workspace, task_id, source == "folder")
    if source == "folder":
        await asyncio.to_thread(shared.unlink)
    done = await rebuild(workspace)
    assert done.tasks == 1
    async with open_workspace(workspace) as opened:
        assert (await trial_of(Bench(opened.service, workspace), "COPY"))[0] == 2
        await outcomes(shared, 2 if source == "folder" else 3)
    other = await open_bench("other")
    write_series(other.workspace, "SAME", walk(), "2009-01-01T00:00:00")
    assert (await trial_of(other, "SAME"))[0] == 3


async def test_a_record_of_an_earlier_version_gets_the_newer_tables(shared: Path) -> None:
    def extend() -> set[str]:
        with record.open_record(shared) as connection:
            connection.execute("DROP TABLE additions")
            connection.execute("DROP TABLE backtests")
        with record.open_record(shared) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {row[0] for row in rows}

    assert await asyncio.to_thread(extend) == {
        "trials",
        "outcomes",
        "sketches",
        "additions",
        "backtests",
    }
