"""Looking at a series without spending its test rows: the first rows, before every default fold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp.data.bars import Bars, width_ns
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.content import NO_GRAMS, Grams, Sketch, are_related, bound_at, sketch_of
from ktrdr_mcp.errors import NotEnoughData
from ktrdr_mcp.evaluation.metrics import CLASSES, class_shares
from ktrdr_mcp.evaluation.walk_forward import DEFAULT
from ktrdr_mcp.features.registry import features_of
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.store.research import StoredLook
from ktrdr_mcp.strategy.form import FuzzyInput, Strategy
from ktrdr_mcp.training.dataset import Dataset, Integers, View, view_of
from ktrdr_mcp.training.prepare import load_series
from ktrdr_mcp.training.spec import SeriesSpec, TrainingSpec

MIN_ROWS: Final = 50
ON: Final = 0.5  # membership from which a set counts as on
NEAR: Final = 0.99  # correlation from which two features say the same
SAMPLED_ROWS: Final = 20_000  # for correlations
MAX_PAIRS: Final = 10
MAX_COMPARED: Final = 512  # features

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def look_at(bars: Bars, grams: Grams) -> StoredLook:
    """The mark of a look at bars, at least one.

    Args:
        bars: what is shown.
        grams: of the stored bars that they are made of, and of others.
    """
    first, until = int(bars.time[0]), int(bars.time[-1]) + width_ns(bars.timeframe)
    return StoredLook(
        bars.symbol,
        bars.timeframe,
        first,
        until,
        len(bars),
        content_of(bars),
        sketch_of(grams.between(first, until)),
    )


def content_of(bars: Bars) -> str:
    """SHA-256 of times and log returns: the same for a copy under another name or price scale."""
    moves = np.round(np.diff(np.log(bars.close)), 9) + 0.0  # no negative zero
    digest = hashlib.sha256(bars.time.astype("<i8").tobytes())
    digest.update(moves.astype("<f8").tobytes())
    return digest.hexdigest()


def rows_looked_at(
    looks: Sequence[StoredLook],
    bars: Bars,
    rows: Integers,
    grams: Grams = NO_GRAMS,
    sketch: Sketch | None = None,
) -> int:
    """How many bars somebody looked at before, by content or by symbol and time.

    Args:
        looks: all that are known.
        bars: a series.
        rows: int64[n], indices of its bars.
        grams: of the stored bars that the series is made of.
        sketch: of those that these rows are made of, if they can be told from others.
    """
    seen = np.zeros(len(rows), dtype=np.bool_)
    opened = bars.time[rows]
    for look in looks:
        during = (opened >= look.first) & (opened < look.until)
        if during.any() and (look.symbol == bars.symbol or is_same(look, bars)):
            seen |= during
        if look.sketch is not None and sketch is not None and are_related(look.sketch, sketch):
            closes = opened + width_ns(bars.timeframe)
            seen |= are_sketched(look.sketch, grams, closes)
    return int(seen.sum())


def are_sketched(sketch: Sketch, grams: Grams, closes: Integers) -> Flags:
    """Whether the newest gram before each moment that a sketch might have kept is in it.

    Args:
        sketch: of bars that were looked at; of many bars, it has one gram in some.
        grams: of stored bars, oldest first.
        closes: int64[n], moments in UTC nanoseconds.
    Returns:
        bool[n].
    """
    might = grams.hashes <= bound_at(sketch.halvings)
    times = grams.time[might]
    kept = np.r_[False, np.isin(grams.hashes[might], sketch.hashes)]
    found: Flags = kept[np.searchsorted(times, closes)]
    return found


def is_same(look: StoredLook, bars: Bars) -> bool:
    """Whether bars at the time of a look are those that were looked at, under another name.

    It knows bars that rest, and looks from before there were sketches.
    """
    start, stop = np.searchsorted(bars.time, [look.first, look.until]).tolist()
    same_size = stop - start == look.bars and bars.timeframe == look.timeframe
    return same_size and content_of(bars.slice(start, stop)) == look.fingerprint


def first_rows(rows: int) -> int:
    """How many of some rows lie before every fold of the default walk-forward."""
    return rows - int(rows * DEFAULT.span)


@dataclass(frozen=True)
class SetLook:
    """One input of a network on the rows looked at.

    Args:
        input: the indicator's output.
        low: the smallest value, in units of what is fuzzified; so are median and high.
        on: the share of rows with a membership of at least a half, by set; empty without sets.
    """

    input: str
    low: float
    median: float
    high: float
    on: dict[str, float]


@dataclass(frozen=True)
class DryRun:
    """What a strategy's features and labels look like on the rows looked at.

    Args:
        look: the bars that were looked at.
        last_bar: opening of the last of them, UTC nanoseconds.
        rows: those with features and a label.
        warm_up_bars: lost at the beginning.
        inputs: in the strategy's order.
        constant: features that do not vary.
        alike: pairs of features that say the same, with their correlation.
        class_shares: of the labels.
    """

    look: StoredLook
    last_bar: int
    rows: int
    warm_up_bars: int
    inputs: list[SetLook]
    constant: list[str]
    alike: list[tuple[str, str, float]]
    class_shares: dict[str, float]


def dry_run(
    strategy: Strategy, config: EffectiveConfig, series: SeriesSpec, sources: BarCatalog
) -> DryRun:
    """Computes features and labels on the first rows of a series; nothing is trained.

    Args:
        strategy: checked.
        config: whose labels.
        series: which bars.
        sources: where they come from.
    Raises:
        KtrdrError: the series is not there or does not carry the strategy.
    """
    loaded = load_series(series, TrainingSpec("dry_run", (series,), strategy, config), sources)
    dataset = Dataset(strategy, (loaded.series,))
    usable = dataset.usable
    count = first_rows(len(usable))
    if count < MIN_ROWS:
        raise NotEnoughData(
            f"Only {count} rows lie before the test windows; a look needs {MIN_ROWS}.",
            hint="Use a longer series, a smaller timeframe or shorter periods.",
            field="symbol",
        )
    rows = dataset.timeline.before(usable[:count], usable[count:])
    view = view_of(dataset, rows)
    bars = loaded.series.bars.slice(0, int(usable[count]))
    shares = class_shares(dataset.label[rows])
    return DryRun(
        look=look_at(bars, loaded.grams),
        last_bar=int(bars.time[-1]),
        rows=len(rows),
        warm_up_bars=loaded.series.table.warm_up_bars,
        inputs=[
            input_look(dataset, view, each, rows) for each in view.fits[0].strategy.fuzzy_inputs
        ],
        constant=sorted(view.fits[0].constant),
        alike=alike(view, rows),
        class_shares={
            name: round(float(share), 4) for name, share in zip(CLASSES, shares, strict=True)
        },
    )


def input_look(dataset: Dataset, view: View, each: FuzzyInput, rows: Integers) -> SetLook:
    """Range of one input, and how often each of its sets is on."""
    values = dataset.series[0].table.features[each.indicator_output][rows]
    low, median, high = (float(x) for x in np.quantile(values, (0, 0.5, 1)))
    on: dict[str, float] = {}
    if not isinstance(each.sets, str):
        fitted, features = view.fits[0].scaler, view.features_of(rows)
        for one, name in zip(each.sets, features_of(each), strict=True):
            column = view.feature_names.index(name)
            scaled = features[:, column]
            plain = scaled * fitted.scale[column] + fitted.shift[column]
            on[one.name] = round(float((plain >= ON - 1e-9).mean()), 3)
    return SetLook(each.indicator_output, low, median, high, on)


def alike(view: View, rows: Integers) -> list[tuple[str, str, float]]:
    """The first pairs of features that are nearly the same up to sign and scale."""
    varying = [
        column
        for column, name in enumerate(view.feature_names)
        if name not in view.fits[0].constant
    ][:MAX_COMPARED]
    if len(varying) < 2:
        return []
    step = max(1, len(rows) // SAMPLED_ROWS)
    with np.errstate(all="ignore"):
        found = np.asarray(np.corrcoef(view.features_of(rows[::step])[:, varying], rowvar=False))
    one, other = np.nonzero(np.triu(np.abs(found) >= NEAR, k=1))
    names = [view.feature_names[column] for column in varying]
    pairs = zip(one.tolist(), other.tolist(), strict=True)
    return [(names[i], names[j], round(float(found[i, j]), 3)) for i, j in pairs][:MAX_PAIRS]
