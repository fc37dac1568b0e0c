"""A series with its indicators and labels, and the features that one set of training rows gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.features import build
from ktrdr_mcp.features.scaling import Scaler, constant, fit
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.strategy.form import Strategy

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The bars of a request and those of them that can be learned from."""

    first: int  # index of the first bar of the range
    stop: int  # index after the last bar of the range
    warm_up_bars: int  # of the range, lost to indicators
    usable: Integers  # (n,) ascending bar indices


@dataclass(frozen=True, eq=False)
class Dataset:
    """What can be computed of a series without knowing which rows train."""

    bars: Bars
    strategy: Strategy  # as written
    table: build.IndicatorTable
    label: Integers  # (bars,) class indices; -1 where there is no label
    end: Integers  # (bars,) the last bar that each label depends on
    rows: Rows


@dataclass(frozen=True, eq=False)
class View:
    """Features as one set of training rows fits them."""

    strategy: Strategy  # every fuzzy set explicit
    feature_names: tuple[str, ...]
    constant: frozenset[str]  # the features that do not vary on these rows
    scaler: Scaler
    features: npt.NDArray[np.float64]  # (bars, features), scaled; NaN in the warm-up


def dataset_of(bars: Bars, first: int, strategy: Strategy, config: Mapping[str, Any]) -> Dataset:
    """Computes indicators and labels.

    Args:
        bars: the series from its first stored bar to the last bar of the range.
        first: index of the first bar of the range.
        strategy: whose indicators.
        config: the complete labels configuration.
    Raises:
        DataError: the series does not carry these indicators.
    """
    table = build.compute_indicators(bars, strategy)
    made = labels.make_labels(bars, config)
    rows = usable_rows(first, len(bars), table.warm_up_bars, made)
    return Dataset(bars, strategy, table, made.label.astype(np.int64), made.end, rows)


def usable_rows(first: int, stop: int, warm_up_bars: int, made: labels.Labels) -> Rows:
    """The rows of the range that have features, and a label that ends inside the range.

    Args:
        first: index of the first bar of the range.
        stop: index after its last bar.
        warm_up_bars: bars at the start of the series without features.
        made: labels of the whole series.
    """
    index = np.arange(max(first, warm_up_bars), stop)
    usable = index[(made.label[index] >= 0) & (made.end[index] < stop)]
    return Rows(first, stop, max(0, min(warm_up_bars, stop) - first), usable)


def view_of(dataset: Dataset, train_rows: Integers) -> View:
    """Fits fuzzy sets and scaler on the training rows alone.

    Args:
        dataset: the series.
        train_rows: (n,) bar indices.
    """
    fitted = build.fit_fuzzy(dataset.table, dataset.strategy, train_rows)
    names, values = build.feature_matrix(dataset.table, fitted)
    fitted_on = values[train_rows]
    scaler = fit(fitted_on, fitted.features.scaling)
    still = frozenset(np.array(names)[constant(fitted_on)].tolist())
    return View(fitted, names, still, scaler, scaler.transform(values))
