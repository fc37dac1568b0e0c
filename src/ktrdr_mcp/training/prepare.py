"""From bars to rows that a network can learn from, split by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import limits
from ktrdr_mcp.data import catalog
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.series import Reach
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import InvalidStrategy, NotEnoughData
from ktrdr_mcp.evaluation.metrics import CLASSES, class_shares
from ktrdr_mcp.evaluation.walk_forward import Split, chronological
from ktrdr_mcp.features.registry import check, features_of
from ktrdr_mcp.schemas.responses import DataUsed
from ktrdr_mcp.strategy.form import FuzzyInput
from ktrdr_mcp.training.dataset import Dataset, Rows, View, dataset_of, view_of
from ktrdr_mcp.training.spec import SeriesSpec, TrainingSpec

NAMED: Final = 5  # inputs with features that stand still, of those there are
HINT: Final = (
    "Move its sets into the range that its values have, or write auto; what is in price units is"
    " divided by the close before it meets a set."
)


def constant_feature_notes(
    dataset: Dataset, view: View, train_rows: npt.NDArray[np.int64]
) -> list[str]:
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


@dataclass(frozen=True)
class Prepared:
    """Everything a training needs of its data."""

    dataset: Dataset
    split: Split
    view: View  # fitted on the training rows of the split
    used: DataUsed
    warnings: list[str]

    @property
    def bars(self) -> Bars:
        """The series up to the last bar of the range."""
        return self.dataset.bars

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(bars,) class indices; -1 where there is no label."""
        return self.dataset.label


def prepare(spec: TrainingSpec, bar_sources: catalog.BarCatalog) -> Prepared:
    """Loads, checks, computes features and labels, splits and scales.

    Args:
        spec: what to train.
        bar_sources: where bars come from.
    Raises:
        KtrdrError: the data do not carry this training; nothing has been changed.
    """
    series, config = spec.series[0], spec.config
    needed = max((each.warm_up_bars for each in check(spec.strategy)), default=0)
    reach = Reach(series.start_date, series.end_date, needed)
    loaded = bar_sources.load(series.symbol, series.timeframe, series.day_rule, reach)
    first, stop, warnings = select(loaded.bars, series)
    bars = loaded.bars.slice(0, stop)  # what lies after the range must not matter
    dataset = dataset_of(bars, first, spec.strategy, config.labels)
    rows = dataset.rows
    split = chronological(rows.usable, dataset.end, config.validation_split, config.test_split)
    require_rows(rows, split)
    require_classes(dataset.label[split.train])
    view = view_of(dataset, split.train)
    warnings += constant_feature_notes(dataset, view, split.train)
    return Prepared(
        dataset=dataset,
        split=split,
        view=view,
        used=data_used(bars, rows, split, dataset.label, loaded.source),
        warnings=[*warnings, *loaded.notes],
    )


def select(bars: Bars, series: SeriesSpec) -> tuple[int, int, list[str]]:
    """The requested range as indices, with a warning where it reaches beyond the data."""
    start, end, rule = series.start_date, series.end_date, series.day_rule
    return catalog.select_range(
        bars,
        None if start is None else bars.bound(start, "start_date", end_of_day=False, rule=rule),
        None if end is None else bars.bound(end, "end_date", end_of_day=True, rule=rule),
    )


def require_rows(rows: Rows, split: Split) -> None:
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
            hint="Change config.labels (another width or threshold) or the range.",
            field="config.labels",
        )


def data_used(
    bars: Bars, rows: Rows, split: Split, label: npt.NDArray[np.int64], source: str
) -> DataUsed:
    """The account of the data that replies give."""
    shares = class_shares(label[split.train]).tolist()
    return DataUsed(
        first_bar=format_timestamp(int(bars.time[rows.first])),
        last_bar=format_timestamp(int(bars.time[rows.stop - 1])),
        bars=rows.stop - rows.first,
        usable_rows=len(rows.usable),
        train_rows=len(split.train),
        validation_rows=len(split.validation),
        test_rows=len(split.test),
        purged_rows=split.purged_rows,
        class_shares={name: round(share, 4) for name, share in zip(CLASSES, shares, strict=True)},
        source=source,
    )
