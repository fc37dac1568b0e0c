"""Features that are the same on every training row, so that a network learns nothing from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.errors import InvalidStrategy
from ktrdr_mcp.features.registry import features_of
from ktrdr_mcp.research.dataset import Dataset, View
from ktrdr_mcp.strategy.form import FuzzyInput

NAMED: Final = 5  # inputs with features that stand still, of those there are
HINT: Final = (
    "Move its sets into the range that its values have, or write auto; what is in price units is"
    " divided by the close before it meets a set."
)


def still(dataset: Dataset, view: View, train_rows: npt.NDArray[np.int64]) -> list[str]:
    """A sentence for each indicator of which some feature never varies.

    Args:
        dataset: the series.
        view: its features.
        train_rows: (n,) bar indices; no other row is looked at.
    Raises:
        InvalidStrategy: no feature varies at all.
    """
    found = list(sentences(dataset, view, train_rows))
    if len(view.constant) == len(view.feature_names):
        raise InvalidStrategy(
            f"No feature of strategy '{view.strategy.name}' varies on the training rows. "
            + " ".join(found[:NAMED]),
            hint=HINT,
            field="strategy",
        )
    left = len(found) - NAMED
    return [*found[:NAMED], *([f"So have {left} more indicators."] if left > 0 else [])]


def sentences(dataset: Dataset, view: View, train_rows: npt.NDArray[np.int64]) -> Iterator[str]:
    """What stands still, indicator by indicator."""
    for each in view.strategy.fuzzy_inputs:
        names = [name for name in features_of(each) if name in view.constant]
        if names:
            yield sentence(each, names, dataset.table.features[each.indicator_output][train_rows])


def sentence(each: FuzzyInput, names: list[str], values: npt.NDArray[np.float64]) -> str:
    """Which features of one indicator stand still, and what its values are."""
    features = f"Feature{'s' if len(names) > 1 else ''} {', '.join(names)}"
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    run = f"is {low} there" if low == high else f"runs from {low} to {high} there"
    return (
        f"{features} never var{'y' if len(names) > 1 else 'ies'} on the training rows:"
        f" {each.indicator_output} {run}."
    )
