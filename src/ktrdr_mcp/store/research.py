"""What was looked at before a training, and notes on series: the memory of the research."""

from __future__ import annotations

import logging
from dataclasses import asdict, astuple, dataclass
from typing import Final

from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.store.db import Database, SqlValue, rows_of, utc_now_text

ADD_LOOK: Final = """
INSERT INTO looks (fingerprint, symbol, timeframe, first, until, bars, looked_at)
VALUES (:fingerprint, :symbol, :timeframe, :first, :until, :bars, :looked_at)
ON CONFLICT DO NOTHING"""
LOOKS: Final = "SELECT symbol, timeframe, first, until, bars, fingerprint FROM looks"
ADD_NOTE: Final = """
INSERT INTO research_notes (symbol, timeframe, task_id, note, created_at) VALUES (?, ?, ?, ?, ?)"""
NOTES: Final = """
SELECT symbol, timeframe, task_id, note, created_at FROM research_notes
WHERE (:symbol IS NULL OR symbol = :symbol)
    AND (:timeframe IS NULL OR timeframe IN ('', :timeframe))
ORDER BY seq DESC LIMIT :limit"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredLook:
    """Bars that somebody looked at; times are UTC nanoseconds."""

    symbol: str
    timeframe: str
    first: int  # opening of the first bar
    until: int  # close of the last one
    bars: int
    fingerprint: str  # of times and log returns


@dataclass(frozen=True)
class ResearchNote:
    """What somebody noted of a series."""

    symbol: str
    timeframe: str  # empty: of all timeframes
    task_id: str | None
    note: str
    created_at: str


class ResearchLog:
    """Keeps looks and notes.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unstored: list[StoredLook] = []

    async def add_look(self, look: StoredLook) -> None:
        """Records that bars were looked at; the same look twice is one.

        A disk that takes nothing keeps nobody from looking: it is stored with the next.
        """
        self._unstored.append(look)
        try:
            async with self._database.transaction() as connection:
                for each in list(self._unstored):
                    await rows_of(
                        connection, ADD_LOOK, {**asdict(each), "looked_at": utc_now_text()}
                    )
            self._unstored.clear()
        except StorageError as error:
            log.warning("a look at bars is not stored yet: %s", error.message)

    async def looks(self) -> list[StoredLook]:
        """Everything that was looked at."""
        rows = await self._database.read(LOOKS)
        return [*(StoredLook(*row) for row in rows), *self._unstored]

    async def add_note(
        self, symbol: str, timeframe: str, task_id: str | None, note: str
    ) -> ResearchNote:
        """Keeps a note. Raises StorageError."""
        kept = ResearchNote(symbol, timeframe, task_id, note, utc_now_text())
        async with self._database.transaction() as connection:
            await rows_of(connection, ADD_NOTE, astuple(kept))
        return kept

    async def notes(
        self, symbol: str | None, timeframe: str | None, limit: int
    ) -> list[ResearchNote]:
        """The newest notes, or those on a symbol or one of its series."""
        wanted: dict[str, SqlValue] = {"symbol": symbol, "timeframe": timeframe, "limit": limit}
        return [ResearchNote(*row) for row in await self._database.read(NOTES, wanted)]
