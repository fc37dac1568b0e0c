"""Several bars as one input: the last values of features, gathered row by row and never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.features.registry import check, features_of
from ktrdr_mcp.strategy.form import Strategy

Rows = npt.NDArray[np.int64]
Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True, eq=False)
class Windows:
    """Which value of which feature each input of a network is.

    Args:
        columns: int64[inputs], the feature.
        lags: int64[inputs], how many bars before the row.
    """

    columns: Rows
    lags: Rows

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
