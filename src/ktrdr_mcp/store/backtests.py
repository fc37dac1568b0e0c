"""The log of backtests: what was traded on bars that a model had not seen, and what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.data.relations import Relations, Stretch
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.schemas.results import TradingScores
from ktrdr_mcp.store.db import Database, SqlValue, rows_of, utc_now_text
from ktrdr_mcp.store.sketches import add_sketches, read_sketches
from ktrdr_mcp.store.task_row import parse_column, read_stored

# One from before there were sketches gets one when it is made again.
ADD: Final = """
INSERT INTO backtests (what, symbol, first_bar, last_bar, scores, sketch, made_at)
VALUES (:what, :symbol, :first_bar, :last_bar, :scores, :sketch, :made_at)
ON CONFLICT DO UPDATE SET sketch = coalesce(sketch, excluded.sketch)"""
EARLIER: Final = """
SELECT what, symbol, first_bar, last_bar, sketch FROM backtests
WHERE seq < coalesce((SELECT seq FROM backtests WHERE what = ?), seq + 1) ORDER BY seq"""
ALL: Final = """
SELECT what, symbol, first_bar, last_bar, sketch, made_at FROM backtests ORDER BY seq"""
SCORES: Final = """
SELECT what, scores FROM backtests WHERE what IN (SELECT value FROM json_each(?)) ORDER BY seq"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TradedModel:
    """A backtest on fresh bars, as the log keeps it.

    Args:
        what: names the model's version, the bars and the rule; the same again is no new trial.
        symbol: whose bars.
        first_bar: opening of the first fresh bar, ISO 8601 UTC.
        last_bar: of the last one.
        scores: `TradingScores` as JSON text.
        sketch: of the fresh bars as stored; None where symbol and time alone are known.
    """

    what: str
    symbol: str
    first_bar: str
    last_bar: str
    scores: str
    sketch: Sketch | None = None

    @property
    def stretch(self) -> Stretch:
        """The fresh bars."""
        key = None if self.sketch is None else self.sketch.key
        return Stretch(self.symbol, self.first_bar, self.last_bar, key)

    def parameters(self) -> dict[str, SqlValue]:
        """The values of its columns by name."""
        values: dict[str, SqlValue] = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "sketch": self.stretch.sketch}


@dataclass(frozen=True)
class LoggedBacktest:
    """A backtest as others know it, without what it came to.

    Args:
        what: names it; see `TradedModel`.
        stretch: the fresh bars.
        made_at: when, ISO 8601 UTC.
        workspace: whose, by the name that others know it by; empty for one's own.
    """

    what: str
    stretch: Stretch
    made_at: str
    workspace: str = ""


class BacktestLog:
    """Keeps what was traded on fresh bars.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unstored: dict[str, TradedModel] = {}  # by what names each
        self._relations = Relations()

    async def add(self, one: TradedModel) -> list[str]:
        """Logs a backtest, unless it is there.

        A disk that takes nothing keeps no figures from their reader: what is not stored is kept in
        memory, counts, and is stored with the next.

        Returns:
            the scores of the backtests that were made before it on the same bars, oldest first.
        """
        one = self._unstored.setdefault(one.what, one)
        waiting = list(self._unstored.values())
        try:
            async with self._database.transaction() as connection:
                for each in waiting:
                    await add_sketches(connection, [] if each.sketch is None else [each.sketch])
                    values = {**each.parameters(), "made_at": utc_now_text()}
                    await rows_of(connection, ADD, values)
            for each in waiting:
                self._unstored.pop(each.what, None)
        except StorageError as error:
            log.warning("a backtest is not stored yet: %s", error.message)
        kept = list(self._unstored.values())
        before = kept[: kept.index(one)] if one.what in self._unstored else []
        rows = await self._database.read(EARLIER, (one.what,))
        stored = {row[0]: Stretch(*row[1:]) for row in rows}
        await self._load_sketches([*stored.values()], [one, *before])
        related = await asyncio.to_thread(self._find_related, stored, one)
        found = await self.scores(related)
        more = [each for each in before if self._relations.between(each.stretch, one.stretch)]
        return [*found.values(), *(each.scores for each in more)]

    async def list_all(self) -> list[LoggedBacktest]:
        """All that are stored, oldest first."""
        rows = await self._database.read(ALL)
        return [LoggedBacktest(row[0], Stretch(*row[1:5]), row[5]) for row in rows]

    async def scores(self, whats: Iterable[str]) -> dict[str, str]:
        """What stored backtests came to, as JSON by what names each, oldest first."""
        rows = await self._database.read(SCORES, (json.dumps(list(whats)),))
        return {row[0]: row[1] for row in rows}

    def _find_related(self, stored: Mapping[str, Stretch], one: TradedModel) -> list[str]:
        """Which stored backtests, by what names them, were made on bars of another."""
        own = one.stretch
        return [what for what, each in stored.items() if self._relations.between(each, own)]

    async def _load_sketches(self, stored: list[Stretch], held: list[TradedModel]) -> None:
        """Takes in the sketches that are not known yet."""
        known = self._relations.sketches
        known |= {each.sketch.key: each.sketch for each in held if each.sketch is not None}
        if keys := {each.sketch for each in stored if each.sketch is not None} - known.keys():
            known |= await read_sketches(self._database, keys)


def read_scores(text: str) -> TradingScores:
    """What a backtest came to. Raises DatabaseError if it is not what was written."""
    return read_stored(TradingScores, parse_column(text))
