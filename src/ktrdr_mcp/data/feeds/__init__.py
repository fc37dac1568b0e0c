"""Feeds: places from which bars are fetched. One feed is one file of this package, with a FEED.

A file is found by being there; another package brings a feed as an entry point of the group
`ktrdr_mcp.feeds`. What only a feed needs is imported when it is opened.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from ktrdr_mcp.data.feeds.base import Feed
from ktrdr_mcp.errors import InvalidRequest, did_you_mean, quote

NO_FEEDS: Final = {"base", "checks"}
GROUP: Final = "ktrdr_mcp.feeds"


@cache
def feeds() -> Mapping[str, type[Feed]]:
    """Every feed of this package by its name."""
    names = [one.name for one in pkgutil.iter_modules(__path__) if one.name not in NO_FEEDS]
    found = [importlib.import_module(f"{__name__}.{name}").FEED for name in sorted(names)]
    return {one.name: one for one in found}


@cache
def brought() -> Mapping[str, EntryPoint]:
    """The feeds that other packages bring, by name; none of them is loaded."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in feeds()}


def feed_named(source: str) -> tuple[type[Feed], str]:
    """The feed of a source such as `ccxt:binance`, and what stands behind the colon.

    Raises:
        InvalidRequest: there is no such feed, or the package that brings it cannot be loaded.
    """
    name, _, venue = source.partition(":")
    if name in feeds():
        return feeds()[name], venue
    if name in brought():
        return load_feed(brought()[name]), venue
    examples = [*(one.example for one in feeds().values()), *brought()]
    raise InvalidRequest(
        f"{quote(source)} is not a source.{did_you_mean(name, [*feeds(), *brought()])}",
        hint=f"Use one of {', '.join(examples)}.",
        field="source",
    )


def load_feed(point: EntryPoint) -> type[Feed]:
    """A feed that another package brings. Raises InvalidRequest."""
    try:
        found = point.load()
        if not issubclass(found, Feed):
            raise TypeError(f"{point.value} is no Feed")
    except Exception as error:  # whatever a foreign module does when it is imported
        raise InvalidRequest(
            f"The source {point.name} is installed and cannot be loaded: "
            f"{type(error).__name__}: {error}"[:200],
            hint=f"Mend or remove the package that brings {point.value}.",
            field="source",
        ) from None
    kind: type[Feed] = found
    return kind
