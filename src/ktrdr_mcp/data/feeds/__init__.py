"""Feeds: places from which bars are fetched. One feed is one file of this package, with a FEED.

A file is found by being there; what only it needs is imported when it is opened.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Final

from ktrdr_mcp.data.feeds.base import Feed
from ktrdr_mcp.errors import InvalidRequest, did_you_mean, quote

NO_FEEDS: Final = {"base"}


@cache
def feeds() -> Mapping[str, type[Feed]]:
    """Every feed by its name."""
    names = [one.name for one in pkgutil.iter_modules(__path__) if one.name not in NO_FEEDS]
    found = [importlib.import_module(f"{__name__}.{name}").FEED for name in sorted(names)]
    return {one.name: one for one in found}


def feed_named(source: str) -> tuple[type[Feed], str]:
    """The feed of a source such as `ccxt:binance`, and what stands behind the colon.

    Raises:
        InvalidRequest: there is no such feed.
    """
    name, _, venue = source.partition(":")
    if name not in feeds():
        raise InvalidRequest(
            f"{quote(source)} is not a source.{did_you_mean(name, feeds())}",
            hint=f"Use one of {', '.join(one.example for one in feeds().values())}.",
            field="source",
        )
    return feeds()[name], venue
