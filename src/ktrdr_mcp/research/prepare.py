"""From bars to rows that a network can learn from, split by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import limits
from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.contract.responses import DataUsed
from ktrdr_mcp.data import sources
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.moments import moment_text, parse_moment
from ktrdr_mcp.errors import NotEnoughData
from ktrdr_mcp.features import build
from ktrdr_mcp.features.scaling import Scaler, fit
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.learn.evaluate import CLASSES, class_shares
from ktrdr_mcp.learn.split import Split, chronological
from ktrdr_mcp.research.spec import SeriesSpec, TrainingSpec
from ktrdr_mcp.strategy import Strategy


@dataclass(frozen=True)
class Prepared:
    """Everything a training needs of its data."""

    bars: Bars
    strategy: Strategy  # with every fuzzy set explicit
    feature_names: tuple[str, ...]
    features: npt.NDArray[np.float64]  # (bars, features), scaled; NaN in the warm-up
    scaler: Scaler
    labels: npt.NDArray[np.int64]  # (bars,); -1 where there is none
    split: Split
    used: DataUsed
    warnings: list[str]


@dataclass(frozen=True)
class Rows:
    """The bars of a request and those of them that can be learned from."""

    first: int  # index of the first bar of the range
    stop: int  # index after the last bar of the range
    warm_up_bars: int  # of the range, lost to indicators
    usable: npt.NDArray[np.int64]


def prepare(spec: TrainingSpec, bar_sources: sources.BarSources) -> Prepared:
    """Loads, checks, computes features and labels, splits and scales.

    Args:
        spec: what to train.
        bar_sources: where bars come from.
    Raises:
        KtrdrError: the data do not carry this training; nothing has been changed.
    """
    series, config = spec.series[0], spec.config
    loaded = bar_sources.load(series.symbol, series.timeframe)
    first, stop, warnings = select(loaded.bars, series)
    bars = loaded.bars.slice(0, stop)  # what lies after the range must not matter
    table = build.compute_indicators(bars, spec.strategy)
    made = labels.make_labels(bars, config.labels)
    rows = usable_rows(first, stop, table.warm_up_bars, made)
    split = chronological(rows.usable, made.end, config.validation_split, config.test_split)
    require_rows(rows, split, config)
    label = made.label.astype(np.int64)
    require_classes(label[split.train])
    fitted = build.fit_fuzzy(table, spec.strategy, split.train)
    names, values = build.feature_matrix(table, fitted)
    scaler = fit(values[split.train], fitted.features.scaling)
    return Prepared(
        bars=bars,
        strategy=fitted,
        feature_names=names,
        features=scaler.transform(values),
        scaler=scaler,
        labels=label,
        split=split,
        used=data_used(bars, rows, split, label, loaded.source),
        warnings=[*warnings, *loaded.notes],
    )


def select(bars: Bars, series: SeriesSpec) -> tuple[int, int, list[str]]:
    """The requested range as indices, with a warning where it reaches beyond the data."""
    start, end = series.start_date, series.end_date
    return sources.select_range(
        bars,
        None if start is None else parse_moment(start, "start_date", end_of_day=False),
        None if end is None else parse_moment(end, "end_date", end_of_day=True),
    )


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


def require_rows(rows: Rows, split: Split, config: EffectiveConfig) -> None:
    """Refuses too short a range, with the sum that shows why. Raises NotEnoughData."""
    if split.is_large_enough:
        return
    bars = rows.stop - rows.first
    no_label = bars - rows.warm_up_bars - len(rows.usable)
    raise NotEnoughData(
        f"Too few bars: of {bars} in the range, {rows.warm_up_bars} are warm-up and {no_label} have"
        f" no label inside it; the {len(rows.usable)} left give {len(split.train)} training,"
        f" {len(split.validation)} validation and {len(split.test)} test rows after"
        f" {split.purged_rows} are purged; {limits.MIN_TRAIN_ROWS}, {limits.MIN_VALIDATION_ROWS}"
        f" and {limits.MIN_TEST_ROWS} are needed.",
        hint="Widen start_date and end_date, use a smaller timeframe, a shorter label horizon or"
        " shorter indicator periods; get_market_data_summary shows what there is.",
        field="start_date",
    )


def require_classes(train_labels: npt.NDArray[np.int64]) -> None:
    """Refuses training rows of one class only. Raises NotEnoughData."""
    present = np.unique(train_labels)
    if len(present) < 2:
        raise NotEnoughData(
            f"Every training row has the label '{CLASSES[present[0]]}'; there is nothing to learn.",
            hint="Change config.labels (a narrower width, or a smaller threshold) or the range.",
            field="config.labels",
        )


def data_used(
    bars: Bars, rows: Rows, split: Split, label: npt.NDArray[np.int64], source: str
) -> DataUsed:
    """The account of the data that replies give."""
    shares = class_shares(label[split.train]).tolist()
    return DataUsed(
        first_bar=moment_text(int(bars.time[rows.first])),
        last_bar=moment_text(int(bars.time[rows.stop - 1])),
        bars=rows.stop - rows.first,
        usable_rows=len(rows.usable),
        train_rows=len(split.train),
        validation_rows=len(split.validation),
        test_rows=len(split.test),
        purged_rows=split.purged_rows,
        class_shares={name: round(share, 4) for name, share in zip(CLASSES, shares, strict=True)},
        source=source,
    )
