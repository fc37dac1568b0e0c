"""Indicators of wider bars: aggregated from the series' own, known from their close on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, aggregate, is_whole_multiple, periods, width_ns
from ktrdr_mcp.errors import InvalidStrategy, NotEnoughData
from ktrdr_mcp.features.indicator import Floats, Output
from ktrdr_mcp.features.registry import Resolved
from ktrdr_mcp.paths import TIMEFRAME_MINUTES

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WiderBars:
    """Wider bars of a series, and which of them is the newest that is known at each bar.

    Args:
        bars: without the last one if it is not complete.
        known: int64[n], for each bar of the series the index of the newest wide bar that has
            closed by the bar's own close; -1 before the first has.
    """

    bars: Bars
    known: Rows

    def spread(self, output: Output) -> Output:
        """An output of the wide bars as one of the series' own bars."""
        value = self._at_each_bar(output.value)
        same = output.feature is output.value
        return Output(value, value if same else self._at_each_bar(output.feature))

    def _at_each_bar(self, values: Floats) -> Floats:
        if not len(values):
            return np.full(len(self.known), np.nan)
        return np.where(self.known >= 0, values[np.maximum(self.known, 0)], np.nan)


class Timeframes:
    """A series in every timeframe that is asked for, each made once.

    Args:
        bars: the series.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._wider: dict[str, WiderBars] = {}

    def compute(self, each: Resolved) -> tuple[Output, ...]:
        """The outputs of an indicator at each bar of the series, NaN before its first value.

        Raises:
            InvalidStrategy: its timeframe is no whole multiple of the series'.
            NotEnoughData: there are fewer bars than its warm-up takes.
        """
        timeframe = each.spec.timeframe
        if timeframe is None or timeframe == self._bars.timeframe:
            return outputs_of(each, self._bars)
        wider = self._wider_bars(timeframe, each.spec.name)
        if not len(wider.known) or wider.known[-1] < each.warm_up_bars:
            refuse_short(
                wider.bars.slice(0, int(wider.known[-1]) + 1 if len(wider.known) else 0), each
            )
        return tuple(wider.spread(output) for output in outputs_of(each, wider.bars))

    def _wider_bars(self, timeframe: str, name: str) -> WiderBars:
        if timeframe not in self._wider:
            own = self._bars.timeframe
            if not is_whole_multiple(timeframe, own):
                raise InvalidStrategy(
                    f"Indicator '{name}' has timeframe {timeframe}, which is no whole multiple of"
                    f" the series' {own}.",
                    hint="Use a wider timeframe that the series' own divides, or leave it out.",
                    field=f"strategy.indicators.{name}.timeframe",
                )
            self._wider[timeframe] = widen(self._bars, timeframe)
        return self._wider[timeframe]


def widen(bars: Bars, timeframe: str) -> WiderBars:
    """Wider bars of a series, by its file's own days.

    Args:
        bars: the series.
        timeframe: a whole multiple of its own.
    """
    wide = aggregate(bars, timeframe)
    opening, end = periods(bars, timeframe)
    last = np.flatnonzero(np.r_[opening[1:] != opening[:-1], True][: len(bars)])[: len(wide)]
    closes = np.maximum.accumulate(end[last])
    own_closes = bars.time + width_ns(bars.timeframe)
    return WiderBars(wide, np.searchsorted(closes, own_closes, side="right") - 1)


def outputs_of(each: Resolved, bars: Bars) -> tuple[Output, ...]:
    """The outputs of an indicator on these bars. Raises NotEnoughData."""
    refuse_short(bars, each)
    # Divisions by zero are found later, with the bar at which they happen.
    with np.errstate(all="ignore"):
        return each.indicator.compute(bars, getattr(bars, each.spec.source), each.params)


def refuse_short(bars: Bars, each: Resolved) -> None:
    """Raises NotEnoughData if an indicator has no value at any of the bars."""
    needed = each.warm_up_bars + 1
    if len(bars) < needed:
        raise NotEnoughData(
            f"Indicator '{each.spec.name}' needs {needed} bars; "
            f"{bars.symbol} {bars.timeframe} has {len(bars)} up to the end of the range.",
            hint="Use a later end_date, a longer series, or shorter periods in the strategy.",
            field="strategy",
        )


def warm_up_of(each: Resolved, timeframe: str) -> int:
    """How many bars of a series' timeframe an indicator needs before its first value, at most."""
    wide, more = each.spec.timeframe, each.spec.window - 1
    if wide is None or wide == timeframe:
        return each.warm_up_bars + more
    times = max(1, TIMEFRAME_MINUTES[wide] // TIMEFRAME_MINUTES[timeframe])
    return (each.warm_up_bars + 2) * times + more
