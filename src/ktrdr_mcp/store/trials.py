"""The trial log: every training ever started on a test window, and every reading of its results."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Final

from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.schemas.results import TrialScores
from ktrdr_mcp.store.db import Database, SqlValue, rows_of
from ktrdr_mcp.store.task_row import TaskRow, parse_column, read_stored

# Times are text of one form, so their order is the order of text. A reproduction is no new trial.
FAMILY: Final = """
SELECT task_id, status, scores, completed_at FROM training_tasks
WHERE symbol = ? AND test_start <= ? AND test_end >= ? AND group_id IS NULL ORDER BY seq"""
TRIAL: Final = "SELECT task_id, status, scores, completed_at FROM training_tasks WHERE task_id = ?"
FAMILIES_BEFORE: Final = """
SELECT count(*) FROM training_tasks AS first
WHERE first.seq < (SELECT seq FROM training_tasks WHERE task_id = ?)
AND first.group_id IS NULL AND first.test_start IS NOT NULL
AND NOT EXISTS (
    SELECT 1 FROM training_tasks AS earlier
    WHERE earlier.symbol = first.symbol AND earlier.seq < first.seq AND earlier.group_id IS NULL
    AND earlier.test_start <= first.test_end AND earlier.test_end >= first.test_start)"""
ADD_TRIALS: Final = """
INSERT INTO added_trials (set_id, trials, known_tasks, started)
VALUES (:set_id, :trials,
    coalesce((SELECT seq - 1 FROM training_tasks WHERE task_id = :started),
             (SELECT max(seq) FROM training_tasks)), :started)
ON CONFLICT DO NOTHING"""
ADDED: Final = """
SELECT set_id, trials, started,
    known_tasks < (SELECT seq FROM training_tasks WHERE task_id = ?) AS before FROM added_trials"""
SETS_BEFORE: Final = """
SELECT sets.* FROM training_tasks AS sets JOIN training_tasks AS own ON own.task_id = :task_id
WHERE sets.symbol = own.symbol AND sets.seq < own.seq AND sets.group_id IS NULL
AND sets.status = 'completed' AND sets.completed_at <= own.created_at
AND sets.test_start <= own.test_end AND sets.test_end >= own.test_start
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
    """One training of a family."""

    task_id: str
    status: str
    stored_scores: str | None  # JSON; None for a task that has not completed
    completed_at: str | None = None  # ISO 8601 UTC

    def scores(self) -> TrialScores | None:
        """What the trial came to; takes a while, so it is not for the event loop.

        Raises:
            DatabaseError: it is not what was written.
        """
        if self.stored_scores is None:
            return None
        return read_stored(TrialScores, parse_column(self.stored_scores))


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


class TrialLog:
    """What was tried on which test window.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unstored: Counter[str] = Counter()  # readings by task
        self._storing = asyncio.Lock()

    async def family(self, symbol: str, test_start: str, test_end: str) -> list[Trial]:
        """Every training on the symbol whose test window overlaps, oldest first.

        Failed, cancelled and waiting ones count too, whatever their timeframe or configuration;
        reproductions do not.

        Args:
            symbol: what was traded.
            test_start: opening of the window's first bar, ISO 8601 UTC.
            test_end: opening of its last bar.
        """
        rows = await self._database.read(FAMILY, (symbol, test_end, test_start))
        return [Trial(*row) for row in rows]

    async def trial(self, task_id: str) -> Trial | None:
        """One training, whatever family it is of; None if there is none of this id."""
        rows = await self._database.read(TRIAL, (task_id,))
        return Trial(*rows[0]) if rows else None

    async def add_trials(self, set_id: str, trials: int, started: str | None = None) -> None:
        """Adds the candidates of a task to what was tried, unless they are; from now on they count.

        Args:
            set_id: the task whose candidates they are.
            trials: how many.
            started: the task that starts one of them again; the first for which they count.
        Raises:
            StorageError: the disk failed.
        """
        values: dict[str, SqlValue] = {"set_id": set_id, "trials": trials, "started": started}
        async with self._database.transaction() as connection:
            await rows_of(connection, ADD_TRIALS, values)

    async def added_trials(self, task_id: str) -> list[AddedTrials]:
        """All trials that sets of candidates have added, as a task counts them."""
        rows = await self._database.read(ADDED, (task_id,))
        return [AddedTrials(row[0], row[1], row[2], bool(row[3])) for row in rows]

    async def sets_before(self, task_id: str) -> list[TaskRow]:
        """Tasks with several candidates on a task's bars, completed when it began, newest first."""
        rows = await self._database.read(SETS_BEFORE, {"task_id": task_id})
        return [TaskRow.from_row(row) for row in rows]

    async def place_of_family(self, first: str) -> int:
        """The place of a family among all, from 1, in the order of their first trials.

        Args:
            first: the task that began it.
        """
        rows = await self._database.read(FAMILIES_BEFORE, (first,))
        return 1 + int(rows[0][0])

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
