"""What was looked at before a training, and notes on series: the memory of the research.

No bundle has any of it, so `research.json` beside the database is a copy, from which a database
that was made anew gets it back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Final

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.store.copies import TableCopy, check_row, columns_of
from ktrdr_mcp.store.db import Database, SqlValue, rows_of, utc_now_text
from ktrdr_mcp.store.sketches import add_sketches, read_sketches

COPY: Final = "research.json"
COPIED_SKETCHES: Final = 256  # of the newest looks, up to 44 kB each

# A look from before there were sketches gets one when it is taken again.
ADD_LOOK: Final = """
INSERT INTO looks (fingerprint, symbol, timeframe, first, until, bars, sketch, looked_at)
VALUES (:fingerprint, :symbol, :timeframe, :first, :until, :bars, :sketch, :looked_at)
ON CONFLICT DO UPDATE SET sketch = coalesce(sketch, excluded.sketch)"""
LOOKS: Final = "SELECT symbol, timeframe, first, until, bars, fingerprint, sketch FROM looks"
ADD_NOTE: Final = """
INSERT INTO research_notes (symbol, timeframe, task_id, note, created_at) VALUES (?, ?, ?, ?, ?)"""
NOTES: Final = """
SELECT symbol, timeframe, task_id, note, created_at FROM research_notes
WHERE (:symbol IS NULL OR symbol = :symbol)
    AND (:timeframe IS NULL OR timeframe IN ('', :timeframe))
ORDER BY seq DESC LIMIT :limit"""
ALL_LOOKS: Final = "SELECT * FROM looks ORDER BY looked_at, fingerprint"
NEWEST_SKETCHES: Final = """
SELECT DISTINCT sketch FROM
    (SELECT sketch FROM looks WHERE sketch IS NOT NULL ORDER BY looked_at DESC LIMIT ?)"""
ALL_NOTES: Final = """
SELECT symbol, timeframe, task_id, note, created_at FROM research_notes ORDER BY seq"""
COUNT: Final = "SELECT (SELECT count(*) FROM looks) + (SELECT count(*) FROM research_notes)"
TAKE_NOTE: Final = """
INSERT INTO research_notes (symbol, timeframe, task_id, note, created_at)
SELECT :symbol, :timeframe, :task_id, :note, :created_at WHERE NOT EXISTS (
    SELECT 1 FROM research_notes
    WHERE symbol = :symbol AND timeframe = :timeframe AND task_id IS :task_id AND note = :note
        AND created_at = :created_at)"""

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
    sketch: Sketch | None = None  # of the stored bars; None where symbol and time alone are known

    def parameters(self) -> dict[str, SqlValue]:
        """The values of its columns by name."""
        values: dict[str, SqlValue] = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "sketch": None if self.sketch is None else self.sketch.key}


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
        self._copy = TableCopy(database, COPY, "the research log")
        self._unstored: list[StoredLook] = []
        self._sketches: dict[str, Sketch] = {}  # of stored looks

    async def add_look(self, look: StoredLook) -> None:
        """Records that bars were looked at; the same look twice is one.

        A disk that takes nothing keeps nobody from looking: it is stored with the next.
        """
        self._unstored.append(look)
        try:
            async with self._database.transaction() as connection:
                for each in list(self._unstored):
                    await add_sketches(connection, [] if each.sketch is None else [each.sketch])
                    values = {**each.parameters(), "looked_at": utc_now_text()}
                    await rows_of(connection, ADD_LOOK, values)
            self._unstored.clear()
            await self._copy.write(self._read_rows)
        except StorageError as error:
            log.warning("a look at bars is not stored yet: %s", error.message)

    async def looks(self) -> list[StoredLook]:
        """Everything that was looked at."""
        rows = await self._database.read(LOOKS)
        keys = {row["sketch"] for row in rows if row["sketch"] is not None}
        if new := keys - self._sketches.keys():
            self._sketches |= await read_sketches(self._database, new)
        stored = [
            StoredLook(**{**dict(row), "sketch": self._sketches.get(row["sketch"])}) for row in rows
        ]
        return [*stored, *self._unstored]

    async def add_note(
        self, symbol: str, timeframe: str, task_id: str | None, note: str
    ) -> ResearchNote:
        """Keeps a note. Raises StorageError."""
        kept = ResearchNote(symbol, timeframe, task_id, note, utc_now_text())
        async with self._database.transaction() as connection:
            await rows_of(connection, ADD_NOTE, astuple(kept))
        await self._copy.write(self._read_rows)
        return kept

    async def notes(
        self, symbol: str | None, timeframe: str | None, limit: int
    ) -> list[ResearchNote]:
        """The newest notes, or those on a symbol or one of its series."""
        wanted: dict[str, SqlValue] = {"symbol": symbol, "timeframe": timeframe, "limit": limit}
        return [ResearchNote(*row) for row in await self._database.read(NOTES, wanted)]

    async def _read_rows(self) -> dict[str, Any]:
        newest = await self._database.read(NEWEST_SKETCHES, (COPIED_SKETCHES,))
        sketches = await read_sketches(self._database, [row[0] for row in newest])
        return {
            "looks": [dict(row) for row in await self._database.read(ALL_LOOKS)],
            "notes": [dict(row) for row in await self._database.read(ALL_NOTES)],
            "sketches": [one.to_text() for one in sketches.values()],
        }

    async def take_in_copy(self) -> int:
        """Takes in what the copy has and the database has not.

        Returns:
            how many looks and notes the database has got.
        Raises:
            StorageError: the copy is damaged, or the database cannot be written.
        """
        copy = await self._copy.read(parse_copy) or Copy()
        async with self._database.transaction() as connection:
            before = await rows_of(connection, COUNT)
            await add_sketches(connection, copy.sketches)
            for look in copy.looks:
                await rows_of(connection, ADD_LOOK, look)
            for note in copy.notes:
                await rows_of(connection, TAKE_NOTE, note)
            after = await rows_of(connection, COUNT)
        return int(after[0][0]) - int(before[0][0])


@dataclass(frozen=True)
class Copy:
    """What the copy has: rows of looks and notes, and sketches of the newest looks."""

    looks: Sequence[dict[str, SqlValue]] = ()
    notes: Sequence[dict[str, SqlValue]] = ()
    sketches: Sequence[Sketch] = ()


def parse_copy(content: Any) -> Copy:
    """The rows and sketches of a decoded copy, checked, for `TableCopy.read`."""
    look = {**columns_of(StoredLook), "sketch": "str | None", "looked_at": "str"}
    note = columns_of(ResearchNote)
    return Copy(
        [check_row({"sketch": None, **each}, look) for each in content["looks"]],
        [check_row(each, note) for each in content["notes"]],
        [Sketch.from_text(each) for each in content.get("sketches", [])],
    )
