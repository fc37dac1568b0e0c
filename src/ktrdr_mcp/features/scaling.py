"""Scaling of features: fitted on training rows, stored as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.errors import DataInvalid
from ktrdr_mcp.features.indicator import Floats
from ktrdr_mcp.strategy.form import Scaling

ROUNDING: Final = 1e-14  # relative variation that is none


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

    def transform(self, values: Floats) -> Floats:
        """Scales float64[n, f]."""
        if self.kind == "none":
            return values
        return (values - self.shift) / self.scale

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
    columns = values.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "standard":
            shift, scale = values.mean(axis=0), values.std(axis=0)
        elif kind == "minmax":
            shift, scale = values.min(axis=0), np.ptp(values, axis=0)
        else:
            return Scaler(kind, np.zeros(columns), np.ones(columns))
    if not (np.isfinite(shift).all() and np.isfinite(scale).all()):
        raise DataInvalid(
            "A feature is too large to be scaled.",
            hint="Leave out raw: true and crisp for indicators with huge values.",
        )
    return Scaler(kind, shift, np.where(constant(values), 1.0, scale))


def constant(values: Floats) -> NDArray[np.bool_]:
    """Which columns of float64[n, f] do not vary but by rounding."""
    return np.asarray(np.ptp(values, axis=0) <= ROUNDING * np.abs(values).max(axis=0))
