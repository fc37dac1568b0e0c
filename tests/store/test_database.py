"""Opening, migrating, writing and closing the database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ktrdr_mcp import limits
from ktrdr_mcp.errors import DatabaseError, StorageError, StorageFull
from ktrdr_mcp.store import inspection
from ktrdr_mcp.store.db import Database, finish, rows_of
from ktrdr_mcp.store.migrate import read_migrations
from ktrdr_mcp.store.models import ModelRegistry
from ktrdr_mcp.store.sqlite_errors import sqlite_errors
from ktrdr_mcp.store.tasks import TaskStore

pytestmark = pytest.mark.asyncio

SECOND = "CREATE TABLE later (word TEXT) STRICT; INSERT INTO later VALUES ('new');"
VERSION = len(read_migrations())
VERSION_1 = Path(__file__).parent / "databases" / "version_1.sql"
TIMESTAMPS = (0, 1, *(2**power for power in range(1, 11)))  # turns of the event loop


def column(path: Path, sql: str) -> list[object]:
    """The first column of a query, read without the code under test."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(sql)]


def mode(path: Path) -> int:
    """The permission bits of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def content(path: Path) -> bytes:
    """A file's bytes."""
    return path.read_bytes()


def make_version_1(path: Path) -> None:
    """Puts a database of version 1 where there may be one."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))


def damage(path: Path, first_byte: int) -> None:
    """Overwrites a part of a file."""
    with path.open("r+b") as file:
        file.seek(first_byte)
        file.write(b"\xa5" * 200)


async def test_a_new_database_has_its_tables_and_only_its_owner_can_read_it(path: Path) -> None:
    async with await Database.open(path):
        pass
    assert column(path, "SELECT name FROM sqlite_master WHERE type='table' ORDER BY 1") == [
        "added_trials", "backtests", "foreign_trials", "looks", "models", "research_notes",
        "sketches", "sqlite_sequence", "standings", "task_handles", "test_readings",
        "training_tasks", "workspace",
    ]  # fmt: skip
    assert column(path, "PRAGMA user_version") == [VERSION]
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700


async def test_the_connections_are_durable_and_the_reader_cannot_write(database: Database) -> None:
    assert (await database.read("PRAGMA journal_mode"))[0][0] == "wal"
    async with database.transaction() as connection:
        pragmas = [
            (await rows_of(connection, f"PRAGMA {name}"))[0][0]
            for name in ("synchronous", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == [2, 1, 5000]
    with pytest.raises(StorageError):
        await database.read("DELETE FROM models")


async def test_a_transaction_whose_block_fails_changes_nothing(database: Database) -> None:
    async def fail_half_way() -> None:
        async with database.transaction() as connection:
            await rows_of(connection, "CREATE TABLE half (x)")
            raise KeyError

    with pytest.raises(KeyError):
        await fail_half_way()
    assert await database.read("SELECT * FROM sqlite_master WHERE name = 'half'") == []


async def test_a_transaction_cancelled_at_any_moment_is_whole_or_absent(
    database: Database,
) -> None:
    async with database.transaction() as connection:
        await rows_of(connection, "CREATE TABLE pair (x INTEGER)")

    async def write_both() -> None:
        async with database.transaction() as connection:
            await rows_of(connection, "INSERT INTO pair VALUES (1)")
            await rows_of(connection, "INSERT INTO pair VALUES (2)")

    for turns in TIMESTAMPS:
        writing = asyncio.create_task(write_both())
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert (await database.read("SELECT count(*) FROM pair"))[0][0] % 2 == 0
    await write_both()  # the connection is free again


async def test_transactions_of_parallel_callers_do_not_mix(database: Database) -> None:
    async with database.transaction() as connection:
        await rows_of(connection, "CREATE TABLE counter (x INTEGER)")
        await rows_of(connection, "INSERT INTO counter VALUES (0)")

    async def increment() -> None:
        async with database.transaction() as connection:
            value = (await rows_of(connection, "SELECT x FROM counter"))[0][0]
            await asyncio.sleep(0)
            await rows_of(connection, "UPDATE counter SET x = ?", (value + 1,))

    await asyncio.gather(*(increment() for _ in range(20)))
    assert (await database.read("SELECT x FROM counter"))[0][0] == 20


async def test_an_older_database_is_backed_up_and_then_migrated(path: Path) -> None:
    async with await Database.open(path):
        pass
    async with await Database.open(path, [*read_migrations(), SECOND]) as database:
        assert (await database.read("SELECT word FROM later"))[0][0] == "new"
    assert column(path, "PRAGMA user_version") == [VERSION + 1]
    backup = path.with_name(f"ktrdr.db.bak-{VERSION}")
    assert column(backup, "PRAGMA user_version") == [VERSION]
    assert mode(backup) == 0o600


async def test_a_migration_that_fails_leaves_the_old_version(path: Path) -> None:
    async with await Database.open(path):
        pass
    with pytest.raises(DatabaseError):
        await Database.open(path, [*read_migrations(), f"{SECOND} SELECT nonsense;"])
    assert column(path, "PRAGMA user_version") == [VERSION]
    assert column(path, "SELECT name FROM sqlite_master WHERE name = 'later'") == []
    async with await Database.open(path, [*read_migrations(), SECOND]):
        pass


async def test_every_start_keeps_a_copy_of_a_sound_database(path: Path) -> None:
    async with await Database.open(path) as database, database.transaction() as connection:
        await rows_of(connection, "CREATE TABLE kept (x)")
    assert list(path.parent.glob("*.bak*")) == []
    async with await Database.open(path):
        pass
    (backup,) = path.parent.glob("*.bak*")
    assert column(backup, "SELECT name FROM sqlite_master WHERE name = 'kept'") == ["kept"]
    assert mode(backup) == 0o600


async def test_a_database_too_large_to_copy_is_opened_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_DATABASE_BACKUP_BYTES", 1)
    for _ in range(2):
        async with await Database.open(path):
            pass
    assert list(path.parent.glob("*.bak*")) == []


async def test_a_database_of_version_1_keeps_everything(path: Path) -> None:
    path.parent.mkdir()
    make_version_1(path)
    async with await Database.open(path) as database:
        tasks = TaskStore(database)
        rows = {row.task_id: row for row in (await tasks.page(9)).rows}
        assert {name: row.status for name, row in rows.items()} == {
            "done": "completed",
            "died": "training",
            "waits": "pending",
        }
        assert all((row.crashes, row.resumed_from) == (0, None) for row in rows.values())
        (released,) = await tasks.requeue_running("new")
        assert (released.task_id, released.crashes, released.attempt) == ("died", 1, 2)
        assert (await ModelRegistry(database).newest("kept")).task_id == "done"
    backup = path.with_name("ktrdr.db.bak-1")
    assert column(backup, "SELECT count(*) FROM training_tasks") == [3]
    assert column(backup, "PRAGMA user_version") == [1]


async def test_a_backup_from_before_the_database_knew_its_workspace_can_be_put_back(
    path: Path,
) -> None:
    async with await Database.open(path):
        pass
    make_version_1(path)
    for _ in range(2):
        async with await Database.open(path) as database:
            assert len((await TaskStore(database).page(9)).rows) == 3


async def test_a_newer_database_is_refused_unchanged(path: Path) -> None:
    async with await Database.open(path, [*read_migrations(), SECOND]):
        pass
    before = content(path)
    with pytest.raises(DatabaseError, match=f"version {VERSION + 1}; this program knows {VERSION}"):
        await Database.open(path)
    assert content(path) == before


async def test_a_foreign_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(DatabaseError, match="belongs to another program"):
        await Database.open(path)


@pytest.mark.parametrize("first_byte", [0, 4096])
async def test_a_damaged_database_is_refused_with_the_way_back(path: Path, first_byte: int) -> None:
    async with await Database.open(path):
        pass
    damage(path, first_byte)
    with pytest.raises(DatabaseError, match="damaged") as caught:
        await Database.open(path)
    assert "doctor --rebuild" in caught.value.hint
    assert str(path.parent) not in caught.value.message


async def test_an_interrupted_first_opening_can_be_repeated(path: Path) -> None:
    path.parent.mkdir()
    os.mknod(path)
    async with await Database.open(path) as database:
        assert (await database.read("SELECT count(*) FROM models"))[0][0] == 0


async def test_a_place_that_cannot_hold_the_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        await Database.open(tmp_path / "file" / "ktrdr.db")
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_IOERR_WRITE, StorageError),
        (sqlite3.SQLITE_READONLY, StorageError),
        (sqlite3.SQLITE_BUSY, StorageError),
        (sqlite3.SQLITE_CORRUPT, DatabaseError),
        (sqlite3.SQLITE_ERROR, DatabaseError),
    ],
)
async def test_failures_of_sqlite_get_the_code_that_says_what_to_do(
    code: int, expected: type[StorageError]
) -> None:
    failure = sqlite3.OperationalError("database or disk")
    failure.sqlite_errorcode = code
    with pytest.raises(StorageError) as caught, sqlite_errors("testing"):
        raise failure
    assert type(caught.value) is expected


async def test_a_full_disk_keeps_what_was_stored_and_ends_with_space(database: Database) -> None:
    async with database.transaction() as connection:
        await rows_of(connection, "CREATE TABLE blob (x TEXT)")
        await rows_of(connection, "INSERT INTO blob VALUES ('kept')")
        pages = (await rows_of(connection, "PRAGMA page_count"))[0][0]
        await rows_of(connection, f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull):
        async with database.transaction() as connection:
            await rows_of(connection, "INSERT INTO blob VALUES (?)", ("x" * 100_000,))
    async with database.transaction() as connection:
        await rows_of(connection, "PRAGMA max_page_count = 100000")
        await rows_of(connection, "INSERT INTO blob VALUES ('after')")
    assert [row[0] for row in await database.read("SELECT x FROM blob")] == ["kept", "after"]


async def test_closing_ends_every_thread_and_can_be_repeated(path: Path) -> None:
    before = threading.active_count()
    database = await Database.open(path)
    await database.close()
    await database.close()
    await asyncio.get_running_loop().shutdown_default_executor()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(5)
    assert threading.active_count() <= before
    with pytest.raises(DatabaseError, match="closed"):
        await database.read("SELECT 1")
    with pytest.raises(DatabaseError, match="closed"):
        async with database.transaction():
            pass


@pytest.mark.parametrize("turns", TIMESTAMPS)
async def test_opening_or_closing_that_is_cancelled_leaves_no_thread(
    path: Path, turns: int
) -> None:
    async def open_and_close() -> None:
        async with await Database.open(path):
            pass

    opening = asyncio.create_task(open_and_close())
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    # pytest would hang at its exit otherwise; aiosqlite names its threads after their target.
    alive = [each for each in threading.enumerate() if "_connection_worker" in each.name]
    for thread in alive:
        thread.join(5)
    assert not any(thread.is_alive() for thread in alive)


async def test_a_process_that_fails_with_an_open_database_still_exits(path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from ktrdr_mcp.store.db import Database\n"
        "async def main():\n"
        "    async with await Database.open(pathlib.Path(sys.argv[1])):\n"
        "        raise SystemExit(3)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    ended = await asyncio.to_thread(subprocess.run, command, timeout=60, check=False)
    assert ended.returncode == 3


@pytest.mark.asyncio
async def test_a_disk_that_is_full_at_the_end_does_not_look_like_damage_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ktrdr.db"
    database = await Database.open(path)

    def full(*_: object) -> None:
        raise StorageFull("No space left.", hint="Free disk space.")

    monkeypatch.setattr(inspection, "write", full)
    await database.close()
    monkeypatch.undo()
    again = await Database.open(path)
    await again.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("fails", [True, False])
async def test_a_caller_that_is_cancelled_hears_of_it_whether_the_work_succeeds_or_fails(
    fails: bool,
) -> None:
    inside, ends = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        inside.set()
        await ends.wait()
        if fails:
            raise StorageFull("No space left.", hint="Free disk space.")

    caller = asyncio.create_task(finish(work()))
    await inside.wait()
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    ends.set()
    with pytest.raises(asyncio.CancelledError) as told:
        await caller
    assert isinstance(told.value.__cause__, StorageFull) == fails
