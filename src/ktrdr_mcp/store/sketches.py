"""The table of sketches, each under its key, which other tables name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

import aiosqlite

from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.store.db import Database, rows_of
from ktrdr_mcp.store.sqlite_errors import damaged_database

ADD: Final = "INSERT INTO sketches VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
SKETCHES: Final = """
SELECT sketch, halvings, hashes FROM sketches
WHERE sketch IN (SELECT value FROM json_each(?))"""


async def add_sketches(connection: aiosqlite.Connection, sketches: Iterable[Sketch]) -> None:
    """Stores sketches within a transaction, unless they are there."""
    for one in sketches:
        await rows_of(connection, ADD, (one.key, one.halvings, one.to_bytes()))


async def read_sketches(database: Database, keys: Iterable[str]) -> dict[str, Sketch]:
    """The stored sketches of these keys. Raises DatabaseError if one is unreadable."""
    rows = await database.read(SKETCHES, (json.dumps(list(keys)),))
    try:
        return {row[0]: Sketch.from_bytes(row[1], row[2]) for row in rows}
    except ValueError:
        raise damaged_database("a sketch is unreadable") from None
