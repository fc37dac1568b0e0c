"""Copies, as JSON beside the database, of what no bundle has: a database made anew gets it back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from typing import Any, Final, TypeVar

from ktrdr_mcp import files
from ktrdr_mcp.errors import StorageError
from ktrdr_mcp.store.db import Database, SqlValue

MAX_BYTES: Final = 64 * 1024**2
KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "str | None": (str, type(None)),
}

Value = TypeVar("Value")

log = logging.getLogger(__name__)


class TableCopy:
    """The copy of some tables, in a file that only its user may read.

    Args:
        database: the open database.
        name: of the file.
        subject: what the tables keep, for messages.
    """

    def __init__(self, database: Database, name: str, subject: str) -> None:
        self._path = database.path.with_name(name)
        self._subject = subject
        self._writing = asyncio.Lock()

    async def write(self, collect: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        """Writes the copy; where the disk refuses it, the next one has it all.

        Args:
            collect: reads what is copied, in JSON's types.
        """
        async with self._writing:
            try:
                content = files.json_bytes({"format": 1, **await collect()})
                await asyncio.to_thread(files.replace, self._path, content, 0o600)
            except (OSError, StorageError) as error:
                log.warning("the copy of %s is not written: %s", self._subject, error)

    async def read(self, parse: Callable[[Any], Value]) -> Value | None:
        """What the copy has; None where there is no file.

        Args:
            parse: makes values of its content; what it raises means that the copy is damaged.
        Raises:
            StorageError: it cannot be read, or is not what was written.
        """
        return await asyncio.to_thread(self._read, parse)

    def _read(self, parse: Callable[[Any], Value]) -> Value | None:
        try:
            return parse(json.loads(files.read_private(self._path, MAX_BYTES)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{self._path.name}, the copy of {self._subject}, cannot be read:"
                f" {type(error).__name__}.",
                hint=f"What the database does not have of {self._subject} is lost with it.",
            ) from error


def columns_of(kind: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass and their types, as `check_row` takes them."""
    return {each.name: each.type for each in fields(kind)}


def check_row(row: Any, columns: Mapping[str, Any]) -> dict[str, SqlValue]:
    """A decoded row with columns of these names and KINDS. Raises KeyError, TypeError."""
    for name, kind in columns.items():
        if not isinstance(row[name], KINDS[kind]):
            raise TypeError(name)
    return {name: row[name] for name in columns}
