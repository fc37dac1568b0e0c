"""Features of a strategy: indicators, then fuzzy sets, then one column per set."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.errors import DataInvalid, NotEnoughData
from ktrdr_mcp.features.fuzzy import auto_sets, cyclic, membership
from ktrdr_mcp.features.indicator import Floats
from ktrdr_mcp.features.registry import (
    Resolved,
    check,
    cycle_of,
    features_of,
    find_used_indicators,
)
from ktrdr_mcp.features.timeframes import Timeframes
from ktrdr_mcp.strategy.form import FuzzyInput, FuzzySetSpec, Strategy


def find_ineffective(strategy: Strategy) -> list[str]:
    """The dotted places of a strategy that were read and change nothing.

    Args:
        strategy: one that `registry.check` has passed.
    """
    raw = [
        f"indicators.{each.spec.name}.raw"
        for each in find_used_indicators(strategy)
        if each.spec.raw and not each.indicator.rescaled
    ]
    return [*strategy.ignored, *raw]


def remarks(strategy: Strategy) -> list[str]:
    """Sentences on what a strategy computes, its notes before them.

    Args:
        strategy: one that `registry.check` has passed.
    """
    lines = [each.spec.name for each in find_used_indicators(strategy) if each.spec.type == "macd"]
    in_price_units = (
        f"The type macd (here {', '.join(lines)}) is in price units, as in KTRDR; where prices"
        " change much over the range, use talib.MACD, which is divided by the close."
    )
    return [*strategy.notes, *([in_price_units] if lines else [])]


@dataclass(frozen=True, eq=False)
class IndicatorTable:
    """The indicators of a strategy over a series of n bars.

    Args:
        outputs: float64[n] by name, in the indicators' own units.
        features: float64[n] by the same names, as they are fuzzified.
        warm_up_bars: how many bars at the start lack a value of some output.
    """

    outputs: dict[str, Floats]
    features: dict[str, Floats]
    warm_up_bars: int


def compute_indicators(bars: Bars, strategy: Strategy) -> IndicatorTable:
    """Computes a strategy's indicators from the first stored bar.

    Args:
        bars: the whole stored series, not a range of it.
        strategy: whose indicators.
    Raises:
        InvalidStrategy: an indicator or a parameter is not known.
        NotEnoughData: there are fewer bars than the warm-up takes.
        DataInvalid: an indicator has no finite value at some bar after its warm-up.
    """
    resolved = check(strategy)
    outputs: dict[str, Floats] = {}
    features: dict[str, Floats] = {}
    warm_up_bars = 0
    timeframes = Timeframes(bars)
    for each in resolved:
        computed = timeframes.compute(each)
        for name, output in zip(each.outputs, computed, strict=True):
            outputs[name] = output.value
            features[name] = output.value if each.spec.raw else output.feature
            first = first_value(features[name])
            refuse_missing(bars, each, name, outputs[name], first)
            refuse_missing(bars, each, name, features[name], first)
            warm_up_bars = max(warm_up_bars, first + each.spec.window - 1)
    return IndicatorTable(outputs, features, warm_up_bars)


def first_value(values: Floats) -> int:
    """The index of the first value that is not NaN; 0 if there is none."""
    return int(np.argmin(np.isnan(values)))


def refuse_missing(bars: Bars, each: Resolved, name: str, values: Floats, first: int) -> None:
    """Raises DataInvalid if a value from `first` on is NaN or infinite."""
    finite = np.isfinite(values[first:])
    if finite.all():
        return
    index = first + int(np.argmin(finite))
    raise DataInvalid(
        f"Indicator '{name}' ({each.spec.type}) has no finite value at bar {index} "
        f"({bars.timestamp(index)}) of {bars.symbol} {bars.timeframe}; volume there is "
        f"{bars.volume[index]:g}.",
        hint="Use another indicator; many that divide by volume fail where it is 0.",
        field="strategy",
    )


def feature_names(strategy: Strategy) -> tuple[str, ...]:
    """The features of a strategy, in order; automatic sets need not be fitted.

    Order: indicators, then their outputs, then the sets, each as the file has them.
    """
    return tuple(name for each in order_inputs(strategy) for name in features_of(each))


def order_inputs(strategy: Strategy) -> list[FuzzyInput]:
    """The fuzzy inputs in the order of indicators and their outputs."""
    position = [name for each in check(strategy) for name in each.outputs]
    return sorted(strategy.fuzzy_inputs, key=lambda each: position.index(each.indicator_output))


def fit_fuzzy(table: IndicatorTable, strategy: Strategy, rows: NDArray[np.int64]) -> Strategy:
    """The strategy with "auto" replaced by explicit sets.

    Args:
        table: of this strategy.
        strategy: as read.
        rows: int64[k], training rows, all after the warm-up; no other row is looked at.
    Raises:
        NotEnoughData: the rows are too few or too much alike to place sets on.
    """
    fitted = tuple(
        FuzzyInput(each.indicator_output, fit_sets(table, each, rows))
        if each.sets == "auto"
        else each
        for each in strategy.fuzzy_inputs
    )
    return replace(strategy, fuzzy_inputs=fitted)


def fit_sets(
    table: IndicatorTable, each: FuzzyInput, rows: NDArray[np.int64]
) -> tuple[FuzzySetSpec, ...]:
    """The automatic sets of one output."""
    try:
        return auto_sets(table.features[each.indicator_output][rows])
    except NotEnoughData as error:
        raise NotEnoughData(
            f"Indicator '{each.indicator_output}': {error.message}",
            hint=error.hint,
            field="strategy",
        ) from None


def feature_matrix(
    table: IndicatorTable, strategy: Strategy, rows: NDArray[np.int64] | None = None
) -> tuple[tuple[str, ...], Floats]:
    """The features of bars.

    Args:
        table: of this strategy.
        strategy: with explicit sets, as `fit_fuzzy` returns it.
        rows: int64[n], which bars; all of them if None.
    Returns:
        the names, as `feature_names` orders them, and float64[n, f]; NaN only in the warm-up.
    Raises:
        ValueError: automatic sets were not fitted.
    """
    names = feature_names(strategy)
    bars = len(next(iter(table.features.values())))
    values = np.empty((bars if rows is None else len(rows), len(names)))
    column = 0
    for each in order_inputs(strategy):
        known = table.features[each.indicator_output]
        feature = known if rows is None else known[rows]
        if each.sets == "auto":
            raise ValueError("fit_fuzzy comes before feature_matrix")
        if each.sets == "crisp":
            values[:, column] = feature
            column += 1
            continue
        if each.sets == "cyclic":
            for part in cyclic(feature, cycle_of(strategy, each.indicator_output)):
                values[:, column] = part
                column += 1
            continue
        for one in each.sets:
            values[:, column] = membership(one.kind, one.parameters, feature)
            column += 1
    return names, values
