"""Models in memory, verified, ready to predict."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ktrdr_mcp import limits
from ktrdr_mcp.data.bars import Bars, DayRule, LoadedBars, width_ns
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.series import Reach
from ktrdr_mcp.data.timestamps import DAY_NS, MINUTE_NS, format_timestamp
from ktrdr_mcp.errors import InvalidRequest, NotEnoughData
from ktrdr_mcp.evaluation.backtest import confident_signals, trading_rule
from ktrdr_mcp.evaluation.metrics import CLASSES
from ktrdr_mcp.features.build import feature_names
from ktrdr_mcp.features.registry import check
from ktrdr_mcp.features.timeframes import warm_up_of
from ktrdr_mcp.labels.registry import HOLD, horizon_bars
from ktrdr_mcp.paths import TIMEFRAME_MINUTES, Workspace
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.requests import Predict
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.training import formats
from ktrdr_mcp.training.predictor import Model, Scores, direction_memberships, predict
from ktrdr_mcp.training.seen import VALIDATION


@dataclass(frozen=True)
class Loaded:
    """A model and its row in the registry."""

    row: ModelRow
    model: Model


class ModelCache:
    """The most recently used models; reading one verifies every file of it.

    Args:
        workspace: where models lie.
        capacity: how many stay in memory.
    """

    def __init__(self, workspace: Workspace, capacity: int = limits.MAX_LOADED_MODELS) -> None:
        self._workspace = workspace
        self._capacity = capacity
        self._models: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, row: ModelRow) -> Loaded:
        """Reads a model from its files, whether or not it is in memory.

        Args:
            row: the version to load.
        Raises:
            ModelCorrupted: a file is not what was written.
            ModelNotReproducible: another program wrote it, and it cannot be computed here.
        """
        loaded = Loaded(row, formats.load(self._workspace, row))
        with self._lock:
            self._models[row.model_id] = loaded
            self._models.move_to_end(row.model_id)
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
        return loaded

    def get(self, row: ModelRow) -> Loaded:
        """The model from memory, or else from its files. Raises ModelCorrupted."""
        with self._lock:
            loaded = self._models.get(row.model_id)
            if loaded is not None:
                self._models.move_to_end(row.model_id)
                return loaded
        return self.load(row)


def predict_one(loaded: Loaded, request: Predict, sources: BarCatalog) -> responses.ModelPrediction:
    """Predicts the bar that a request asks for.

    Args:
        loaded: the model.
        request: symbol and timeframe, or else the model's own, and date.
        sources: where bars come from.
    Raises:
        InvalidRequest: the timeframe is not the model's, or the date is before the first bar.
        DataError: too few bars come before that date.
    """
    row = loaded.row
    if request.timeframe not in {None, row.timeframe}:
        raise InvalidRequest(
            f"Model {row.model_name} was trained on {row.timeframe} bars, not on"
            f" {request.timeframe}.",
            hint=f"Predict with timeframe {row.timeframe}.",
            field="timeframe",
        )
    symbol = request.symbol or row.symbol
    needed = max(
        (warm_up_of(each, row.timeframe) for each in check(loaded.model.strategy)), default=0
    )
    reach = Reach(None, request.test_date, needed, newest=True)
    series = sources.load(symbol, row.timeframe, day_rule(loaded, symbol), reach)
    index = bar_at(series.bars, request.test_date)
    scores = scores_at(loaded.model, series.bars, index)
    notes = [*another_day(series.bars, index, request.test_date), *series.notes]
    return reply(loaded, series, index, scores, notes)


NOVEL_NAMED: Final = 5
SHARE_DIGITS: Final = 4


def novelty_of(model: Model, scores: Scores) -> responses.Novelty | None:
    """The features of one bar that lie outside the training rows' 1 to 99 % range."""
    manifest = model.manifest
    if manifest is None or manifest.feature_ranges is None:
        return None
    low, high = np.array(manifest.feature_ranges).T
    outside = (scores.features[0] < low) | (scores.features[0] > high)
    names = np.array(feature_names(model.strategy))[outside].tolist()
    return responses.Novelty(
        share=round(float(outside.mean()), SHARE_DIGITS), features=names[:NOVEL_NAMED]
    )


def day_rule(loaded: Loaded, symbol: str) -> DayRule:
    """In which offset the days of a model's bars begin: on its own symbol, as when it trained."""
    manifest = loaded.model.manifest
    if symbol != loaded.row.symbol or manifest is None:
        return "file"
    return "file" if manifest.spec["series"][0].get("days") == "file" else "utc"


def reply(
    loaded: Loaded, series: LoadedBars, index: int, scores: Scores, of_bars: list[str]
) -> responses.ModelPrediction:
    """One bar's prediction as a reply.

    Args:
        loaded: the model.
        series: the bars and where they come from.
        index: of the bar.
        scores: of this bar alone.
        of_bars: warnings of the series.
    """
    bars, probability = series.bars, scores.probabilities[0].tolist()
    best = int(np.argmax(probability))
    direction = probability[0] - probability[2]
    as_of = format_timestamp(int(bars.time[index]))
    strategy, named = loaded.model.strategy, in_sample(loaded, bars.symbol, as_of)
    known = not named and is_known(loaded.model, series, index)
    threshold = trading_rule(strategy, horizon_bars({})).confidence_threshold
    signal = CLASSES[HOLD - int(confident_signals(scores.probabilities, threshold)[0])]
    return responses.ModelPrediction(
        model_name=loaded.row.model_name,
        symbol=bars.symbol,
        test_date=bars.day(index),
        prediction=responses.Prediction(
            signal=signal,
            most_probable=CLASSES[best],
            confidence=probability[best],
            signal_strength=abs(direction),
            fuzzy_outputs=direction_memberships(strategy, direction),
            probabilities=dict(zip(CLASSES, probability, strict=True)),
        ),
        input_features={name: float(values[0]) for name, values in scores.indicators.items()},
        as_of=as_of,
        in_sample=named or known,
        timeframe=bars.timeframe,
        version=loaded.row.version,
        warnings=[
            *explain_hold(signal, CLASSES[best], probability[best], threshold),
            *warnings(loaded, bars.symbol, as_of),
            *([KNOWN_OTHERWISE] if known else []),
            *of_bars,
        ],
        novelty=novelty_of(loaded.model, scores),
    )


def explain_hold(signal: str, most_probable: str, confidence: float, threshold: float) -> list[str]:
    """A sentence if the strategy's threshold makes a hold of a buy or sell."""
    if signal == most_probable:
        return []
    less = f"less probable ({confidence:.3f}) than the strategy's confidence_threshold"
    return [f"{most_probable} is the most probable class, but {less} ({threshold:g}): a hold."]


def bar_at(bars: Bars, test_date: str | None) -> int:
    """The index of the last bar up to the end of a day.

    Args:
        bars: the series.
        test_date: a day or a moment; the newest bar if it is None.
    Raises:
        NotEnoughData: the series begins later.
    """
    if test_date is None:
        return len(bars) - 1
    timestamp = bars.bound(test_date, "test_date", end_of_day=True)
    index = int(np.searchsorted(bars.time, timestamp, side="right")) - 1
    if index < 0:
        raise NotEnoughData(
            f"The first {bars.symbol} {bars.timeframe} bar is"
            f" {format_timestamp(int(bars.time[0]))}, after {test_date}.",
            hint="Choose a later test_date.",
            field="test_date",
        )
    return index


def scores_at(model: Model, bars: Bars, index: int) -> Scores:
    """What a model says of one bar. Raises DataError."""
    try:
        return predict(model, bars.slice(0, index + 1), np.array([index]))
    except NotEnoughData:  # in words of a training, which a prediction cannot follow
        raise too_early(model, bars, index) from None


def too_early(model: Model, bars: Bars, index: int) -> NotEnoughData:
    """The error for a bar before which the model's indicators have too few.

    Args:
        model: the model.
        bars: the whole series.
        index: of the bar.
    """
    needed = max(warm_up_of(each, bars.timeframe) for each in check(model.strategy))
    series = f"{bars.symbol} {bars.timeframe}"
    what = f"The model's indicators need {needed} bars before the one that is predicted"
    if needed >= len(bars):
        return NotEnoughData(
            f"{what}; {series} has {len(bars)} in all.",
            hint=f"Store at least {needed + 1} bars of {series}, or choose another symbol.",
            field="symbol",
        )
    return NotEnoughData(
        f"{what}; {series} has {index} before {bars.timestamp(index)}.",
        hint=f"Use a later test_date: {bars.day(needed)} is the earliest.",
        field="test_date",
    )


def another_day(bars: Bars, index: int, test_date: str | None) -> list[str]:
    """A sentence if the bar that is predicted does not reach into the wanted day.

    Args:
        bars: the series.
        index: of the bar.
        test_date: the day or moment asked for, if any.
    """
    if test_date is None:
        return []
    opening, shown = int(bars.time[index]), int(bars.local_time()[index])
    wanted = bars.bound(test_date, "test_date", end_of_day=True) + shown - opening
    last = shown + TIMEFRAME_MINUTES[bars.timeframe] * MINUTE_NS - 1
    if wanted // DAY_NS <= last // DAY_NS:
        return []
    if index < len(bars) - 1:
        before = f"the prediction is for the last one before it, {bars.timestamp(index)}"
        return [f"There is no bar on {test_date}; {before}."]
    newest = bars.timestamp(index)
    return [f"{test_date} lies after the newest bar, {newest}: the prediction is for that one."]


def in_sample(loaded: Loaded, symbol: str, as_of: str) -> bool:
    """Whether the weights were fitted or selected on this bar, or on a label that saw it."""
    first, after = loaded.model.seen_from or "", loaded.model.seen_before
    return symbol == loaded.row.symbol and first <= as_of < after


KNOWN_OTHERWISE: Final = "The model has seen this bar, under another name or at another time."
LOOKED_UP: Final = 64  # stored bars before the one that is looked up, which grams reach into


def is_known(model: Model, series: LoadedBars, index: int) -> bool:
    """Whether this bar fitted or selected the weights, by its content.

    Args:
        model: the model; older ones do not say.
        series: where the bar is.
        index: of the bar.
    """
    if model.seen is None:
        return False
    bars = series.bars.slice(index, index + 1)
    stored = series.bars if series.stored is None else series.stored
    closes = int(bars.time[0]) + width_ns(bars.timeframe)
    first = int(np.searchsorted(stored.time, bars.time[0]))
    around = stored.slice(max(0, first - LOOKED_UP), int(np.searchsorted(stored.time, closes)))
    levels = model.seen.levels(replace(series, bars=bars, stored=around))
    return levels is not None and int(levels[-1]) >= VALIDATION


def warnings(loaded: Loaded, symbol: str, as_of: str) -> list[str]:
    """What a reader of a prediction must know."""
    row, program, told = loaded.row, loaded.model.program, []
    if symbol != row.symbol:
        told.append(f"The model was trained on {row.symbol}; nothing was measured on {symbol}.")
    if program and in_sample(loaded, symbol, as_of):
        told.append(
            f"{program} does not keep which bars trained its model, so every bar before it was made"
            " counts as in-sample."
        )
    return told
