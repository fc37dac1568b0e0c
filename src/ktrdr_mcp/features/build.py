"""Features of a strategy: indicators, then fuzzy sets, then one column per set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

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
        names: of the indicators' outputs.
        values: float64[n, outputs], as they are fuzzified. A bar's values lie side by side, because
            batches take them from bars here and there.
        warm_up_bars: how many bars at the start lack a value of some output.
        outputs: float64[n] by name, in the indicators' own units; empty where none asked for them.
    """

    names: tuple[str, ...]
    values: Floats
    warm_up_bars: int
    outputs: dict[str, Floats] = field(default_factory=dict)

    @cached_property
    def features(self) -> dict[str, Floats]:
        """The columns of the values by name."""
        return dict(zip(self.names, self.values.T, strict=True))


def compute_indicators(
    bars: Bars, strategy: Strategy, *, own_units: bool = False
) -> IndicatorTable:
    """Computes a strategy's indicators from the first stored bar.

    Args:
        bars: the whole stored series, not a range of it.
        strategy: whose indicators.
        own_units: whether the outputs are kept in the indicators' own units, too.
    Raises:
        InvalidStrategy: an indicator or a parameter is not known.
        NotEnoughData: there are fewer bars than the warm-up takes.
        DataInvalid: an indicator has no finite value at some bar after its warm-up.
    """
    resolved = check(strategy)
    names = tuple(name for each in resolved for name in each.outputs)
    values = np.empty((len(bars), len(names)))
    columns = iter(values.T)
    outputs: dict[str, Floats] = {}
    warm_up_bars = 0
    timeframes = Timeframes(bars)
    for each in resolved:
        computed = timeframes.compute(each)
        for name, output in zip(each.outputs, computed, strict=True):
            feature = output.value if each.spec.raw else output.feature
            first = first_value(feature)
            refuse_missing(bars, each, name, output.value, first)
            refuse_missing(bars, each, name, feature, first)
            warm_up_bars = max(warm_up_bars, first + each.spec.window - 1)
            next(columns)[:] = feature
            if own_units:
                outputs[name] = output.value
    return IndicatorTable(names, values, warm_up_bars, outputs)


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
    columns = columns_of(strategy)
    return tuple(name for each in columns for name in each.names), values_of(table, columns, rows)


@dataclass(frozen=True)
class Columns:
    """The features that one fuzzy input makes.

    Args:
        names: of the features.
        source: the fuzzy input, with explicit sets.
        cycle: after how many units its values begin anew; 1 if they do not.
    """

    names: tuple[str, ...]
    source: FuzzyInput
    cycle: float


def columns_of(strategy: Strategy) -> tuple[Columns, ...]:
    """The features of a strategy with explicit sets, in order. Raises ValueError for others."""
    ordered = order_inputs(strategy)
    if any(each.sets == "auto" for each in ordered):
        raise ValueError("fit_fuzzy comes before feature_matrix")
    return tuple(
        Columns(
            features_of(each),
            each,
            cycle_of(strategy, each.indicator_output) if each.sets == "cyclic" else 1.0,
        )
        for each in ordered
    )


def values_of(
    table: IndicatorTable, columns: Sequence[Columns], rows: NDArray[np.int64] | None = None
) -> Floats:
    """float64[n, f], the features of bars.

    Args:
        table: of the columns' strategy.
        columns: as `columns_of` gives them.
        rows: int64[n], which bars; all of them if None.
    """
    known = table.values if rows is None else table.values.take(rows, axis=0)
    if tuple(each.source.indicator_output for each in columns) == table.names and all(
        each.source.sets == "crisp" for each in columns
    ):
        return known.copy() if rows is None else known
    values = np.empty((len(known), sum(len(each.names) for each in columns)))
    into = iter(values.T)
    for each in columns:
        # one after the other in memory, as numpy's sines have other last bits where they are not
        feature = np.ascontiguousarray(known[:, table.names.index(each.source.indicator_output)])
        for value in features_from(each, feature):
            next(into)[:] = value
    return values


def features_from(columns: Columns, values: Floats) -> Iterator[Floats]:
    """float64[n] for each feature of one fuzzy input, from the values of its output."""
    sets = columns.source.sets
    if sets == "crisp":
        yield values
    elif sets == "cyclic":
        yield from cyclic(values, columns.cycle)
    elif not isinstance(sets, str):
        for one in sets:
            yield membership(one.kind, one.parameters, values)
