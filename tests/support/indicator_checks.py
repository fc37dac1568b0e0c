"""Generic checks that every indicator must pass, so that a new one is tested without a new test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.features.indicator import Output
from ktrdr_mcp.features.registry import Resolved, resolve
from ktrdr_mcp.features.timeframes import Timeframes, warm_up_of
from ktrdr_mcp.strategy.form import IndicatorSpec

CUTS = (0.5, 0.71, 0.9)  # shares of the bars after the warm-up at which the future is cut off


def check_indicator(spec: IndicatorSpec, bars: Bars) -> list[str]:
    """What is wrong with an indicator on these bars.

    Checked: its length; missing values only at the start; finite values; the same twice; and the
    value at t from bars up to t equals the value from all bars.

    Args:
        spec: the indicator and its parameters.
        bars: clearly more than its warm-up.
    Returns:
        one sentence for each problem; empty if there is none.
    """
    return list(dict.fromkeys(find_problems(resolve(spec), bars)))


def find_problems(resolved: Resolved, bars: Bars) -> Iterator[str]:
    """The problems of one indicator, with repetitions."""
    wider = resolved.spec.timeframe not in (None, bars.timeframe)
    warm_up_bars = warm_up_of(resolved, bars.timeframe)
    whole = compute(resolved, bars)
    again = compute(resolved, bars)
    for name, output, repeated in zip(resolved.outputs, whole, again, strict=True):
        yield from find_output_problems(name, output, len(bars), warm_up_bars, exact=not wider)
        if not agree(output, repeated, len(bars)):
            yield f"{name} differs from run to run"
    after = len(bars) - warm_up_bars
    for share in CUTS:
        stop = warm_up_bars + max(1, int(share * after))
        past = compute(resolved, bars.slice(0, stop))
        for name, output, early in zip(resolved.outputs, whole, past, strict=True):
            if not agree(output, early, stop):
                yield f"{name} changes when later bars become known"


def find_output_problems(
    name: str, output: Output, bars: int, warm_up_bars: int, *, exact: bool
) -> Iterator[str]:
    """The problems of one output by itself.

    Args:
        name: of the output.
        output: its values.
        bars: how many there are.
        warm_up_bars: before its first value.
        exact: whether none may come sooner; with wider bars, sessions decide.
    """
    for values in (output.value, output.feature):
        if values.shape != (bars,) or values.dtype != np.float64:
            yield f"{name} is {values.dtype}{list(values.shape)} for {bars} bars"
            return
        missing = np.isnan(values)
        first = int(np.argmin(missing))
        if missing[first:].any():
            yield f"{name} has missing values after its first value"
        if first > warm_up_bars or (exact and first < warm_up_bars and not missing.all()):
            yield f"{name} begins at bar {first}, not after its warm-up of {warm_up_bars}"
        if np.isinf(values).any():
            yield f"{name} has infinite values"


def compute(resolved: Resolved, bars: Bars) -> tuple[Output, ...]:
    """The outputs of an indicator."""
    return Timeframes(bars).compute(resolved)


def agree(one: Output, other: Output, bars: int) -> bool:
    """Whether two outputs agree, bit for bit, over the first bars."""
    return all(
        np.array_equal(getattr(one, part)[:bars], getattr(other, part)[:bars], equal_nan=True)
        for part in ("value", "feature")
    )
