"""Counts the steps by which the program writes files and database, and spoils some of them."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

import aiosqlite

from ktrdr_mcp import files

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CALLS_BY_PATH = ("mkdir", "rename", "replace", "unlink", "rmdir", "symlink", "chmod")
ERRORS = {"full": errno.ENOSPC, "failing": errno.EIO, "readonly": errno.EROFS}
SQLITE_CODES = {
    "full": (sqlite3.SQLITE_FULL, "SQLITE_FULL"),
    "failing": (sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE"),
    "readonly": (sqlite3.SQLITE_READONLY, "SQLITE_READONLY"),
}


class Steps:
    """The steps of this process.

    Args:
        first: the number of the first step that is spoilt, from 1.
        spoilt: how many are, one after the other.
        mode: "kill", or how they fail: "full", "failing" or "readonly".
    """

    def __init__(self, first: int, spoilt: int, mode: str) -> None:
        self.first, self.spoilt, self.mode = first, spoilt, mode
        self.count = 0
        self.spoilt_names: list[str] = []

    def free(self) -> None:
        """No step is spoilt any more."""
        self.spoilt = 0

    @property
    def reached(self) -> bool:
        """Whether there was a step to spoil."""
        return self.count >= self.first

    def _is_spoilt(self, name: str) -> bool:
        """Counts one step; a process that is to be killed dies here."""
        self.count += 1
        if not self.first <= self.count < self.first + self.spoilt:
            return False
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.spoilt_names.append(name)
        return True

    def file_step(self, name: str) -> None:
        """One call of the operating system."""
        if self._is_spoilt(name):
            raise OSError(ERRORS[self.mode], os.strerror(ERRORS[self.mode]))

    def database_step(self, name: str) -> None:
        """One statement or commit."""
        if self._is_spoilt(name):
            error = sqlite3.OperationalError("spoilt")
            error.sqlite_errorcode, error.sqlite_errorname = SQLITE_CODES[self.mode]
            raise error

    def install(self) -> None:
        """Puts itself between the program and the system, for the rest of this process."""
        self._watch_files()
        self._watch_contents()
        self._watch_database()

    def _watch_files(self) -> None:
        real_open, real_fsync = os.open, os.fsync

        def watched_open(path: Any, flags: int, *more: Any, **options: Any) -> int:
            if flags & WRITING:
                self.file_step(f"open {path}")
            return real_open(path, flags, *more, **options)

        def watched_fsync(descriptor: int) -> None:
            self.file_step("fsync")
            real_fsync(descriptor)

        os.open, os.fsync = watched_open, watched_fsync  # type: ignore[assignment]
        for name in CALLS_BY_PATH:
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.file_step(f"{name} {arguments[0]}")
            return real(*arguments, **options)

        return watched

    def _watch_contents(self) -> None:
        real_fdopen, steps = os.fdopen, self

        class Torn:
            """A file whose content may be written by half."""

            def __init__(self, file: Any) -> None:
                self.file = file

            def __enter__(self) -> Torn:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            def write(self, data: bytes) -> int:
                half = len(data) // 2
                written = self.file.write(data[:half])
                self.file.flush()
                steps.file_step("write")
                return int(written + self.file.write(data[half:]))

        class Functions:
            """The module os, as `durable` sees it."""

            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

            def fdopen(self, *arguments: Any, **options: Any) -> Torn:
                return Torn(real_fdopen(*arguments, **options))

        files.os = Functions()  # type: ignore[assignment]

    def _watch_database(self) -> None:
        real_execute = aiosqlite.Connection.execute_fetchall
        real_commit = aiosqlite.Connection.commit
        steps = self

        async def execute(connection: Any, sql: str, *arguments: Any) -> Any:
            if not sql.lstrip().startswith(("SELECT", "PRAGMA")):
                steps.database_step(" ".join(sql.split()[:3]))
            return await real_execute(connection, sql, *arguments)

        async def commit(connection: Any) -> None:
            steps.database_step("before commit")
            await real_commit(connection)
            steps.database_step("after commit")

        aiosqlite.Connection.execute_fetchall = execute  # type: ignore[method-assign]
        aiosqlite.Connection.commit = commit  # type: ignore[method-assign]
