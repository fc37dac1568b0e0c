"""Exchange calendars: which sessions a series lacks, and which were holidays.

An extra, `[calendars]`; without it the series' own rhythm decides (see `notes`).
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.timestamps import DAY_NS, format_day
from ktrdr_mcp.errors import InvalidRequest, did_you_mean, quote

NAMED: Final = 5


def session_notes(bars: Bars, name: str) -> list[str]:
    """Sentences on the sessions of an exchange that a series lacks, and on days that are none.

    Args:
        bars: the series.
        name: of the exchange, as exchange_calendars has it, such as XNYS.
    Raises:
        InvalidRequest: it is not known, or the extra is not installed.
    """
    days = np.unique(bars.session_days())
    sessions = session_days(name, int(days[0]), int(days[-1]))
    missing, closed = np.setdiff1d(sessions, days), np.setdiff1d(days, sessions)
    notes = []
    if len(missing):
        notes.append(f"{len(missing):,} of {len(sessions):,} sessions of {name} are missing: "
                     f"{list_days(missing)}.")  # fmt: skip
    else:
        notes.append(f"All {len(sessions):,} sessions of {name} are there.")
    if len(closed):
        notes.append(f"{len(closed):,} days have bars although {name} was closed: "
                     f"{list_days(closed)}.")  # fmt: skip
    return notes


def session_days(name: str, first: int, last: int) -> Any:
    """int64[n], the days on which an exchange was open, counted from 1970-01-01.

    Args:
        name: of the exchange.
        first: day.
        last: day, inclusive.
    """
    try:
        calendars: Any = importlib.import_module("exchange_calendars")
    except ImportError:
        raise InvalidRequest(
            "exchange_calendars is not installed, which knows the sessions of exchanges.",
            hint="Install it: pip install 'ktrdr-mcp[calendars]'.",
            field="calendar",
        ) from None
    names = calendars.get_calendar_names()
    if name not in names:
        raise InvalidRequest(
            f"{quote(name)} is not an exchange.{did_you_mean(name, names)}",
            hint="Use its code, for example XNYS, XNAS, XLON, XFRA, XTKS.",
            field="calendar",
        )
    start, end = (np.datetime64(day, "D") for day in (first, last))
    calendar = calendars.get_calendar(name, start=str(start), end=str(end + 1))
    days = calendar.sessions.to_numpy().astype("datetime64[D]").astype(np.int64)
    return days[(days >= first) & (days <= last)]


def list_days(days: Any) -> str:
    """The first few days, and how many follow."""
    more = f" and {len(days) - NAMED:,} more" if len(days) > NAMED else ""
    return ", ".join(format_day(int(day) * DAY_NS) for day in days[:NAMED]) + more
