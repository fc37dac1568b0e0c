"""When a bar is, by the clock and the calendar of its file: known before the bar itself.

Each of these may be `crisp`, `cyclic` (sine and cosine, so that the last value lies beside the
first) or have fuzzy sets.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ktrdr_mcp.data.bars import MONDAY_OFFSET_DAYS, Bars
from ktrdr_mcp.data.timestamps import DAY_NS, MINUTE_NS
from ktrdr_mcp.features.indicator import Floats, Output, Parameters, indicator

GROUP: Final = "calendar"
HOUR_NS: Final = 60 * MINUTE_NS
DAY_MINUTES: Final = 1_440


@indicator("hour", group=GROUP, units="0 to 24", inputs=("time",), cycle=24)
def hour(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The hour at which the bar opens, by the file's clock; 13.5 is half past one."""
    value = bars.local_time() % DAY_NS / HOUR_NS
    return Output(value, value)


@indicator("weekday", group=GROUP, units="0 (Monday) to 6", inputs=("time",), cycle=7)
def weekday(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The day of the week on which the bar opens, by the file's clock."""
    value = ((bars.local_time() // DAY_NS + MONDAY_OFFSET_DAYS) % 7).astype(np.float64)
    return Output(value, value)


@indicator("month", group=GROUP, units="1 to 12", inputs=("time",), cycle=12)
def month(bars: Bars, source: Floats, params: Parameters) -> Output:
    """The month in which the bar opens, by the file's clock."""
    months = bars.local_time().astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
    value = (months % 12 + 1).astype(np.float64)
    return Output(value, value)


@indicator("minutes_since_open", group=GROUP, units="minutes", inputs=("time",), cycle=DAY_MINUTES)
def minutes_since_open(bars: Bars, source: Floats, params: Parameters) -> Output:
    """Minutes from the opening of the day's first bar, by the file's days."""
    days = bars.session_days()
    first = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    opened = np.repeat(bars.time[first], np.diff(np.append(first, len(days))))
    value = (bars.time - opened) / MINUTE_NS
    return Output(value, value)
