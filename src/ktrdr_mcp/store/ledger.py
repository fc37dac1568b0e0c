"""The ledger: every training ever started on a test window, and every reading of its results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ktrdr_mcp.store.db import Database, rows_of

# Times are text of one form, so their order is the order of text.
FAMILY: Final = """
SELECT task_id, status, scores FROM training_tasks
WHERE symbol = ? AND test_start <= ? AND test_end >= ? ORDER BY seq"""
COUNT_READINGS: Final = """
INSERT INTO test_readings (task_id, readings)
SELECT task_id, 1 FROM training_tasks WHERE task_id IN ({places})
ON CONFLICT (task_id) DO UPDATE SET readings = readings + 1 RETURNING task_id, readings"""


@dataclass(frozen=True)
class Trial:
    """One training of a family."""

    task_id: str
    status: str
    stored_scores: str | None  # JSON; None for a task that has not completed

    def scores(self) -> dict[str, Any] | None:
        """What the trial came to; takes a while, so it is not for the event loop."""
        return None if self.stored_scores is None else json.loads(self.stored_scores)


class Ledger:
    """What was tried on which test window.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def family(self, symbol: str, test_start: str, test_end: str) -> list[Trial]:
        """Every training on the symbol whose test window overlaps, oldest first.

        Failed, cancelled and waiting ones count too, whatever their timeframe or configuration.

        Args:
            symbol: what was traded.
            test_start: opening of the window's first bar, ISO 8601 UTC.
            test_end: opening of its last bar.
        """
        rows = await self._database.read(FAMILY, (symbol, test_end, test_start))
        return [Trial(*row) for row in rows]

    async def count_readings(self, *task_ids: str) -> dict[str, int]:
        """Counts that the test results of these tasks are read now.

        Args:
            task_ids: of any tasks; those of another database are left out.
        Returns:
            how often each has been read, this time included.
        """
        if not task_ids:
            return {}
        statement = COUNT_READINGS.format(places=", ".join("?" for _ in task_ids))
        async with self._database.transaction() as connection:
            rows = await rows_of(connection, statement, task_ids)
        return {row[0]: int(row[1]) for row in rows}

    async def count_reading(self, task_id: str) -> int:
        """The same for one task of this database."""
        return (await self.count_readings(task_id))[task_id]
