"""From bars to rows that a network can learn from, split by time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import limits
from ktrdr_mcp.data import catalog
from ktrdr_mcp.data.bars import Bars, LoadedBars, width_ns
from ktrdr_mcp.data.content import NO_GRAMS, Grams, grams_of
from ktrdr_mcp.data.series import Reach
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import InvalidStrategy, NotEnoughData
from ktrdr_mcp.evaluation.metrics import CLASSES, class_shares
from ktrdr_mcp.evaluation.walk_forward import Split, chronological
from ktrdr_mcp.features.registry import check, features_of
from ktrdr_mcp.features.timeframes import warm_up_of
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.schemas.responses import DataUsed
from ktrdr_mcp.strategy.form import FuzzyInput
from ktrdr_mcp.training.dataset import Dataset, Integers, Series, View, series_of, view_of
from ktrdr_mcp.training.spec import SeriesSpec, TrainingSpec

COARSENESS: Final = ("threshold", "width")  # of labels: the smaller, the more moves count
HALVINGS: Final = 12
NAMED: Final = 5  # of the indicators with constant features
HINT: Final = (
    "Move its sets into the range that its values have, or write auto; what is in price units is"
    " divided by the close before it meets a set."
)


def constant_feature_notes(dataset: Dataset, view: View, train_rows: Integers) -> list[str]:
    """A sentence for each indicator of which some feature never varies.

    Args:
        dataset: the series.
        view: its features.
        train_rows: int64[n]; no other row is looked at.
    Raises:
        InvalidStrategy: no feature varies at all.
    """
    found = list(sentences(dataset, view, train_rows))
    if all(len(each.constant) == len(view.feature_names) for each in view.fits):
        raise InvalidStrategy(
            f"No feature of strategy '{dataset.strategy.name}' varies on the training rows. "
            + " ".join(found[:NAMED]),
            hint=HINT,
            field="strategy",
        )
    left = len(found) - NAMED
    return [*found[:NAMED], *([f"So have {left} more indicators."] if left > 0 else [])]


def sentences(dataset: Dataset, view: View, train_rows: Integers) -> Iterator[str]:
    """What does not vary, series by series and indicator by indicator."""
    for number, (one, own) in enumerate(dataset.split_by_series(train_rows)):
        rows, fitted = dataset.bars_of(number, train_rows[own]), view.fits[number]
        for each in fitted.strategy.fuzzy_inputs:
            names = [name for name in features_of(each) if name in fitted.constant]
            if names:
                yield sentence(each, names, one.table.features[each.indicator_output][rows])


def sentence(each: FuzzyInput, names: list[str], values: npt.NDArray[np.float64]) -> str:
    """Which features of one indicator do not vary, and what its values are."""
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
    grams: Grams = NO_GRAMS  # of the stored bars of all series, up to the end of their ranges


def prepare(spec: TrainingSpec, bar_sources: catalog.BarReader) -> Prepared:
    """Loads, checks, computes features and labels, splits and scales.

    Args:
        spec: what to train.
        bar_sources: where bars come from.
    Raises:
        KtrdrError: the data do not carry this training; nothing has been changed.
    """
    config = spec.config
    found = [load_series(one, spec, bar_sources) for one in spec.series]
    dataset = Dataset(spec.strategy, tuple(one.series for one in found))
    split = chronological(
        dataset.usable, dataset.timeline, config.validation_split, config.test_split
    )
    require_rows(dataset, split, config)
    require_classes(dataset, split, config)
    view = view_of(dataset, split.train)
    notes = [note for one in found for note in one.notes]
    return Prepared(
        dataset=dataset,
        split=split,
        view=view,
        used=data_used(dataset, split, found[0]),
        warnings=[
            *(warning for one in found for warning in one.warnings),
            *constant_feature_notes(dataset, view, split.train),
            *notes,
        ],
        grams=Grams(
            np.concatenate([one.grams.hashes for one in found]),
            np.concatenate([one.grams.time for one in found]),
        ),
    )


@dataclass(frozen=True, eq=False)
class LoadedSeries:
    """A series, where it came from and what must be said of it."""

    series: Series
    source: str
    dataset: str | None  # the version that it is of
    warnings: list[str]  # of the range
    notes: list[str]  # of the bars
    grams: Grams = NO_GRAMS  # of the stored bars up to the end of the range


def load_series(
    one: SeriesSpec, spec: TrainingSpec, bar_sources: catalog.BarReader
) -> LoadedSeries:
    """Loads one series of a training and computes what it needs. Raises KtrdrError."""
    loaded = load_bars(one, spec, bar_sources)
    first, stop, warnings = select(loaded.bars, one)
    bars = loaded.bars.slice(0, stop)  # what lies after the range must not matter
    series = series_of(bars, first, spec.strategy, spec.config.labels)
    grams = grams_until(loaded, bars)
    return LoadedSeries(series, loaded.source, loaded.dataset, warnings, loaded.notes, grams)


def grams_until(loaded: LoadedBars, bars: Bars) -> Grams:
    """The grams of the stored bars up to the close of the last of some bars."""
    stored = loaded.bars if loaded.stored is None else loaded.stored
    closes = int(bars.time[-1]) + width_ns(bars.timeframe) if len(bars) else 0
    return grams_of(stored.slice(0, int(np.searchsorted(stored.time, closes))))


def load_bars(
    one: SeriesSpec, spec: TrainingSpec, bar_sources: catalog.BarReader
) -> catalog.LoadedBars:
    """The stored bars that a series of a training rests on. Raises KtrdrError."""
    indicators = [each for strategy in spec.strategies for each in check(strategy)]
    needed = max((warm_up_of(each, one.timeframe) for each in indicators), default=0)
    reach = Reach(one.start_date, one.end_date, needed)
    return bar_sources.load(one.symbol, one.timeframe, one.day_rule, reach, one.dataset)


def select(bars: Bars, series: SeriesSpec) -> tuple[int, int, list[str]]:
    """The requested range as indices, with a warning where it reaches beyond the data."""
    start, end, rule = series.start_date, series.end_date, series.day_rule
    return catalog.select_range(
        bars,
        None if start is None else bars.bound(start, "start_date", end_of_day=False, rule=rule),
        None if end is None else bars.bound(end, "end_date", end_of_day=True, rule=rule),
    )


def require_rows(dataset: Dataset, split: Split, config: EffectiveConfig) -> None:
    """Refuses too short a range, with the sum that shows why. Raises NotEnoughData."""
    if split.is_large_enough:
        return
    finer = finer_labels(dataset, config)
    bars = sum(one.range_bars for one in dataset.series)
    warm_up_bars = sum(one.warm_up_bars for one in dataset.series)
    usable = len(dataset.usable)
    no_label = bars - warm_up_bars - usable
    raise NotEnoughData(
        f"Too few bars: of {bars} in the range, {warm_up_bars} are warm-up and {no_label} have"
        f" no label inside it; the {usable} left give {len(split.train)} training,"
        f" {len(split.validation)} validation and {len(split.test)} test rows after"
        f" {split.purged_rows} are purged; {limits.MIN_TRAIN_ROWS}, {limits.MIN_VALIDATION_ROWS}"
        f" and {limits.MIN_TEST_ROWS} are needed.",
        hint=finer
        or "Widen start_date and end_date, use a smaller timeframe, a shorter label horizon or"
        " shorter indicator periods; get_market_data_summary shows what there is.",
        field="config.labels" if finer else "start_date",
    )


def require_classes(dataset: Dataset, split: Split, config: EffectiveConfig) -> None:
    """Refuses training rows of one class only. Raises NotEnoughData."""
    present = np.unique(dataset.label[split.train])
    if len(present) < 2:
        raise NotEnoughData(
            f"Every training row has the label '{CLASSES[present[0]]}'; there is nothing to learn.",
            hint=finer_labels(dataset, config)
            or "Change config.labels (another width or threshold) or the range.",
            field="config.labels",
        )


def finer_labels(dataset: Dataset, config: EffectiveConfig) -> str | None:
    """What to write where labels are too coarse for the range; None if no finer ones would do.

    Args:
        dataset: the series, with labels that do not carry the training.
        config: how they were made.
    """
    for name in COARSENESS:
        given = config.labels.get(name)
        value = given if isinstance(given, float) else 0.0
        for _ in range(HALVINGS if value else 0):
            value = float(f"{value / 2:.1g}")
            again = relabel(dataset, {**config.labels, name: value})
            split = chronological(
                again.usable, again.timeline, config.validation_split, config.test_split
            )
            if split.is_large_enough and len(np.unique(again.label[split.train])) > 1:
                return f"Lower labels.{name}: {value:g} works on these bars ({given:g} was used)."
    return None


def relabel(dataset: Dataset, labels: Mapping[str, Any]) -> Dataset:
    """The same series with other labels."""
    return Dataset(dataset.strategy, tuple(one.relabel(labels) for one in dataset.series))


def data_used(dataset: Dataset, split: Split, loaded: LoadedSeries) -> DataUsed:
    """The account of the data that replies give."""
    shares = class_shares(dataset.label[split.train]).tolist()
    return DataUsed(
        first_bar=format_timestamp(min(int(one.bars.time[one.first]) for one in dataset.series)),
        last_bar=format_timestamp(int(dataset.timestamps[-1])),
        bars=sum(one.range_bars for one in dataset.series),
        usable_rows=len(dataset.usable),
        train_rows=len(split.train),
        validation_rows=len(split.validation),
        test_rows=len(split.test),
        purged_rows=split.purged_rows,
        class_shares={name: round(share, 4) for name, share in zip(CLASSES, shares, strict=True)},
        source=loaded.source,
        dataset=loaded.dataset,
    )
