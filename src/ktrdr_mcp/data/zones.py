"""The clocks that bars are told by: named zones, fixed offsets, brokers' clocks beside New York's.

Polars, whose conversions are the fastest, is imported where times are converted: the server itself
does not need it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Integers
from ktrdr_mcp.data.timestamps import MINUTE_NS
from ktrdr_mcp.errors import InvalidRequest, quote

if TYPE_CHECKING:
    import polars as pl

HOUR_NS: Final = 60 * MINUTE_NS
NEW_YORK_PLUS: Final = re.compile(r"(?P<name>[A-Za-z_/]+?)(?P<hours>[+-]\d{1,2})", re.ASCII)
FIXED: Final = re.compile(r"(?:UTC|GMT)?(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d{2}))?")
SHORT_ZONES: Final = {
    "NY": "America/New_York", "NEW_YORK": "America/New_York", "UTC": "UTC", "GMT": "UTC",
    "Z": "UTC", "EET": "Europe/Athens", "CET": "Europe/Berlin", "ET": "America/New_York",
    "US/EASTERN": "America/New_York",
}  # fmt: skip


@dataclass(frozen=True)
class Zone:
    """A clock that bars are told by.

    Args:
        name: as it was given.
        base: the zone whose rules it follows.
        ahead_ns: how far it is ahead of that zone, as brokers' clocks are of New York's.
    """

    name: str
    base: ZoneInfo
    ahead_ns: int = 0

    @property
    def is_utc(self) -> bool:
        """Whether it is UTC itself."""
        return self.base.key == "UTC" and self.ahead_ns == 0


def zone(text: str, field: str = "timezone") -> Zone:
    """The zone of a name, a fixed offset, or a name and hours as in `NY+7`.

    Raises:
        InvalidRequest: there is no such zone.
    """
    short = SHORT_ZONES.get(text.strip().upper(), text.strip())
    fixed = FIXED.fullmatch(short)
    if fixed is not None:
        minutes = int(fixed["hours"]) * 60 + int(fixed["minutes"] or 0)
        sign = -1 if fixed["sign"] == "-" else 1
        if minutes <= 15 * 60:
            return Zone(text, ZoneInfo("UTC"), sign * minutes * MINUTE_NS)
    shifted = NEW_YORK_PLUS.fullmatch(short)
    if shifted is not None and abs(int(shifted["hours"])) <= 15:
        base = zone(shifted["name"], field)
        return Zone(text, base.base, base.ahead_ns + int(shifted["hours"]) * HOUR_NS)
    try:
        return Zone(text, ZoneInfo(short))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(
            f"{quote(text)} is not a time zone.",
            hint="Use a name such as Europe/Athens or America/New_York, an offset such as +02:00,"
            " or NY+7 for the clock of most brokers (New York and seven hours).",
            field=field,
        ) from None


def offsets(time: Integers, of: Zone) -> Integers:
    """How far a clock is ahead of UTC at each time, int64[n] nanoseconds.

    Args:
        time: int64[n] UTC nanoseconds.
        of: the clock.
    """
    if of.base.key == "UTC":
        return np.full(len(time), of.ahead_ns, dtype=np.int64)
    import polars as pl

    series = pl.Series(time).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    local = series.dt.convert_time_zone(of.base.key).dt.replace_time_zone(None)
    return local.cast(pl.Int64).to_numpy() - time + of.ahead_ns


def to_utc(local: Integers, of: Zone) -> tuple[Integers, NDArray[np.bool_]]:
    """Times of a clock in UTC, in their order; of an hour that comes twice, the later one second.

    Args:
        local: int64[n] nanoseconds as the clock shows them, oldest first.
        of: the clock.
    Returns:
        int64[n] UTC nanoseconds, and bool[n], the times that this clock never shows.
    """
    shown_by_base = local - of.ahead_ns
    if of.base.key == "UTC":
        return shown_by_base, np.zeros(len(local), dtype=np.bool_)
    import polars as pl

    series = pl.Series(shown_by_base).cast(pl.Datetime("ns"))

    def convert(which: str) -> pl.Series:
        aware = series.dt.replace_time_zone(
            of.base.key,
            ambiguous=which,  # type: ignore[arg-type]
            non_existent="null",
        )
        return aware.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Int64)

    early, late = convert("earliest"), convert("latest")
    absent = early.is_null().to_numpy()
    times = early.fill_null(0).to_numpy().copy()
    later = late.fill_null(0).to_numpy()
    for row in np.flatnonzero(times != later).tolist():
        if row and times[row] <= times[row - 1]:
            times[row] = later[row]
    return times, absent
