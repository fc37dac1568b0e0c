"""The log of backtests: what was traded on bars that a model had not seen, and what came of it."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Final

from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.schemas.results import TradingScores
from ktrdr_mcp.store.db import Database, rows_of, utc_now_text
from ktrdr_mcp.store.task_row import parse_column, read_stored

ADD: Final = """
INSERT INTO backtests (what, symbol, first_bar, last_bar, scores, made_at)
VALUES (:what, :symbol, :first_bar, :last_bar, :scores, :made_at) ON CONFLICT DO NOTHING"""
# Times are text of one form, so their order is the order of text.
EARLIER: Final = """
SELECT what, symbol, first_bar, last_bar, scores FROM backtests
WHERE symbol = :symbol AND first_bar <= :last_bar AND last_bar >= :first_bar
AND seq < coalesce((SELECT seq FROM backtests WHERE what = :what), seq + 1) ORDER BY seq"""

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
    """

    what: str
    symbol: str
    first_bar: str
    last_bar: str
    scores: str

    def read_scores(self) -> TradingScores:
        """What it came to. Raises DatabaseError if it is not what was written."""
        return read_stored(TradingScores, parse_column(self.scores))


class BacktestLog:
    """Keeps what was traded on fresh bars.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unstored: list[TradedModel] = []

    async def add(self, one: TradedModel) -> list[TradedModel]:
        """Logs a backtest, unless it is there.

        A disk that takes nothing keeps no figures from their reader: what is not stored is kept in
        memory, counts, and is stored with the next.

        Returns:
            the backtests that were made before it on the same bars, oldest first.
        """
        if one not in self._unstored:
            self._unstored.append(one)
        waiting = list(self._unstored)
        try:
            async with self._database.transaction() as connection:
                for each in waiting:
                    await rows_of(connection, ADD, {**asdict(each), "made_at": utc_now_text()})
            self._unstored = [each for each in self._unstored if each not in waiting]
        except StorageError as error:
            log.warning("a backtest is not stored yet: %s", error.message)
        rows = await self._database.read(EARLIER, asdict(one))
        kept = self._unstored
        before = kept[: kept.index(one)] if one in kept else []
        return [
            *(TradedModel(*row) for row in rows),
            *(each for each in before if share_bars(each, one)),
        ]


def share_bars(one: TradedModel, other: TradedModel) -> bool:
    """Whether two backtests share fresh bars, as the query has it."""
    overlap = one.first_bar <= other.last_bar and one.last_bar >= other.first_bar
    return one.symbol == other.symbol and overlap
