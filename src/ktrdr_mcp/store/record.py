"""The record of all workspaces of a user: what was tried and traded on which bars, and the outcome.

It lies in the user's data folder, or where KTRDR_TRIAL_RECORD says. Each workspace adds its own
rows once they are committed in its own database, which stays the truth for its tasks; rows that
could not be added are sent again at the next occasion. Whatever is wrong with the record, and
however long it is locked, no training waits for it or fails by it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.data.relations import Stretch
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.files import make_folder
from ktrdr_mcp.store.backtests import LoggedBacktest
from ktrdr_mcp.store.trials import Addition, Trial

FORMAT: Final = 1
APPLICATION: Final = 0x4B545244  # "KTRD"
BUSY_S: Final = 0.5  # for how long a lock is waited for
LIMIT_S: Final = 3.0  # for how long one use may take in all
REST_S: Final = 60.0  # without a further try after one that failed
NEWEST_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE name = 'backtests'"

Value = TypeVar("Value")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Args:
        task_id: in its own workspace.
        status: completed, failed or cancelled.
        completed_at: when, ISO 8601 UTC.
        claimed: whether it was called skill, also across families.
        scores: as JSON; None if it did not complete.
    """

    task_id: str
    status: str
    completed_at: str
    claimed: bool
    scores: str | None


@dataclass(frozen=True)
class Missing:
    """What the record lacks of a workspace.

    Args:
        trials: task ids of which it has no row.
        outcomes: of which it does not know the end.
        additions: of sets whose candidates it does not count.
        backtests: by what names each.
    """

    trials: frozenset[str]
    outcomes: frozenset[str]
    additions: frozenset[str]
    backtests: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.trials or self.outcomes or self.additions or self.backtests)


@dataclass(frozen=True)
class Others:
    """What the record has of all other workspaces.

    Args:
        trials: in the order of their starts.
        additions: candidates of theirs that count as trials.
    """

    trials: Sequence[Trial]
    additions: Sequence[Addition]


class TrialRecord:
    """The record as one workspace sees it. Every method gives None where it cannot be used.

    Args:
        path: the file; None if there can be none.
        workspace: the name by which others know this workspace.
    """

    def __init__(self, path: Path | None, workspace: str) -> None:
        self._path = path
        self._workspace = workspace
        self._rests_until = 0.0

    async def missing(
        self, trials: Sequence[Trial], additions: Sequence[Addition], backtests: Iterable[str]
    ) -> Missing | None:
        """Which of the workspace's trials, additions and backtests, and whose ends, it lacks."""

        def look(connection: sqlite3.Connection) -> Missing:
            known = names_in(connection, "trials", self._workspace)
            ended = names_in(connection, "outcomes", self._workspace)
            added = names_in(connection, "additions", self._workspace, "set_id")
            return Missing(
                frozenset(each.task_id for each in trials if each.task_id not in known),
                frozenset(
                    each.task_id
                    for each in trials
                    if each.completed_at is not None and each.task_id not in ended
                ),
                frozenset(each.set_id for each in additions) - added,
                frozenset(backtests) - names_in(connection, "backtests", self._workspace, "what"),
            )

        return await self._use(look)

    async def add(
        self,
        trials: Iterable[Trial],
        sketches: Mapping[str, Sketch],
        outcomes: Iterable[Outcome],
        additions: Iterable[Addition],
        backtests: Iterable[tuple[LoggedBacktest, str]],
    ) -> bool | None:
        """Adds rows of the workspace; those that are there already stay as they are.

        Args:
            trials: to be added.
            sketches: of their windows and of the bars of backtests, by key.
            outcomes: to be added.
            additions: likewise.
            backtests: likewise, each with its scores as JSON.
        """
        own = self._workspace

        def write(connection: sqlite3.Connection) -> bool:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO sketches VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(key, one.halvings, one.to_bytes()) for key, one in sketches.items()],
            )
            connection.executemany(
                "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(own, *row_of(each)) for each in trials],
            )
            connection.executemany(
                "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (own, one.task_id, one.status, one.completed_at, one.claimed, one.scores)
                    for one in outcomes
                ],
            )
            connection.executemany(
                "INSERT INTO additions VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(own, one.set_id, one.trials, one.added_at) for one in additions],
            )
            connection.executemany(
                "INSERT INTO backtests VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (own, one.what, *astuple(one.stretch), scores, one.made_at)
                    for one, scores in backtests
                ],
            )
            connection.execute("COMMIT")
            return True

        return await self._use(write)

    async def others(self) -> Others | None:
        """What all other workspaces tried."""

        def read(connection: sqlite3.Connection) -> Others:
            rows = connection.execute(
                "SELECT t.workspace || '/' || t.task_id, coalesce(o.status, 'training'), t.symbol,"
                " t.created_at, o.completed_at, t.test_start, t.test_end, t.sketch,"
                " coalesce(o.claimed, 0) FROM trials AS t LEFT JOIN outcomes AS o"
                " USING (workspace, task_id) WHERE workspace <> ?"
                " ORDER BY t.created_at, t.workspace, t.rowid",
                (self._workspace,),
            )
            trials = [replace(Trial(*row[:-1]), claimed=bool(row[-1])) for row in rows]
            rows = connection.execute(
                "SELECT workspace || '/' || set_id, trials, added_at FROM additions"
                " WHERE workspace <> ?",
                (self._workspace,),
            )
            return Others(trials, [Addition(*row) for row in rows])

        return await self._use(read)

    async def backtests(self) -> list[LoggedBacktest] | None:
        """What other workspaces traded on fresh bars, oldest first."""

        def read(connection: sqlite3.Connection) -> list[LoggedBacktest]:
            rows = connection.execute(
                "SELECT what, symbol, first_bar, last_bar, sketch, made_at, workspace"
                " FROM backtests WHERE workspace <> ? ORDER BY made_at, workspace, rowid",
                (self._workspace,),
            )
            return [LoggedBacktest(row[0], Stretch(*row[1:5]), *row[5:]) for row in rows]

        return await self._use(read)

    async def backtest_scores(self, backtests: Iterable[LoggedBacktest]) -> list[str] | None:
        """What other workspaces' backtests came to, as JSON, in the same order."""
        wanted = [(each.workspace, each.what) for each in backtests]

        def read(connection: sqlite3.Connection) -> list[str]:
            query = "SELECT scores FROM backtests WHERE workspace = ? AND what = ?"
            return [str(row[0]) for each in wanted for row in connection.execute(query, each)]

        return await self._use(read)

    async def read_tested(self, place: str) -> dict[tuple[str, str], Sketch] | None:
        """The sketches of what was tested in one place, whatever database it had then.

        Args:
            place: what a workspace's name ends with.
        Returns:
            each by task id and beginning of the tested window.
        """

        def read(connection: sqlite3.Connection) -> dict[tuple[str, str], Sketch]:
            rows = connection.execute(
                "SELECT task_id, test_start, halvings, hashes FROM trials"
                " JOIN sketches USING (sketch) WHERE workspace LIKE '%-' || ?",
                (place,),
            )
            return {(row[0], row[1]): Sketch.from_bytes(row[2], row[3]) for row in rows}

        return await self._use(read)

    async def sketches(self, keys: Iterable[str]) -> dict[str, Sketch] | None:
        """The sketches of these keys that the record has."""
        wanted = list(keys)

        def read(connection: sqlite3.Connection) -> dict[str, Sketch]:
            found = {}
            for key in wanted:
                query = "SELECT halvings, hashes FROM sketches WHERE sketch = ?"
                for row in connection.execute(query, (key,)):
                    found[key] = Sketch.from_bytes(*row)
            return found

        return await self._use(read)

    async def scores(self, names: Iterable[str]) -> dict[str, str] | None:
        """What other workspaces' trials came to, as JSON by name."""
        wanted = [(name, *name.split("/", 1)) for name in names]

        def read(connection: sqlite3.Connection) -> dict[str, str]:
            found = {}
            query = "SELECT scores FROM outcomes WHERE workspace = ? AND task_id = ?"
            for name, workspace, task_id in wanted:
                for (scores,) in connection.execute(query, (workspace, task_id)):
                    if scores is not None:
                        found[name] = str(scores)
            return found

        return await self._use(read)

    async def _use(self, work: Callable[[sqlite3.Connection], Value]) -> Value | None:
        """What some work with the open record gives; None where it cannot be used in time."""
        if self._path is None or time.monotonic() < self._rests_until:
            return None
        path, found = self._path, list[Value]()

        def run() -> None:
            with open_record(path) as connection:
                found.append(work(connection))

        problem = "it took too long"
        with anyio.move_on_after(LIMIT_S):
            try:
                await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
            except (sqlite3.Error, OSError, StorageError, ValueError) as error:
                problem = str(error)
        if found:
            return found[0]
        self._rests_until = time.monotonic() + REST_S
        log.warning("the record of trials %s cannot be used: %s", path, problem)
        return None


@contextmanager
def open_record(path: Path) -> Iterator[sqlite3.Connection]:
    """The record, made first if it is missing.

    Raises:
        sqlite3.Error: it is damaged or locked.
        OSError, StorageError: its folder cannot be written.
        ValueError: another program or a newer version wrote it.
    """
    make_folder(path.parent, 0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")  # what is lost is sent again
        version = read_version(connection)
        if version not in {0, FORMAT}:
            raise ValueError("another version of ktrdr-mcp wrote it")
        if version == 0 or not connection.execute(NEWEST_TABLE).fetchall():
            make_tables(connection)
        yield connection


def make_tables(connection: sqlite3.Connection) -> None:
    """Makes those that are missing, all of them in a new record."""
    text = resources.files("ktrdr_mcp.store").joinpath("record.sql").read_text("utf-8")
    connection.execute("BEGIN IMMEDIATE")
    for statement in text.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def read_version(connection: sqlite3.Connection) -> int:
    """The record's format; 0 of a new one. Raises ValueError if it is another program's file."""
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and not (empty and application == version == 0):
        raise ValueError("another program wrote it")
    return version


def names_in(
    connection: sqlite3.Connection, table: str, workspace: str, column: str = "task_id"
) -> set[str]:
    """The tasks of a workspace that a column of a table has."""
    query = f"SELECT {column} FROM {table} WHERE workspace = ?"  # noqa: S608 - names from here
    return {row[0] for row in connection.execute(query, (workspace,))}


def row_of(trial: Trial) -> tuple[str | None, ...]:
    """The values of a trial's row, but for its workspace."""
    return (
        trial.task_id,
        trial.symbol,
        trial.created_at,
        trial.test_start,
        trial.test_end,
        trial.sketch,
    )
