"""The table of saved models: every statement on it, each one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Self

from ktrdr_mcp.errors import Conflict, ModelNameTaken, ModelNotFound, did_you_mean, quote
from ktrdr_mcp.store.db import Database, SqlValue, rows_of
from ktrdr_mcp.store.task_row import columns_of, json_text, parse_column

NAMES_SHOWN: Final = 10

INSERT: Final = """
INSERT INTO models (
    model_id, model_name, version, task_id, symbol, timeframe, strategy, created_at, description,
    path, training_accuracy, test_accuracy, model_size_mb, architecture, bundle_sha256, details)
VALUES (
    :model_id, :model_name, :version, :task_id, :symbol, :timeframe, :strategy, :created_at,
    :description, :path, :training_accuracy, :test_accuracy, :model_size_mb, :architecture,
    :bundle_sha256, :details)"""
NEXT_VERSION: Final = "SELECT coalesce(max(version), 0) + 1 FROM models WHERE model_name = ?"
FIND: Final = "SELECT * FROM models WHERE model_name = ? AND task_id = ?"
NEWEST: Final = "SELECT * FROM models WHERE model_name = ? ORDER BY version DESC LIMIT 1"
GET: Final = "SELECT * FROM models WHERE model_name = ? AND version = ?"
OWNER: Final = "SELECT strategy, symbol, timeframe FROM models WHERE model_name = ? LIMIT 1"
PAGE: Final = """
SELECT * FROM models
WHERE (:symbol IS NULL OR symbol = :symbol) AND (:name IS NULL OR model_name = :name)
ORDER BY seq DESC LIMIT :limit OFFSET :offset"""
COUNT: Final = "SELECT count(*) FROM models WHERE :symbol IS NULL OR symbol = :symbol"
EVERYTHING: Final = "SELECT * FROM models ORDER BY seq"
DELETE_ALL: Final = "DELETE FROM models"
NAMES: Final = """
SELECT model_name FROM models WHERE substr(model_name, 1, length(:prefix)) = :prefix
GROUP BY model_name ORDER BY max(seq) DESC LIMIT :limit"""


class Owner(NamedTuple):
    """What a model's name belongs to."""

    strategy: str
    symbol: str
    timeframe: str


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One saved version of a model."""

    model_id: str
    model_name: str
    version: int
    task_id: str
    symbol: str
    timeframe: str
    strategy: str
    created_at: str  # ISO 8601 UTC with Z
    description: str
    path: str  # relative to the workspace
    training_accuracy: float | None
    test_accuracy: float | None
    model_size_mb: float  # the weights, in units of 10^6 bytes
    architecture: str
    bundle_sha256: str
    details: dict[str, Any]

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """The value of one row of models."""
        values = columns_of(row, [each.name for each in fields(cls)])
        return cls(**{**values, "details": parse_column(values["details"])})

    def parameters(self) -> dict[str, str | int | float | None]:
        """The values of its columns by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "details": json_text(self.details)}

    @property
    def owner(self) -> Owner:
        """The strategy, symbol and timeframe that its name belongs to."""
        return Owner(self.strategy, self.symbol, self.timeframe)


@dataclass(frozen=True)
class ModelPage:
    """Some saved versions, newest first."""

    rows: list[ModelRow]
    has_more: bool


class ModelRegistry:
    """The saved models.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def next_version(self, model_name: str) -> int:
        """The version that the next save under this name gets, from 1.

        Two saves may be told the same; the second to publish or to insert is refused.
        """
        return int((await self._database.read(NEXT_VERSION, (model_name,)))[0][0])

    async def find(self, model_name: str, task_id: str) -> ModelRow | None:
        """The version that this task was saved as under this name, if it was."""
        rows = await self._database.read(FIND, (model_name, task_id))
        return ModelRow.from_row(rows[0]) if rows else None

    async def owner(self, model_name: str) -> Owner | None:
        """What the name belongs to, if it is taken."""
        rows = await self._database.read(OWNER, (model_name,))
        return Owner(*rows[0]) if rows else None

    async def insert(self, row: ModelRow) -> tuple[ModelRow, bool]:
        """Registers a published version.

        Args:
            row: the version, whose files already have their final name.
        Returns:
            the row, and whether it is new; the same task again gives the version that exists.
        Raises:
            ModelNameTaken: the name belongs to another strategy, symbol or timeframe.
            Conflict: another save took this version meanwhile.
        """
        async with self._database.transaction() as connection:
            known = await rows_of(connection, FIND, (row.model_name, row.task_id))
            if known:
                return ModelRow.from_row(known[0]), False
            owners = await rows_of(connection, OWNER, (row.model_name,))
            if owners and Owner(*owners[0]) != row.owner:
                raise name_taken(row.model_name, Owner(*owners[0]))
            try:
                await rows_of(connection, INSERT, row.parameters())
            except sqlite3.IntegrityError as error:
                raise _version_taken(row) from error
        return row, True

    async def newest(self, model_name: str) -> ModelRow:
        """The newest version. Raises ModelNotFound, which names the models that exist."""
        rows = await self._database.read(NEWEST, (model_name,))
        if not rows:
            raise await self._not_found(model_name)
        return ModelRow.from_row(rows[0])

    async def get(self, model_name: str, version: int) -> ModelRow:
        """One version. Raises ModelNotFound."""
        rows = await self._database.read(GET, (model_name, version))
        if rows:
            return ModelRow.from_row(rows[0])
        newest = await self.newest(model_name)
        raise ModelNotFound(
            f"Model {model_name} has no version {version}.",
            hint=f"Its newest version is {newest.version}.",
            field="version",
        )

    async def page(
        self, limit: int, offset: int = 0, symbol: str | None = None, name: str | None = None
    ) -> ModelPage:
        """Some saved versions, newest first.

        Args:
            limit: the most rows.
            offset: how many newer ones are left out.
            symbol: only models trained on this symbol.
            name: only versions of this model.
        """
        values: dict[str, SqlValue] = {"symbol": symbol, "name": name}
        values |= {"limit": limit + 1, "offset": offset}
        rows = await self._database.read(PAGE, values)
        return ModelPage([ModelRow.from_row(row) for row in rows[:limit]], len(rows) > limit)

    async def count(self, symbol: str | None = None) -> int:
        """How many saved versions there are, of one symbol or of all."""
        return int((await self._database.read(COUNT, {"symbol": symbol}))[0][0])

    async def everything(self) -> list[ModelRow]:
        """Every saved version, in the order of saving."""
        return [ModelRow.from_row(row) for row in await self._database.read(EVERYTHING)]

    async def replace_all(self, rows: Sequence[ModelRow]) -> None:
        """Puts these versions in the place of all that are registered, at once."""
        async with self._database.transaction() as connection:
            await rows_of(connection, DELETE_ALL)
            for row in rows:
                await rows_of(connection, INSERT, row.parameters())

    async def names(self, prefix: str, limit: int) -> list[str]:
        """Names that begin with the prefix, the last saved first."""
        rows = await self._database.read(NAMES, {"prefix": prefix, "limit": limit})
        return [row[0] for row in rows]

    async def _not_found(self, model_name: str) -> ModelNotFound:
        """The error of an unknown name, with names that exist."""
        names = await self.names("", NAMES_SHOWN)
        known = (
            f"Saved models: {', '.join(names)}."
            if names
            else "No model is saved yet; save a completed task with save_trained_model."
        )
        return ModelNotFound(
            f"There is no saved model {quote(model_name)}.",
            hint=f"{known}{did_you_mean(model_name, names)}",
            field="model_name",
        )


def name_taken(model_name: str, owner: Owner) -> ModelNameTaken:
    """The error of saving another strategy, symbol or timeframe under a name."""
    return ModelNameTaken(
        f"The model name {quote(model_name)} belongs to strategy {owner.strategy} "
        f"on {owner.symbol} {owner.timeframe}.",
        hint="Save this task under another model_name.",
        field="model_name",
    )


def _version_taken(row: ModelRow) -> Conflict:
    """The error of two saves that ran at the same time."""
    return Conflict(
        f"Version {row.version} of model {row.model_name} was taken by another save.",
        hint="Save again; it gets the next version.",
        field="model_name",
    )
