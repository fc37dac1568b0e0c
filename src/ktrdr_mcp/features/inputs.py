"""From features to what a network takes: scaled values, and windows of several bars.

Scaling is fitted on training rows and stored as plain numbers. Windows are gathered row by row and
never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ktrdr_mcp.errors import DataInvalid
from ktrdr_mcp.features.indicator import Floats
from ktrdr_mcp.features.registry import check, features_of
from ktrdr_mcp.strategy.form import Scaling, Strategy

ROUNDING: Final = 1e-14  # relative variation that is none

Rows = npt.NDArray[np.int64]
Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True, eq=False)
class Scaler:
    """(values - shift) / scale, column by column.

    Args:
        kind: standard (mean and standard deviation), minmax (to [0, 1]) or none.
        shift: float64[f]
        scale: float64[f], above 0; 1 for a column that does not vary.
    """

    kind: Scaling
    shift: Floats
    scale: Floats

    def transform(self, values: Floats, out: Floats | None = None) -> Floats:
        """Scales float64[n, f].

        Args:
            values: as they are.
            out: where to write, which may be `values`; else into new memory.
        """
        if self.kind == "none":
            return values
        scaled = np.subtract(values, self.shift, out=out)
        return np.divide(scaled, self.scale, out=scaled)

    def of_columns(self, columns: NDArray[np.int64]) -> Scaler:
        """The scaler of some of its columns, in their order."""
        return Scaler(self.kind, self.shift[columns], self.scale[columns])

    def to_dict(self) -> dict[str, Any]:
        """The scaler in JSON's types."""
        return {"kind": self.kind, "shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The scaler that `to_dict` wrote."""
        shift, scale = (np.array(values[key], dtype=np.float64) for key in ("shift", "scale"))
        return cls(values["kind"], shift, scale)


def fit(values: Floats, kind: Scaling) -> Scaler:
    """The scaler of the rows given, which must be training rows alone.

    Args:
        values: float64[n, f], finite, n at least 1.
        kind: standard, minmax or none.
    Raises:
        DataInvalid: a column is too large to be scaled.
    """
    return fit_in_blocks(lambda: [values], kind)[0]


def fit_in_blocks(
    blocks: Callable[[], Iterable[Floats]], kind: Scaling
) -> tuple[Scaler, NDArray[np.bool_]]:
    """The scaler of rows that are never held all at once, with the bits of `fit`.

    Args:
        blocks: gives the rows, some at a time, as often as it is called; of one column, all at
            once, because numpy adds those in another order.
        kind: standard, minmax or none.
    Returns:
        the scaler, and which columns do not vary but by rounding.
    Raises:
        DataInvalid: a column is too large to be scaled.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = _figures(blocks)
        span = found.high - found.low
        same = np.asarray(span <= ROUNDING * np.maximum(np.abs(found.low), np.abs(found.high)))
        if kind == "none":
            return Scaler(kind, np.zeros(len(span)), np.ones(len(span))), same
        shift, scale = found.low, span
        if kind == "standard":
            shift = found.total / found.count
            squares: Floats | None = None
            for block in blocks():
                apart = block - shift
                squares = _add(squares, np.multiply(apart, apart, out=apart))
            scale = np.sqrt(np.asarray(squares) / found.count)
    if not (np.isfinite(shift).all() and np.isfinite(scale).all()):
        raise DataInvalid(
            "A feature is too large to be scaled.",
            hint="Leave out raw: true and crisp for indicators with huge values.",
        )
    return Scaler(kind, shift, np.where(same, 1.0, scale)), same


@dataclass(frozen=True, eq=False)
class Figures:
    """Of each column: its bounds and sum; and how many rows there are."""

    low: Floats
    high: Floats
    total: Floats
    count: int


def _figures(blocks: Callable[[], Iterable[Floats]]) -> Figures:
    """The figures of all rows."""
    low, high, total, count = None, None, None, 0
    for block in blocks():
        least, most = block.min(axis=0), block.max(axis=0)
        low = least if low is None else np.minimum(low, least)
        high = most if high is None else np.maximum(high, most)
        total = _add(total, block)
        count += len(block)
    return Figures(np.asarray(low), np.asarray(high), np.asarray(total), count)


def _add(total: Floats | None, block: Floats) -> Floats:
    """Sums of columns, row by row as numpy adds them when it has all rows."""
    rows = block if total is None else np.concatenate([total[None], block])
    return np.asarray(np.add.reduce(rows, axis=0))


def constant(values: Floats) -> NDArray[np.bool_]:
    """Which columns of float64[n, f] do not vary but by rounding."""
    return np.asarray(np.ptp(values, axis=0) <= ROUNDING * np.abs(values).max(axis=0))


@dataclass(frozen=True, eq=False)
class Windows:
    """Which value of which feature each input of a network is.

    Args:
        columns: int64[inputs], the feature.
        lags: int64[inputs], how many bars before the row.
    """

    columns: Rows
    lags: Rows

    @cached_property
    def alike(self) -> bool:
        """Whether the inputs are every feature in order, each with the same bars, newest first."""
        lags = np.unique(self.lags)
        features = np.arange(len(self.columns) // len(lags))
        return np.array_equal(self.columns, features.repeat(len(lags))) and np.array_equal(
            self.lags, np.tile(lags, len(features))
        )

    def gather(self, values: npt.NDArray[Number], rows: Rows) -> npt.NDArray[Number]:
        """The inputs of some rows.

        Args:
            values: (n, features) of consecutive bars.
            rows: (k,) each with enough bars before it.
        Returns:
            (k, inputs).
        """
        gathered: npt.NDArray[Number] = values[rows[:, None] - self.lags, self.columns]
        return gathered

    def names(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """The inputs by name: `rsi` is this bar's, `rsi_ago_2` that of two bars before."""
        return tuple(
            features[column] if lag == 0 else f"{features[column]}_ago_{lag}"
            for column, lag in zip(self.columns.tolist(), self.lags.tolist(), strict=True)
        )


def windows_of(strategy: Strategy) -> Windows | None:
    """The windows of a strategy's features, in their order; None where each is one bar wide."""
    if all(spec.window == 1 for spec in strategy.indicators):
        return None
    window = {name: each.spec.window for each in check(strategy) for name in each.outputs}
    position = list(window)
    ordered = sorted(strategy.fuzzy_inputs, key=lambda each: position.index(each.indicator_output))
    bars = [window[each.indicator_output] for each in ordered for _ in features_of(each)]
    pairs = [(column, lag) for column, width in enumerate(bars) for lag in range(width)]
    columns, lags = np.array(pairs, dtype=np.int64).T
    return Windows(columns, lags)
