"""What every feed does: answer one page of bars after the other."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Final, Protocol

from ktrdr_mcp.errors import InvalidRequest

BASE_URL_VARIABLE: Final = "KTRDR_FEED_BASE_URL"  # another address for a feed's API, for tests
Row = tuple[int, float, float, float, float, float]


class FeedBusy(Exception):
    """The feed asks to wait, or did not answer properly: the same page is asked for again.

    Args:
        reason: for people.
        wait_s: for how long it said to wait, if it did.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


@dataclass(frozen=True)
class Page:
    """Some bars in the order of their times.

    Args:
        rows: opening in UTC nanoseconds, open, high, low, close, volume of each.
        after: from where the next page begins, UTC nanoseconds; None if this is the last.
        zone: by which the series names its days.
    """

    rows: Sequence[Row]
    after: int | None
    zone: str = "UTC"


class Feed(Protocol):
    """A place from which bars are fetched.

    Attributes:
        name: as a source begins.
        example: a source as one writes it.
        extra: of this program, that installs its client.
        package: the client's, whose version is noted.
        adjustment: of its prices: raw, split or all.
        terms: what users must know before they use the bars; none where it is empty.
    """

    name: ClassVar[str]
    example: ClassVar[str]
    extra: ClassVar[str]
    package: ClassVar[str]
    adjustment: ClassVar[str]
    terms: ClassVar[str]

    def __init__(self, venue: str, symbol: str, timeframe: str) -> None:
        """Opens the feed for one series. Raises KtrdrError."""

    def page(self, since_ns: int) -> Page:
        """The bars from a time on, as many as come at once.

        Raises:
            FeedBusy: the same is to be asked again.
            KtrdrError: it makes no sense to.
        """

    def now_ns(self) -> int:
        """The feed's clock where it has one, else this machine's; UTC nanoseconds."""


def client_version(feed: type[Feed]) -> str:
    """A feed's client library with its version."""
    try:
        return f"{feed.package} {metadata.version(feed.package)}"
    except metadata.PackageNotFoundError:
        return feed.package


def load_client(feed: type[Feed], module: str) -> Any:
    """A module of a feed's client. Raises InvalidRequest if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InvalidRequest(
            f"{feed.package} is not installed, which {feed.name} is fetched with.",
            hint=f"Install it: pip install 'ktrdr-mcp[{feed.extra}]'.",
            field="source",
        ) from None


def base_url() -> str | None:
    """Another address for a feed's API, if the environment says one."""
    return os.environ.get(BASE_URL_VARIABLE) or None


def require_keys(feed: type[Feed], *names: str) -> list[str]:
    """Keys from the environment; they are never stored. Raises InvalidRequest."""
    values = [os.environ.get(name, "") for name in names]
    if not all(values):
        missing = ", ".join(name for name, value in zip(names, values, strict=True) if not value)
        raise InvalidRequest(
            f"{feed.name} needs {missing} in the environment of the server.",
            hint="Set them, then end the server with `ktrdr-mcp lab stop` so that it starts anew.",
            field="source",
        )
    return values
