"""The workspace's database: one connection that writes, one that only reads."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiosqlite

from ktrdr_mcp.errors import DatabaseError, StorageError
from ktrdr_mcp.store import inspection
from ktrdr_mcp.store.migrate import CONNECTION_PRAGMAS, prepare, read_migrations
from ktrdr_mcp.store.sqlite_errors import sqlite_errors


def utc_now_text() -> str:
    """The time now as replies show it: ISO 8601, UTC, whole seconds, with Z."""
    return days_ago_text(0)


def days_ago_text(days: int) -> str:
    """The time so many days ago, in the same form; texts of this form are in the order of time."""
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


Value = TypeVar("Value")


async def finish(work: Coroutine[Any, Any, Value]) -> Value:
    """Waits for short work to end even if the caller is cancelled meanwhile.

    Args:
        work: a coroutine that ends soon by itself, such as a commit.
    Returns:
        what the work returned.
    Raises:
        CancelledError: the caller was cancelled; the work has ended nevertheless, or failed, which
            is the error's cause. A caller that tries again would else never hear that it must end.
        BaseException: the work's own failure.
    """
    task = asyncio.ensure_future(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            interruption = error
        except BaseException:
            break  # the work's own failure, raised again below
    if interruption is None or task.cancelled():
        return task.result()
    raise interruption from task.exception()


SqlValue = str | int | float | bytes | None
Parameters = Sequence[SqlValue] | Mapping[str, SqlValue]

COUNT_COMMIT: Final = "UPDATE workspace SET commits = commits + 1"
IDENTITY: Final = "SELECT workspace_id FROM workspace"

log = logging.getLogger(__name__)


async def _connect(path: Path, *more_pragmas: str) -> aiosqlite.Connection:
    """An open connection without implicit transactions, closed again if its set-up fails."""
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        for pragma in (*CONNECTION_PRAGMAS, *more_pragmas):
            await connection.execute_fetchall(pragma)
    except BaseException:
        await connection.close()
        raise
    return connection


class Database:
    """An open database. Must be closed: its threads keep the process from exiting."""

    def __init__(
        self, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._writing = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(cls, path: Path, migrations: Sequence[str] | None = None) -> Self:
        """Opens the database, creating or migrating it first.

        Args:
            path: the database file; its folder is made if it is missing.
            migrations: SQL of every migration, oldest first; this program's own by default.
        Raises:
            DatabaseError: it is damaged, not ours, or written by a newer version.
            StorageError: it cannot be read or written.
        """
        opened: list[Self] = []
        try:
            await finish(cls._open_into(opened, path, migrations))
        except BaseException:
            for database in opened:
                await database.close()
            raise
        return opened[0]

    @classmethod
    async def _open_into(
        cls, opened: list[Self], path: Path, migrations: Sequence[str] | None
    ) -> None:
        """Opens both connections, or leaves none open."""
        known = read_migrations() if migrations is None else migrations
        await asyncio.to_thread(prepare, path, known)
        with sqlite_errors("opening the database"):
            writer = await _connect(path)
            try:
                reader = await _connect(path, "PRAGMA query_only = ON")
            except BaseException:
                await writer.close()
                raise
        database = cls(path, writer, reader)
        opened.append(database)
        async with database.transaction():
            pass  # from here on there is a log, and the marker may say so
        await database._mark(running=True)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    async def _mark(self, running: bool) -> None:
        """Says beside the file whose it is, and whether it is in use."""
        identity = str((await self.read(IDENTITY))[0][0])
        await asyncio.to_thread(inspection.write, self._path, inspection.Marker(identity, running))

    async def __aenter__(self) -> Self:
        """The database itself."""
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the database."""
        await self.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """The writing connection inside one transaction, committed only if the block ends normally.

        Yields:
            the connection; use `execute_fetchall` on it.
        Raises:
            StorageError: it could not be written; nothing was changed.
        """
        async with self._writing:
            self._check_open()
            with sqlite_errors("writing the database"):
                try:
                    await self._writer.execute_fetchall("BEGIN IMMEDIATE")
                    await self._writer.execute_fetchall(COUNT_COMMIT)
                    yield self._writer
                    await finish(self._writer.commit())
                except BaseException:
                    # Before the lock is free; after a commit there is nothing left to roll back.
                    await finish(self._writer.rollback())
                    raise

    async def read(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """All rows of one SELECT over what is committed.

        Args:
            sql: the statement.
            parameters: its values, by position or by name.
        Raises:
            StorageError: it could not be read.
        """
        self._check_open()
        with sqlite_errors("reading the database"):
            return await rows_of(self._reader, sql, parameters)

    async def close(self) -> None:
        """Closes both connections, the reader first, whatever happens to the caller."""
        if self._closed:
            return
        await finish(self._close())

    async def _close(self) -> None:
        """The writer is last, so that it alone moves the log into the database file."""
        async with self._writing:
            try:
                await self._mark(running=False)
            except StorageError as error:
                # It would go on saying that there is a log, which closing is about to remove.
                inspection.remove(self._path)
                log.warning("the workspace's marker was not written: %s", error.message)
            self._closed = True
        with sqlite_errors("closing the database"):
            try:
                await self._reader.close()
            finally:
                await self._writer.close()
        # What refused both may be over by now; with the log gone, nobody else can tell.
        await asyncio.to_thread(inspection.say_closed, self._path)

    def _check_open(self) -> None:
        """Raises DatabaseError after close."""
        if self._closed:
            raise DatabaseError(
                "The database is closed.", hint="Start the server again, then repeat the call."
            )


async def rows_of(
    connection: aiosqlite.Connection, sql: str, parameters: Parameters = ()
) -> list[sqlite3.Row]:
    """All rows that one statement gives on this connection.

    Args:
        connection: the connection of a transaction.
        sql: one statement, also an INSERT or UPDATE with RETURNING.
        parameters: its values, by position or by name.
    """
    return list(await connection.execute_fetchall(sql, parameters))
