"""What every feed does: answer one page of bars after the other."""

from __future__ import annotations

import importlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Final

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


class Feed(ABC):
    """A place from which bars are fetched; a subclass says what it is, and answers `page`.

    Attributes:
        name: as a source begins.
        example: a source as one writes it; the name, if it takes no venue.
        package: the client library, whose version is noted.
        extra: of this program, that installs the client; empty if the package itself does.
        keys: variables of the environment that it needs.
        timeframes: those that it has, as it calls them; all that there are, if it is empty.
        adjustment: of its prices: raw, split or all.
        terms: what users must know before they use the bars; none where it is empty.
    """

    name: ClassVar[str] = ""
    example: ClassVar[str] = ""
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    keys: ClassVar[Sequence[str]] = ()
    timeframes: ClassVar[Mapping[str, Any]] = {}
    adjustment: ClassVar[str] = "raw"
    terms: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.example = cls.example or cls.name
        cls.package = cls.package or cls.name

    def __init__(self, venue: str, symbol: str, timeframe: str) -> None:
        """Opens the feed for one series.

        Args:
            venue: what stands behind the colon of a source.
            symbol: in upper case.
            timeframe: one that this program knows.
        Raises:
            InvalidRequest: it has no such bars, its client is not installed, or keys are missing.
        """
        if self.timeframes and timeframe not in self.timeframes:
            raise InvalidRequest(
                f"{self.name} has no {timeframe} bars.",
                hint=f"It has {', '.join(self.timeframes)}; wider ones are made of narrower ones.",
                field="timeframe",
            )
        self.venue, self.symbol, self.timeframe = venue, symbol, timeframe

    @abstractmethod
    def page(self, since_ns: int) -> Page:
        """The bars from a time on, as many as come at once.

        Raises:
            FeedBusy: the same is to be asked again.
            KtrdrError: it makes no sense to.
        """

    def now_ns(self) -> int:
        """The feed's clock where it has one, else this machine's; UTC nanoseconds."""
        return time.time_ns()

    @classmethod
    def client(cls, module: str) -> Any:
        """A module of the client library. Raises InvalidRequest if it is not installed."""
        try:
            return importlib.import_module(module)
        except ImportError:
            what = f"ktrdr-mcp[{cls.extra}]" if cls.extra else cls.package
            raise InvalidRequest(
                f"{cls.package} is not installed, which {cls.name} is fetched with.",
                hint=f"Install it: pip install '{what}'.",
                field="source",
            ) from None

    @classmethod
    def client_version(cls) -> str:
        """The client library with its version."""
        try:
            return f"{cls.package} {metadata.version(cls.package)}"
        except metadata.PackageNotFoundError:
            return cls.package

    @classmethod
    def read_keys(cls) -> list[str]:
        """The keys from the environment; they are never stored. Raises InvalidRequest."""
        values = [os.environ.get(name, "") for name in cls.keys]
        if not all(values):
            pairs = zip(cls.keys, values, strict=True)
            missing = ", ".join(name for name, value in pairs if not value)
            raise InvalidRequest(
                f"{cls.name} needs {missing} in the environment of the server.",
                hint="Set them, then end the server with `ktrdr-mcp lab stop` so that it starts"
                " anew.",
                field="source",
            )
        return values


def base_url() -> str | None:
    """Another address for a feed's API, if the environment says one."""
    return os.environ.get(BASE_URL_VARIABLE) or None
