"""The real way of a training through the judge, without jobs, files and replies.

The default strategy's features, fitted on each network's own training rows; the main model, the
walk-forward folds and, if wanted, the same for noise twins, all trained in one batch of networks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp import labels as _registers_the_labelers  # noqa: F401
from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.bars import Bars, bars_per_year
from ktrdr_mcp.features import build
from ktrdr_mcp.features.scaling import fit
from ktrdr_mcp.labels.registry import make_labels
from ktrdr_mcp.learn import train
from ktrdr_mcp.learn.inference import probabilities
from ktrdr_mcp.learn.judge.blocks import reach_bars
from ktrdr_mcp.learn.judge.direction import DirectionalTest, directional_test, scored_rows
from ktrdr_mcp.learn.judge.positions import signals_of
from ktrdr_mcp.learn.judge.trading import Backtest, TradingRule, backtest
from ktrdr_mcp.learn.judge.twins import noise_twin
from ktrdr_mcp.learn.judge.walk_forward import stacked_rows, walk_forward
from ktrdr_mcp.learn.nets import NetworkShape
from ktrdr_mcp.learn.split import Split, chronological
from ktrdr_mcp.strategy import Strategy

VALIDATION_SPLIT = 0.2
TEST_SPLIT = 0.15
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Configuration:
    """What a simulated agent may vary. The defaults are the specification's."""

    hidden: tuple[int, ...] = (64, 32, 16)
    epochs: int = 100
    patience: int = 10
    learning_rate: float = 0.001
    batch_size: int = 32
    dropout_rate: float = 0.2
    seed: int = 0
    horizon: int = 8
    width: float = 0.85


@dataclass(frozen=True)
class Series:
    """One series made ready: its features per network, its labels and its folds."""

    bars: Bars
    label: Integers
    reach: int
    main: Split
    folds: list[Split]
    features: list[Floats] = field(repr=False)  # main, then one per fold; scaled


@dataclass(frozen=True)
class Judged:
    """What one training came to, and where its time went."""

    test: DirectionalTest
    traded: Backtest
    twin_p: list[float]
    collapsed: bool
    train_s: float
    judge_s: float


def make_ready(bars: Bars, strategy: Strategy, configuration: Configuration) -> Series:
    """Features, labels and folds of one series."""
    made = make_labels(
        bars,
        {
            "method": "triple_barrier",
            "horizon": configuration.horizon,
            "width": configuration.width,
        },
    )
    table = build.compute_indicators(bars, strategy)
    index = np.arange(table.warm_up_bars, len(bars))
    rows = index[made.label[index] >= 0]
    main = chronological(rows, made.end, VALIDATION_SPLIT, TEST_SPLIT)
    folds = walk_forward(rows, made.end, VALIDATION_SPLIT / (1 - TEST_SPLIT))
    features = [fitted_features(table, strategy, split.train) for split in (main, *folds)]
    reach = reach_bars(configuration.horizon, made.end, main.train)
    return Series(bars, made.label.astype(np.int64), reach, main, folds, features)


def fitted_features(
    table: build.IndicatorTable, strategy: Strategy, train_rows: Integers
) -> Floats:
    """(bars, f): fuzzy sets and scaler from these training rows only; zeros in the warm-up."""
    fitted = build.fit_fuzzy(table, strategy, train_rows)
    _, values = build.feature_matrix(table, fitted)
    scaler = fit(values[train_rows], fitted.features.scaling)
    return np.nan_to_num(scaler.transform(values))


def train_and_judge(
    bars: Bars, strategy: Strategy, configuration: Configuration, twins: int = 0
) -> Judged:
    """Trains the main model, its folds and those of the twins, and judges the folds.

    Args:
        bars: the series.
        strategy: with its features.
        configuration: of the training.
        twins: how many noise twins.
    """
    began = time.perf_counter()
    twin_bars = [noise_twin(bars, configuration.seed, number) for number in range(twins)]
    series = [make_ready(each, strategy, configuration) for each in (bars, *twin_bars)]
    trained_at = time.perf_counter()
    networks, shape = train_all(series, configuration)
    done_at = time.perf_counter()
    results = []
    for each in series:
        mine, networks = networks[: len(each.features)], networks[len(each.features) :]
        results.append(judge(each, mine[1:], shape, configuration))
    (test, traded, collapsed), *others = results
    spent = trained_at - began + time.perf_counter() - done_at
    return Judged(
        test, traded, [twin[0].p for twin in others], collapsed, done_at - trained_at, spent
    )


def train_all(
    series: list[Series], configuration: Configuration
) -> tuple[list[train.TrainedNetwork], NetworkShape]:
    """All networks of all series in one batch: labels differ per network, features are stacked."""
    splits = [split for each in series for split in (each.main, *each.folds)]
    features = [values for each in series for values in each.features]
    bars = len(features[0])
    train_rows, validation_rows = stacked_rows(splits, bars)
    labels = np.concatenate([np.tile(each.label, len(each.features)) for each in series])
    shape = NetworkShape(features[0].shape[1], configuration.hidden, "relu")
    settings = train.TrainerSettings(
        epochs=configuration.epochs,
        batch_size=configuration.batch_size,
        patience=configuration.patience,
    )
    one = train.NetworkSettings(
        seed=configuration.seed,
        learning_rate=configuration.learning_rate,
        dropout_rate=configuration.dropout_rate,
    )
    rows = train.TrainingRows(
        np.concatenate(features).astype(np.float32), labels, train_rows, validation_rows
    )
    return train.train(shape, settings, [one] * len(splits), rows, NullContext()), shape


def judge(
    series: Series,
    fold_networks: list[train.TrainedNetwork],
    shape: NetworkShape,
    configuration: Configuration,
) -> tuple[DirectionalTest, Backtest, bool]:
    """The directional test and the backtest on the pooled predictions of the folds."""
    scored, classes = [], []
    folds = zip(series.folds, series.features[1:], fold_networks, strict=True)
    for fold, features, network in folds:
        tested = probabilities(shape, network.weights, features[fold.test])
        validated = probabilities(shape, network.weights, features[fold.validation])
        scored.append(scored_rows(fold.test, tested, series.label, validated, fold.train))
        classes.append(tested.argmax(axis=1))
    test = directional_test(scored, series.bars.time, series.reach)
    predicted = np.concatenate(classes)
    traded = backtest(
        series.bars.time,
        series.bars.open,
        np.concatenate([fold.test for fold in series.folds]),
        signals_of(predicted),
        TradingRule(configuration.horizon),
        bars_per_year(series.bars),
    )
    return test, traded, len(np.unique(predicted)) == 1
