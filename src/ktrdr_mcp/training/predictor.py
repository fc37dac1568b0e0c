"""Predictions and backtests from a model's files alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, bars_per_year
from ktrdr_mcp.errors import NotEnoughData
from ktrdr_mcp.evaluation.backtest import Backtest, backtest, confident_signals
from ktrdr_mcp.features import build
from ktrdr_mcp.features.fuzzy import membership
from ktrdr_mcp.features.inputs import Scaler, windows_of
from ktrdr_mcp.nn.network import Estimator, from_dict, probabilities, windowed_probabilities
from ktrdr_mcp.schemas.results import TradingRule
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training.bundle import Bundle, BundleManifest
from ktrdr_mcp.training.seen import FRESH, TRAINING, Levels, SeenGrams

if TYPE_CHECKING:  # the server reads manifests, and imports no torch
    import torch

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A model ready to predict."""

    strategy: Strategy  # every fuzzy set explicit
    scaler: Scaler
    shape: Estimator
    weights: dict[str, torch.Tensor]
    manifest: BundleManifest | None  # None for a model that another program wrote
    # Bars of its symbol from the first up to, and without, the second may have decided its weights.
    seen_from: str | None  # ISO 8601 UTC with Z; None from the first bar on
    seen_before: str
    # Those before the first of these were fitted, and the rest before the second chose: weights,
    # settings, or the model itself, by the verdict of its walk-forward. None: it is seen_before.
    fitted_before: str | None = None
    chosen_before: str | None = None
    program: str = ""  # another program that wrote it, as sentences name it
    seen: SeenGrams | None = None  # of all bars that made it; None where that was not kept


@dataclass(frozen=True)
class Scores:
    """What a model says of some bars."""

    probabilities: Floats  # (rows, 3)
    indicators: dict[str, Floats]  # (rows,) each, in their own units
    features: Floats  # (rows, features) scaled


def model_of(bundle: Bundle) -> Model:
    """Rebuilds a model from its bundle."""
    manifest = bundle.manifest
    periods = manifest.periods
    return Model(
        strategy=Strategy.from_dict(manifest.strategy),
        scaler=Scaler.from_dict(manifest.scaler),
        shape=from_dict(manifest.network),
        weights=bundle.weights,
        manifest=manifest,
        seen_from=periods.train[0],
        seen_before=periods.test[0],
        seen=bundle.seen,
        fitted_before=periods.validation[0],
        chosen_before=find_tested_until(manifest),
    )


def find_tested_until(manifest: BundleManifest) -> str:
    """When the last tested label was known; older bundles say when the last tested bar opened."""
    if manifest.tested_window is not None:
        return manifest.tested_window[1]
    return max(manifest.periods.test[1], manifest.metrics.walk_forward.tested[1])


def predict(model: Model, bars: Bars, rows: npt.NDArray[np.int64]) -> Scores:
    """Scores some bars, with indicators computed from the first stored bar.

    Args:
        model: the model.
        bars: the series up to the last bar wanted, or longer.
        rows: (n,) bar indices after the warm-up.
    Raises:
        DataError: the series is shorter than the indicators' warm-up.
    """
    table = build.compute_indicators(bars, model.strategy, own_units=True)
    if len(rows) and int(rows.min()) < table.warm_up_bars:
        raise NotEnoughData(
            f"The indicators need {table.warm_up_bars} bars before the first one.",
            hint="Use a later date.",
        )
    _, values = build.feature_matrix(table, model.strategy)
    windows = windows_of(model.strategy)
    if windows is None:
        features = model.scaler.transform(values[rows])
        said = probabilities(model.shape, model.weights, features)
    else:
        scaled = model.scaler.transform(values)
        said = windowed_probabilities(model.shape, model.weights, windows, scaled, rows)
        features = scaled[rows]
    return Scores(
        said,
        {name: column[rows] for name, column in table.outputs.items()},
        features,
    )


def direction_memberships(strategy: Strategy, direction: float) -> dict[str, float]:
    """Fuzzy outputs of p(buy) - p(sell).

    Args:
        strategy: whose output sets.
        direction: in [-1, 1].
    """
    at = np.array([direction])
    return {
        each.name: float(membership(each.kind, each.parameters, at)[0])
        for each in strategy.output_sets
    }


MIN_BARS = 3  # of a part: two openings after a signal make its first return

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Range:
    """A range of a series, as bar indices, and how the model has seen each bar of the series."""

    first: int
    stop: int
    seen: Levels


@dataclass(frozen=True, eq=False)
class Parts:
    """The bars of a range by how the model has seen them, ascending bar indices.

    Args:
        in_sample: (n,) seen in training.
        choosing: (c,) not seen in training, but in choosing.
        out_of_sample: (m,) fresh: the last run of bars that it has not seen.
        left_out: (k,) those that it has not seen before bars that it has. They are no part of any
            backtest: joined with later bars they would make up trades across the training.
        after: whether the fresh part comes after bars that the model has seen.
    """

    in_sample: Rows
    choosing: Rows
    out_of_sample: Rows
    left_out: Rows
    after: bool

    @property
    def named(self) -> dict[str, Rows]:
        """The parts that are traded."""
        return {
            "in_sample": self.in_sample,
            "choosing": self.choosing,
            "out_of_sample": self.out_of_sample,
        }


@dataclass(frozen=True, eq=False)
class Run:
    """The parts of a range and the backtest of each that has enough bars, by name."""

    parts: Parts
    backtests: dict[str, Backtest]


def run(model: Model, bars: Bars, chosen: Range, rule: TradingRule) -> Run:
    """Trades the model's signals on each part of a range.

    Args:
        model: whose signals.
        bars: the series, from its first stored bar.
        chosen: the range.
        rule: how signals are traded.
    Raises:
        NotEnoughData: the range has too few bars after the indicators' warm-up.
    """
    series = bars.slice(0, chosen.stop)
    rows = rows_of(model, series, chosen)
    probabilities = predict(model, series, rows).probabilities
    signal = confident_signals(probabilities, rule.confidence_threshold)
    yearly = bars_per_year(series)
    parts = parts_of(rows, chosen.seen)
    return Run(
        parts,
        {
            name: backtest(
                series.time, series.open, part, signal[np.isin(rows, part)], rule, yearly
            )
            for name, part in parts.named.items()
            if len(part) >= MIN_BARS
        },
    )


def rows_of(model: Model, series: Bars, chosen: Range) -> Rows:
    """(n,) the bars of a range that have features. Raises NotEnoughData."""
    warm_up = build.compute_indicators(series, model.strategy).warm_up_bars
    rows = np.arange(max(chosen.first, warm_up), chosen.stop)
    if len(rows) < MIN_BARS:
        raise NotEnoughData(
            f"The range has {len(rows)} bars after the indicators' warm-up of {warm_up}; trading"
            f" needs {MIN_BARS}.",
            hint="Widen start_date and end_date.",
            field="start_date",
        )
    return rows


def parts_of(rows: Rows, seen: Levels) -> Parts:
    """Tells the bars of a range apart.

    Args:
        rows: (n,) consecutive bar indices.
        seen: how the model has seen each bar of the series.
    """
    levels = seen[rows]
    in_sample, unseen = rows[levels == TRAINING], rows[levels == FRESH]
    choosing = rows[(levels > FRESH) & (levels < TRAINING)]
    last_run = int(np.flatnonzero(np.diff(unseen, prepend=-2) > 1)[-1]) if len(unseen) else 0
    fresh = unseen[last_run:]
    after = bool(len(fresh) and seen[: fresh[0]].any())
    return Parts(in_sample, choosing, fresh, unseen[:last_run], after)
