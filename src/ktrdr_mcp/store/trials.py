"""The trial log: every training ever started on a test window, and every reading of its results."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.data.relations import Stretch
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.schemas.results import Stored, TrialScores
from ktrdr_mcp.store.db import Database, SqlValue, rows_of, utc_now_text
from ktrdr_mcp.store.sketches import read_sketches
from ktrdr_mcp.store.task_row import (
    TaskRow,
    TaskSketches,
    json_text,
    parse_column,
    read_stored,
)

# Times are text of one form, so their order is the order of text. A reproduction is no new trial.
TRIALS: Final = """
SELECT task_id, status, symbol, created_at, completed_at, test_start, test_end, tested_sketch
FROM training_tasks WHERE group_id IS NULL AND test_start IS NOT NULL AND test_end IS NOT NULL
ORDER BY seq"""
SCORES: Final = """
SELECT task_id, scores FROM training_tasks
WHERE scores IS NOT NULL AND task_id IN (SELECT value FROM json_each(:task_ids))
UNION ALL
SELECT task_id, scores FROM foreign_trials
WHERE task_id IN (SELECT value FROM json_each(:task_ids))"""
SKETCHES_OF: Final = "SELECT tested_sketch, trained_sketch FROM training_tasks WHERE task_id = ?"
UNSETTLED: Final = """
SELECT task_id FROM training_tasks WHERE status = 'completed' AND group_id IS NULL
AND test_start IS NOT NULL AND task_id NOT IN (SELECT task_id FROM standings) ORDER BY seq"""
STANDING: Final = "SELECT standing FROM standings WHERE task_id = ?"
CLAIMED: Final = "SELECT task_id FROM standings WHERE json_extract(standing, '$.claimed') = 1"
ADD_STANDING: Final = "INSERT INTO standings VALUES (?, ?) ON CONFLICT DO NOTHING"
ADD_FOREIGN: Final = "INSERT INTO foreign_trials VALUES (?, ?) ON CONFLICT DO NOTHING"
WORKSPACE: Final = "SELECT workspace_id FROM workspace"
ADD_TRIALS: Final = """
INSERT INTO added_trials (set_id, trials, known_tasks, started, added_at)
VALUES (:set_id, :trials,
    coalesce((SELECT seq - 1 FROM training_tasks WHERE task_id = :started),
             (SELECT max(seq) FROM training_tasks)), :started,
    coalesce((SELECT created_at FROM training_tasks WHERE task_id = :started), :now))
ON CONFLICT DO NOTHING"""
ADDITIONS: Final = "SELECT set_id, trials, coalesce(added_at, '') FROM added_trials"
ADDED: Final = """
SELECT set_id, trials, started,
    known_tasks < (SELECT seq FROM training_tasks WHERE task_id = ?) AS before FROM added_trials"""
SETS_BEFORE: Final = """
SELECT sets.* FROM training_tasks AS sets JOIN training_tasks AS own ON own.task_id = :task_id
WHERE sets.task_id IN (SELECT value FROM json_each(:related))
AND sets.status = 'completed' AND sets.completed_at <= own.created_at
AND (sets.config ->> '$.seeds' > 1 OR sets.config ->> '$.sweep' IS NOT NULL)
ORDER BY sets.seq DESC"""
ADD_READINGS: Final = """
INSERT INTO test_readings (task_id, readings)
SELECT task_id, :readings FROM training_tasks WHERE task_id = :task_id
ON CONFLICT (task_id) DO UPDATE SET readings = readings + :readings"""
READINGS: Final = "SELECT readings FROM test_readings WHERE task_id = ?"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One training, of this workspace or of another, by its tested window.

    Args:
        task_id: of another workspace's, with that workspace's name before a slash.
        status: of the task.
        symbol: what was traded.
        created_at: when it was started, ISO 8601 UTC.
        completed_at: when it ended, likewise; None if it has not.
        test_start: opening of the window's first bar, ISO 8601 UTC.
        test_end: close of the last bar that a label depends on.
        sketch: the key of the window's sketch; None where symbol and time alone are known.
        claimed: whether another workspace's trial was called skill, also across families.
    """

    task_id: str
    status: str
    symbol: str
    created_at: str
    completed_at: str | None
    test_start: str
    test_end: str
    sketch: str | None
    claimed: bool = False

    @property
    def is_foreign(self) -> bool:
        """Whether it is of another workspace."""
        return "/" in self.task_id

    @property
    def window(self) -> Stretch:
        """The bars that it was tested on."""
        return Stretch(self.symbol, self.test_start, self.test_end, self.sketch)


class Standing(Stored):
    """What a completed trial was judged beside, and whether its claim holds.

    Args:
        foreign: trials of other workspaces that started before it, and whether each has scores.
        place: of its family among all, from 1.
        claims: of families before its own.
        claimed: whether it was called skill, also across families.
        recorded: whether other workspaces' trials could be counted; None of trials from before
            they were.
        added: trials before it that candidates of other workspaces' tasks count as.
    """

    foreign: Mapping[str, bool] = {}
    place: int | None = None
    claims: int = 0
    claimed: bool = False
    recorded: bool | None = None
    added: int = 0


@dataclass(frozen=True)
class AddedTrials:
    """The candidates of one task, as trials: one of them was asked for, or started again.

    Args:
        set_id: the task whose candidates they are.
        trials: how many they add.
        started: the task that started one of them again; None where one was asked for.
        before: whether they count for the task that was asked about.
    """

    set_id: str
    trials: int
    started: str | None
    before: bool


@dataclass(frozen=True)
class Addition:
    """The candidates of one task, as trials, as other workspaces count them.

    Args:
        set_id: the task whose candidates they are; of another workspace's, with that workspace's
            name before a slash.
        trials: how many they add.
        added_at: since when, ISO 8601 UTC.
    """

    set_id: str
    trials: int
    added_at: str


class TrialLog:
    """What was tried on which test window.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unstored: Counter[str] = Counter()  # readings by task
        self._storing = asyncio.Lock()

    async def workspace(self) -> str:
        """The name by which other workspaces know this one."""
        return str((await self._database.read(WORKSPACE))[0][0])

    async def trials(self) -> list[Trial]:
        """Every training with a test window, oldest first.

        Failed, cancelled and waiting ones count too, whatever their timeframe or configuration;
        reproductions do not.
        """
        return [Trial(*row) for row in await self._database.read(TRIALS)]

    async def find_scores(self, task_ids: Iterable[str]) -> dict[str, str]:
        """What trials came to, as JSON by task; those without scores are left out.

        Args:
            task_ids: of this workspace's tasks, or of other workspaces' in a standing.
        """
        wanted = json.dumps(list(task_ids))
        rows = await self._database.read(SCORES, {"task_ids": wanted})
        return {row[0]: row[1] for row in rows}

    async def sketches(self, keys: Iterable[str]) -> dict[str, Sketch]:
        """The stored sketches of these keys."""
        return await read_sketches(self._database, keys)

    async def sketches_of(self, task_id: str) -> TaskSketches:
        """Those of one task's bars."""
        keys = [tuple(row) for row in await self._database.read(SKETCHES_OF, (task_id,))]
        tested, trained = keys[0] if keys else (None, None)
        found = await self.sketches(key for key in (tested, trained) if key is not None)
        return TaskSketches(found.get(tested), found.get(trained))

    async def add_trials(self, set_id: str, trials: int, started: str | None = None) -> None:
        """Adds the candidates of a task to what was tried, unless they are; from now on they count.

        Args:
            set_id: the task whose candidates they are.
            trials: how many.
            started: the task that starts one of them again; the first for which they count.
        Raises:
            StorageError: the disk failed.
        """
        values: dict[str, SqlValue] = {
            "set_id": set_id,
            "trials": trials,
            "started": started,
            "now": utc_now_text(),
        }
        async with self._database.transaction() as connection:
            await rows_of(connection, ADD_TRIALS, values)

    async def added_trials(self, task_id: str) -> list[AddedTrials]:
        """All trials that sets of candidates have added, as a task counts them."""
        rows = await self._database.read(ADDED, (task_id,))
        return [AddedTrials(row[0], row[1], row[2], bool(row[3])) for row in rows]

    async def additions(self) -> list[Addition]:
        """The same as other workspaces count them."""
        return [Addition(*row) for row in await self._database.read(ADDITIONS)]

    async def sets_before(self, task_id: str, related: Sequence[str]) -> list[TaskRow]:
        """Tasks with several candidates that had completed when a task began, newest first.

        Args:
            task_id: of the task.
            related: the tasks among which they are looked for.
        """
        values: dict[str, SqlValue] = {"task_id": task_id, "related": json.dumps(list(related))}
        rows = await self._database.read(SETS_BEFORE, values)
        return [TaskRow.from_row(row) for row in rows]

    async def find_unsettled(self) -> list[str]:
        """The completed trials of which it is not fixed yet what they are judged beside."""
        return [row[0] for row in await self._database.read(UNSETTLED)]

    async def standing(self, task_id: str) -> Standing | None:
        """What a completed trial was judged beside; None if that is not fixed yet."""
        rows = await self._database.read(STANDING, (task_id,))
        return read_stored(Standing, parse_column(rows[0][0])) if rows else None

    async def find_claimed(self) -> set[str]:
        """The trials that were called skill, also across families."""
        return {row[0] for row in await self._database.read(CLAIMED)}

    async def settle(
        self, task_id: str, standing: Standing, foreign_scores: Mapping[str, str]
    ) -> None:
        """Fixes what a completed trial is judged beside, unless it is fixed already.

        Args:
            task_id: of the trial.
            standing: what it is.
            foreign_scores: of the other workspaces' trials in it, as JSON.
        """
        async with self._database.transaction() as connection:
            for other, scores in foreign_scores.items():
                await rows_of(connection, ADD_FOREIGN, (other, scores))
            text = json_text(standing.to_json())
            await rows_of(connection, ADD_STANDING, (task_id, text))

    async def count_readings(self, *task_ids: str) -> None:
        """Counts that the test results of these tasks are read now.

        A disk that takes nothing does not keep results from their reader: the count is kept in
        memory then, and stored with the next.

        Args:
            task_ids: of any tasks; those of another database are left out.
        """
        self._unstored.update(task_ids)
        try:
            await self._store_readings()
        except StorageError as error:
            log.warning("readings of test results are not stored yet: %s", error.message)

    async def count_reading(self, task_id: str) -> int:
        """The same for one task.

        Returns:
            how often its results have been read, this time included.
        """
        await self.count_readings(task_id)
        rows = await self._database.read(READINGS, (task_id,))
        return sum(int(row[0]) for row in rows) + self._unstored[task_id]

    async def _store_readings(self) -> None:
        """Adds what has been counted to what is stored. Raises StorageError."""
        async with self._storing:  # until they are taken off, so that nobody stores them twice
            counted = Counter(self._unstored)
            if not counted:
                return
            async with self._database.transaction() as connection:
                for task_id, readings in counted.items():
                    values: dict[str, SqlValue] = {"task_id": task_id, "readings": readings}
                    await rows_of(connection, ADD_READINGS, values)
            self._unstored -= counted


def parse_scores(text: str) -> TrialScores:
    """What a trial came to; takes a while, so it is not for the event loop.

    Raises:
        DatabaseError: it is not what was written.
    """
    return read_stored(TrialScores, parse_column(text))
