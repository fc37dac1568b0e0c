"""A damaged database is refused as it was found, and a new one is made from the bundles."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import DatabaseError, KtrdrError
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.service.reconciliation import rebuild, verify
from ktrdr_mcp.store import repair
from ktrdr_mcp.store.db import Database
from ktrdr_mcp.store.stores import Stores
from tests.support.fault_table import LONG
from tests.support.made_workspace import MODEL, TASK, predict, train
from tests.support.nothing_lost import assert_nothing_lost

PAGE_BYTES = 4096


def database(workspace: Path) -> Path:
    return workspace / ".ktrdr" / "ktrdr.db"


def log(workspace: Path) -> Path:
    return workspace / ".ktrdr" / "ktrdr.db-wal"


def files_of(workspace: Path) -> dict[str, bytes]:
    """Everything with content but the index of the log, which SQLite makes anew."""
    found = {
        str(path.relative_to(workspace)): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and not path.name.endswith("-shm")
    }
    return {name: content for name, content in found.items() if content}


async def refused(workspace: Path) -> DatabaseError:
    """Asserts that no server opens and that no file changes."""
    before = files_of(workspace)
    with pytest.raises(DatabaseError) as caught:
        async with open_workspace(Workspace(workspace)):
            pass
    assert files_of(workspace) == before
    assert "doctor --rebuild" in caught.value.hint
    assert str(workspace) not in caught.value.message + caught.value.hint
    return caught.value


async def rebuilt_and_in_order(workspace: Path) -> None:
    """Rebuilds, then asserts that result and model are there and that work goes on."""
    await rebuild(Workspace(workspace))
    async with open_workspace(Workspace(workspace)) as opened:
        assert (await predict(opened.service))["model_name"] == MODEL
        assert await train(opened.service, "later", seed=1) == "completed"
    assert_nothing_lost(workspace, {TASK, "later"})


def overwrite(path: Path, position: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)


def empty(workspace: Path) -> None:
    database(workspace).write_bytes(b"")


def missing(workspace: Path) -> None:
    database(workspace).unlink()


def header(workspace: Path) -> None:
    overwrite(database(workspace), 0, b"\xa5" * 100)


def first_pages(workspace: Path) -> None:
    overwrite(database(workspace), 100, b"\xa5" * 3 * PAGE_BYTES)


def truncated(workspace: Path) -> None:
    content = database(workspace).read_bytes()
    database(workspace).write_bytes(content[: len(content) // 2])


DAMAGES = [empty, missing, header, first_pages, truncated]


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
async def test_a_damaged_file_is_refused_and_its_backup_named(
    clean: Path, damage: Callable[[Path], None]
) -> None:
    damage(clean)
    assert "ktrdr.db.bak-start" in (await refused(clean)).hint
    await rebuilt_and_in_order(clean)


@pytest.mark.asyncio
async def test_after_damage_everything_is_rebuilt_from_the_bundles(clean: Path) -> None:
    header(clean)
    await rebuilt_and_in_order(clean)
    assert len(list((clean / ".ktrdr").glob("ktrdr.db.damaged-*"))) == 1


@pytest.mark.asyncio
async def test_a_backup_can_be_put_in_the_place_of_a_damaged_file(clean: Path) -> None:
    empty(clean)
    (clean / ".ktrdr" / "ktrdr.db.bak-start").rename(database(clean))
    async with open_workspace(Workspace(clean)) as opened:
        assert (await predict(opened.service))["model_name"] == MODEL
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
async def test_a_log_that_is_gone_is_noticed(crashed: Path) -> None:
    log(crashed).unlink()
    assert "log" in (await refused(crashed)).message
    await rebuilt_and_in_order(crashed)


@pytest.mark.asyncio
async def test_after_another_program_opened_a_crashed_database_a_rebuild_keeps_every_row(
    crashed: Path,
) -> None:
    with closing(sqlite3.connect(database(crashed))) as connection:
        rows = connection.execute("SELECT * FROM training_tasks").fetchall()
    assert not log(crashed).exists()
    error = await refused(crashed)
    assert "the file is whole" in error.message
    assert "bak-" not in error.hint
    (finding,) = verify(Workspace(crashed))
    assert (finding.state, finding.text, finding.remedy) == ("wrong", error.message, error.hint)
    done = await rebuild(Workspace(crashed))
    assert (done.models, done.tasks) == (1, 0)
    assert ["only the database's log" in each.text for each in done.left_out] == [True]
    with closing(sqlite3.connect(database(crashed))) as connection:
        assert connection.execute("SELECT * FROM training_tasks").fetchall() == rows
    await rebuilt_and_in_order(crashed)


@pytest.mark.asyncio
async def test_a_backup_can_be_put_in_the_place_of_a_database_whose_process_died(
    clean: Path, crashed: Path
) -> None:
    for path in (database(crashed), log(crashed)):
        path.unlink()
    (clean / ".ktrdr" / "ktrdr.db.bak-start").rename(database(crashed))
    marker = crashed / ".ktrdr" / "workspace.json"
    assert json.loads(marker.read_text(encoding="utf-8"))["running"]
    async with open_workspace(Workspace(crashed)) as opened:
        assert (await predict(opened.service))["model_name"] == MODEL
    assert_nothing_lost(crashed, {TASK})


@pytest.mark.asyncio
async def test_a_log_is_never_applied_to_the_backup_that_was_put_beside_it(
    clean: Path, crashed: Path
) -> None:
    (clean / ".ktrdr" / "ktrdr.db.bak-start").rename(database(crashed))
    assert "the log of another file" in (await refused(crashed)).message
    await rebuilt_and_in_order(crashed)


@pytest.mark.asyncio
async def test_a_log_of_another_workspace_is_noticed(crashed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    async with await Database.open(database(other)):
        foreign = log(other).read_bytes()
    log(crashed).write_bytes(foreign)
    assert "another workspace" in (await refused(crashed)).message
    await rebuilt_and_in_order(crashed)
    assert list((crashed / ".ktrdr").glob("ktrdr.db.damaged-1-wal"))


@pytest.mark.asyncio
async def test_a_database_of_another_workspace_is_noticed(clean: Path, tmp_path: Path) -> None:
    async with await Database.open(database(tmp_path / "other")):
        pass
    database(clean).write_bytes(database(tmp_path / "other").read_bytes())
    assert "another workspace" in (await refused(clean)).message
    await rebuilt_and_in_order(clean)


@pytest.mark.asyncio
async def test_a_newer_database_is_left_alone_even_by_a_rebuild(clean: Path) -> None:
    with closing(sqlite3.connect(database(clean))) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA user_version = 99")
    before = files_of(clean)
    for attempt in (Database.open(database(clean)), rebuild(Workspace(clean))):
        with pytest.raises(DatabaseError, match="version 99") as caught:
            await attempt
        assert "newer" in caught.value.hint
    assert files_of(clean) == before
    with closing(sqlite3.connect(database(clean))) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
async def test_a_damaged_marker_does_not_stop_a_sound_database(clean: Path) -> None:
    (clean / ".ktrdr" / "workspace.json").write_text("{", encoding="utf-8")
    async with open_workspace(Workspace(clean)) as opened:
        assert (await predict(opened.service))["model_name"] == MODEL
    marker = json.loads((clean / ".ktrdr" / "workspace.json").read_text(encoding="utf-8"))
    assert not marker["running"]
    assert_nothing_lost(clean, {TASK})


@pytest.mark.asyncio
async def test_what_a_crash_left_is_whole(crashed: Path) -> None:
    async with open_workspace(Workspace(crashed)) as opened:
        assert (await predict(opened.service))["model_name"] == MODEL
    assert_nothing_lost(crashed, {TASK})


async def opens(workspace: Path) -> bool:
    """Whether the database still opens and reads; if not, the error says what to do."""
    errors = []
    try:
        async with await Database.open(database(workspace)) as opened:
            await Stores.of(opened).tasks.page(5)
            await Stores.of(opened).registry.page(5)
    except KtrdrError as error:
        errors.append(error)
    assert all(error.hint for error in errors)
    return not errors


@pytest.mark.asyncio
async def test_after_any_overwritten_page_the_registry_can_be_rebuilt(
    copy_of: Callable[[str], Path], new_fault
) -> None:
    fault = new_fault("database page overwritten")
    pages = database(copy_of("clean")).stat().st_size // PAGE_BYTES
    chosen = range(pages) if LONG else range(0, pages, 4)
    opened = 0
    for page in chosen:
        workspace = copy_of("clean")
        overwrite(database(workspace), page * PAGE_BYTES, b"\xa5" * PAGE_BYTES)
        opened += await opens(workspace)
        fault.tries += 1
        await rebuild(Workspace(workspace))
        assert [row.model_name for row in repair.read(database(workspace)).models] == [MODEL]
        assert_nothing_lost(workspace, {TASK})
    assert opened < len(chosen)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("column", "content"),
    [("config", "{"), ("result", "{"), ("result", "{}"), ("scores", "{"), ("scores", "{}")],
)
async def test_a_row_whose_content_is_unreadable_is_made_anew_from_its_bundle(
    clean: Path, column: str, content: str
) -> None:
    with closing(sqlite3.connect(database(clean))) as connection:
        before = connection.execute(f"SELECT {column} FROM training_tasks").fetchall()
        guards = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
            " AND tbl_name = 'training_tasks'"
        ).fetchall()
        for name, _ in guards:  # which keep the program from what damage does
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(f"UPDATE training_tasks SET {column} = ?", (content,))
        for _, sql in guards:
            connection.execute(sql)
        connection.commit()
    assert "wrong" in {finding.state for finding in verify(Workspace(clean))}
    done = await rebuild(Workspace(clean))
    assert (done.models, done.tasks) == (1, 1)
    with closing(sqlite3.connect(database(clean))) as connection:
        after = connection.execute(f"SELECT {column} FROM training_tasks").fetchall()
    assert [json.loads(*row) for row in after] == [json.loads(*row) for row in before]
    await rebuilt_and_in_order(clean)


@pytest.mark.asyncio
async def test_after_any_flipped_bit_the_registry_can_be_rebuilt(
    copy_of: Callable[[str], Path], new_fault
) -> None:
    fault, generator = new_fault("database bit flipped"), random.Random(5)
    for number in range(100 if LONG else 6):
        fault.tries += 1
        workspace = copy_of("crashed" if number % 2 else "clean")
        path = log(workspace) if number % 2 else database(workspace)
        position = generator.randrange(path.stat().st_size)
        bit = 1 << generator.randrange(8)
        overwrite(path, position, bytes([path.read_bytes()[position] ^ bit]))
        for finding in verify(Workspace(workspace)):
            assert finding.text
        await opens(workspace)
        await rebuild(Workspace(workspace))
        assert [row.model_name for row in repair.read(database(workspace)).models] == [MODEL]
        async with open_workspace(Workspace(workspace)):
            pass  # what was only in the log may be as it was while it trained
        assert_nothing_lost(workspace, {TASK})
