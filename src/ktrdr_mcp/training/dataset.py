"""Series with their indicators and labels as one set of rows, and features as training fits them.

A row is one bar of one series; the rows of a series follow one another, and so do the series. Time
is cut and counted by timestamps, which rows of several series share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, width_ns
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.evaluation.baselines import newest_known
from ktrdr_mcp.evaluation.walk_forward import Timeline
from ktrdr_mcp.features import build
from ktrdr_mcp.features.inputs import Scaler, Windows, fit_in_blocks, windows_of
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.strategy.form import Strategy

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BLOCK_ROWS: Final = 65_536  # of which features are computed at once
WINDOWED_ROWS: Final = 4_096  # of which windows are made at once: they should stay in cache


@dataclass(frozen=True, eq=False)
class Series:
    """What can be computed of one series without knowing which rows train.

    Args:
        bars: from its first stored bar to the last bar of the range.
        first: index of the first bar of the range.
        table: the strategy's indicators.
        label: int64[bars], class numbers; -1 where there is no label.
        end: int64[bars], the last bar that each label depends on.
        usable: int64[n], ascending bars of the range that have features, and a label that ends
            inside the range.
    """

    bars: Bars
    first: int
    table: build.IndicatorTable
    label: Integers
    end: Integers
    usable: Integers

    def relabel(self, config: Mapping[str, Any]) -> Series:
        """The same series with other labels; the complete configuration of those."""
        return label_series(self.bars, self.first, self.table, config)

    @property
    def range_bars(self) -> int:
        """How many bars the range has."""
        return len(self.bars) - self.first

    @property
    def warm_up_bars(self) -> int:
        """How many of them are lost to indicators."""
        return max(0, min(self.table.warm_up_bars, len(self.bars)) - self.first)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Every row of one or more series.

    Args:
        strategy: as written.
        series: at least one.
    """

    strategy: Strategy
    series: tuple[Series, ...]

    @cached_property
    def timestamps(self) -> Integers:
        """int64[t], the opening of every bar of any series, ascending, UTC nanoseconds."""
        if len(self.series) == 1:
            return self.series[0].bars.time
        return np.unique(np.concatenate([one.bars.time for one in self.series]))

    @cached_property
    def timeline(self) -> Timeline:
        """When the rows are."""
        if len(self.series) == 1:
            return Timeline.of_one_series(self.series[0].end)
        at, until = [], []
        for one in self.series:
            place = np.searchsorted(self.timestamps, one.bars.time)
            at.append(place)
            until.append(np.where(one.end >= 0, place[one.end], -1))
        return Timeline(np.concatenate(at), np.concatenate(until))

    @cached_property
    def starts(self) -> Integers:
        """int64[series + 1], the first row of each series, then how many rows there are."""
        return np.cumsum([0, *(len(one.bars) for one in self.series)])

    @cached_property
    def label(self) -> Integers:
        """int64[rows], class numbers; -1 where there is no label."""
        return concatenate([one.label for one in self.series])

    @cached_property
    def newest_label(self) -> Integers:
        """int64[rows], the newest label of the row's series that is known then; -1 without one."""
        return concatenate([newest_known(one.label, one.end) for one in self.series])

    @cached_property
    def usable(self) -> Integers:
        """int64[n], the rows that can be learned from, in the order of time, then of series."""
        rows = concatenate([one.usable + self.starts[n] for n, one in enumerate(self.series)])
        return rows if len(self.series) == 1 else rows[np.argsort(self.at(rows), kind="stable")]

    def at(self, rows: Integers) -> Integers:
        """int64[n], the places of rows in the timestamps."""
        return self.timeline.at[rows]

    def time(self, row: int) -> str:
        """The opening of a row's bar as ISO 8601 text."""
        return format_timestamp(int(self.timestamps[self.timeline.at[row]]))

    def split_by_series(self, rows: Integers) -> Iterator[tuple[Series, npt.NDArray[np.bool_]]]:
        """Each series with bool[n], which of some rows are its own."""
        for one, start, stop in zip(self.series, self.starts, self.starts[1:], strict=False):
            yield one, (rows >= start) & (rows < stop)

    def bars_of(self, number: int, rows: Integers) -> Integers:
        """The bar indices of rows of one series, by the number of the series."""
        bars: Integers = rows - self.starts[number]
        return bars

    def closes_ns(self, rows: Integers, timeline: Timeline | None = None) -> int:
        """When the last bar closes that a label of these rows depends on, UTC nanoseconds.

        Args:
            rows: int64[n].
            timeline: with the longest labels of all that are compared; else this dataset's own.
        """
        last = self.timestamps[(timeline or self.timeline).until[rows].max()]
        return int(last) + width_ns(self.series[0].bars.timeframe)


@dataclass(frozen=True, eq=False)
class SeriesFit:
    """What training rows of one series fit.

    Args:
        strategy: every fuzzy set explicit.
        scaler: of its features.
        constant: the features that do not vary on these rows.
    """

    strategy: Strategy
    scaler: Scaler
    constant: frozenset[str]

    @cached_property
    def columns(self) -> tuple[build.Columns, ...]:
        """The features in order."""
        return build.columns_of(self.strategy)

    def features_of(self, table: build.IndicatorTable, bars: Integers) -> Floats:
        """float64[n, features] of some bars of its series, scaled."""
        values = build.values_of(table, self.columns, bars)
        return self.scaler.transform(values, out=values)


@dataclass(frozen=True, eq=False)
class View:
    """Features as one set of training rows fits them; computed for the rows that are asked for.

    A million bars of ninety features are 720 MB, of which a training has a view for each fold.

    Args:
        feature_names: in order.
        fits: one for each series.
        dataset: whose rows.
        windows: which of them each input of a network is; None where all are its row's own.
    """

    feature_names: tuple[str, ...]
    fits: tuple[SeriesFit, ...]
    dataset: Dataset
    windows: Windows | None = None

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs of a network, in order."""
        return self.windows.names(self.feature_names) if self.windows else self.feature_names

    @property
    def features(self) -> Floats:
        """float64[rows, features] of every row, scaled; NaN in the warm-up. Computed anew."""
        return self.features_of(np.arange(self.dataset.starts[-1]))

    def features_of(self, rows: Integers) -> Floats:
        """float64[n, features] of some rows, scaled."""
        if len(self.fits) == 1:
            return self.fits[0].features_of(self.dataset.series[0].table, rows)
        found = np.empty((len(rows), len(self.feature_names)))
        for number, (one, own) in enumerate(self.dataset.split_by_series(rows)):
            if own.any():
                bars = self.dataset.bars_of(number, rows[own])
                found[own] = self.fits[number].features_of(one.table, bars)
        return found

    def blocks(self) -> Iterator[Floats]:
        """The features of every row, some rows at a time."""
        rows = int(self.dataset.starts[-1])
        for start in range(0, rows, BLOCK_ROWS):
            yield self.features_of(np.arange(start, min(start + BLOCK_ROWS, rows)))

    def inputs(self, rows: Integers) -> Floats:
        """float64[n, inputs], what a network sees of some rows."""
        if self.windows is None:
            return self.features_of(rows)
        found = np.empty((len(rows), len(self.input_names)))
        self.write_inputs(rows, found)
        return found

    def write_inputs(self, rows: Integers, out: npt.NDArray[np.floating[Any]]) -> None:
        """Writes what a network sees of some rows.

        Args:
            rows: int64[n].
            out: [n, inputs] of any precision.
        """
        if self.windows is None:
            out[:] = self.features_of(rows)
            return
        lags, lag = np.unique(self.windows.lags, return_inverse=True)
        at_once = max(1, WINDOWED_ROWS // len(lags))
        for start in range(0, len(rows), at_once):
            before = rows[start : start + at_once, None] - lags
            features = self.features_of(before.ravel()).reshape(*before.shape, -1)
            part = out[start : start + at_once]
            if self.windows.alike:
                shape = (len(before), features.shape[2], len(lags))
                np.reshape(part, shape, copy=False)[:] = features.swapaxes(1, 2)
            else:
                part[:] = features[:, lag, self.windows.columns]


def concatenate(arrays: Sequence[Integers]) -> Integers:
    """Arrays one after the other; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def series_of(bars: Bars, first: int, strategy: Strategy, config: Mapping[str, Any]) -> Series:
    """Computes indicators and labels of a series.

    Args:
        bars: from its first stored bar to the last bar of the range.
        first: index of the first bar of the range.
        strategy: whose indicators.
        config: the complete labels configuration.
    Raises:
        DataError: the series does not carry these indicators.
    """
    return label_series(bars, first, build.compute_indicators(bars, strategy), config)


def label_series(
    bars: Bars, first: int, table: build.IndicatorTable, config: Mapping[str, Any]
) -> Series:
    """A series whose indicators are known, with its labels; the arguments as `series_of`."""
    made = labels.make_labels(bars, config)
    index = np.arange(max(first, table.warm_up_bars), len(bars))
    usable = index[(made.label[index] >= 0) & (made.end[index] < len(bars))]
    return Series(bars, first, table, made.label.astype(np.int64), made.end, usable)


def view_of(dataset: Dataset, train_rows: Integers) -> View:
    """Fits fuzzy sets and scaler of each series on its training rows alone.

    Args:
        dataset: the series.
        train_rows: int64[n].
    Raises:
        DataError: the rows of a series do not carry its features.
    """
    fits = []
    for number, (one, own) in enumerate(dataset.split_by_series(train_rows)):
        rows = dataset.bars_of(number, train_rows[own])
        fitted = build.fit_fuzzy(one.table, dataset.strategy, rows)
        names = build.feature_names(fitted)
        at_once = BLOCK_ROWS if len(names) > 1 else max(1, len(rows))

        def blocks(
            table: build.IndicatorTable = one.table,
            fitted: Strategy = fitted,
            rows: Integers = rows,
            at_once: int = at_once,
        ) -> Iterator[Floats]:
            for start in range(0, max(1, len(rows)), at_once):
                yield build.feature_matrix(table, fitted, rows[start : start + at_once])[1]

        scaler, same = fit_in_blocks(blocks, fitted.features.scaling)
        fits.append(SeriesFit(fitted, scaler, frozenset(np.array(names)[same].tolist())))
    names = build.feature_names(fits[0].strategy)
    return View(names, tuple(fits), dataset, windows_of(dataset.strategy))
