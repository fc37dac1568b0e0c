"""A dataset of two series: rows by series and time, each series fitted and traded for itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.evaluation.backtest import Leg, backtest, backtest_legs
from ktrdr_mcp.evaluation.walk_forward import chronological
from ktrdr_mcp.features.inputs import Windows
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.results import TradingRule
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.strategy.parsing import parse_strategy
from ktrdr_mcp.training import judgement
from ktrdr_mcp.training.checkpointer import Checkpointer, identity_of
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.dataset import Dataset, series_of, view_of
from ktrdr_mcp.training.learners import Splits, fit, flip_moves, make_learners, stack
from ktrdr_mcp.training.prepare import LoadedSeries, Prepared, data_used
from ktrdr_mcp.training.spec import TrainingSpec

LABELS = {"method": "triple_barrier", "horizon": 8, "width": 0.85}
HOUR_NS = 3_600 * 10**9
LATE = 100  # bars that the second series begins later, and ends later


@pytest.fixture
def strategy(tmp_path) -> Strategy:
    return StrategyCatalog(Workspace(tmp_path)).read("default")


@pytest.fixture
def pair(make_bars, planted_close) -> tuple[Bars, Bars]:
    """Two walks; the second begins and ends 100 bars later and lacks every tenth bar."""
    one = make_bars(planted_close(900, 0.0, seed=5))
    other = make_bars(planted_close(900, 0.0, seed=6) * 50)
    kept = np.arange(900) % 10 != 3
    late = other.time + LATE * int(other.time[1] - other.time[0])
    columns = [column[kept] for column in other.columns()]
    return one, Bars("OTHER", one.timeframe, late[kept], *columns)


@pytest.fixture
def dataset(pair, strategy) -> Dataset:
    return Dataset(strategy, tuple(series_of(bars, 0, strategy, LABELS) for bars in pair))


def prepared_of(dataset: Dataset) -> Prepared:
    split = chronological(dataset.usable, dataset.timeline, 0.2, 0.15)
    view = view_of(dataset, split.train)
    loaded = LoadedSeries(dataset.series[0], "a test", None, [], [])
    return Prepared(dataset, split, view, data_used(dataset, split, loaded), [])


def test_a_row_is_a_bar_of_a_series_at_its_time(dataset, pair) -> None:
    one, other = pair
    rows = np.arange(len(one) + len(other))
    assert dataset.starts.tolist() == [0, len(one), len(rows)]
    assert np.array_equal(
        dataset.timestamps[dataset.at(rows)], np.concatenate([one.time, other.time])
    )
    assert set(dataset.timestamps) == {*one.time, *other.time}
    assert dataset.time(len(one) + 7) == other.timestamp(7)
    second = dataset.series[1]
    row = int(second.usable[50])
    until = dataset.timeline.until[len(one) + row]
    assert dataset.timestamps[until] == other.time[second.end[row]]


def test_rows_come_in_the_order_of_time_whichever_series_they_are_of(dataset) -> None:
    usable = dataset.usable
    assert np.all(np.diff(dataset.at(usable)) >= 0)
    assert len(usable) == sum(len(one.usable) for one in dataset.series)
    assert {*usable} == {*dataset.series[0].usable, *(dataset.series[1].usable + 900)}


def test_each_series_has_the_sets_and_the_scale_of_its_own_training_rows(
    dataset, strategy, pair
) -> None:
    prepared = prepared_of(dataset)
    train = prepared.split.train
    start = 0
    for number, bars in enumerate(pair):
        alone = Dataset(strategy, (series_of(bars, 0, strategy, LABELS),))
        own = train[(train >= start) & (train < start + len(bars))] - start
        expected = view_of(alone, own)
        rows = slice(start, start + len(bars))
        np.testing.assert_array_equal(prepared.view.features[rows], expected.features)
        assert prepared.view.fits[number].strategy == expected.fits[0].strategy
        start += len(bars)
    first, second = prepared.view.fits
    assert not np.array_equal(first.scaler.scale, second.scaler.scale)


def test_a_newest_label_is_never_that_of_another_series(dataset) -> None:
    for start, one in zip(dataset.starts, dataset.series, strict=False):
        for bar in (30, 200, 500):
            known = [u for u in range(len(one.bars)) if one.label[u] >= 0 and one.end[u] <= bar]
            expected = one.label[max(known)] if known else -1
            assert dataset.newest_label[start + bar] == expected


def test_one_series_alone_is_the_dataset_that_it_was(pair, strategy) -> None:
    series = series_of(pair[0], 0, strategy, LABELS)
    alone = Dataset(strategy, (series,))
    assert alone.timestamps is pair[0].time
    assert alone.label is series.label
    assert np.array_equal(alone.usable, series.usable)
    assert np.array_equal(alone.timeline.at, np.arange(len(pair[0])))
    assert alone.timeline.until is series.end


def test_a_window_is_that_of_the_series_that_is_tested_longest(dataset) -> None:
    prepared = prepared_of(dataset)
    begins, ends = judgement.tested_window(dataset, Splits(prepared.split, [], dataset.timeline))
    test = prepared.split.test
    assert begins == dataset.time(int(test[0]))
    last = dataset.timestamps[dataset.timeline.until[test].max()]
    assert dataset.closes_ns(test) == last + HOUR_NS
    assert ends > begins


def test_surrogates_flip_all_series_at_one_time_alike(dataset, pair) -> None:
    config = effective(TrainingConfig(), dataset.strategy)
    signs = np.random.default_rng(2).choice([-1.0, 1.0], len(dataset.timestamps))
    found = flip_moves(dataset, signs, config)
    for bars, one in zip(pair, found.series, strict=True):
        moves, flips = (np.diff(np.log(each.close)) for each in (bars, one.bars))
        expected = signs[np.searchsorted(dataset.timestamps, bars.time)][1:]
        np.testing.assert_allclose(flips, expected * moves, atol=1e-9)


def test_candidates_train_on_the_rows_of_all_series(dataset) -> None:
    prepared = prepared_of(dataset)
    config = effective(TrainingConfig(control=True), dataset.strategy)
    learners = make_learners(prepared, TrainingSpec("one", (), dataset.strategy, config))
    assert [one.role for one in learners] == ["main", *["fold"] * 4, *["twin"] * 4]
    rows = stack(learners, config)
    assert len(rows.features) == len(rows.labels) == 9 * len(dataset.label)
    for candidate, train in zip(learners, rows.train_rows, strict=True):
        assert np.array_equal(rows.labels[train], candidate.dataset.label[candidate.split.train])
        assert np.isfinite(rows.features[train]).all()


def test_each_series_is_traded_for_itself_with_half_of_the_capital(dataset, pair) -> None:
    rows = dataset.usable[-800:]
    signal = np.random.default_rng(3).integers(-1, 2, len(rows))
    rule = TradingRule(horizon=8)
    found = backtest_legs(
        judgement.legs_of(dataset, rows, signal, np.full(len(rows), 8)),
        dataset.timestamps,
        rule,
        1_000.0,
    )
    starts, earned, trades, held, traded = (0, len(pair[0])), {}, 0, 0, 0
    for start, bars in zip(starts, pair, strict=True):
        own = (rows >= start) & (rows < start + len(bars))
        alone = backtest(bars.time, bars.open, rows[own] - start, signal[own], rule, 1_000.0)
        growth = alone.equity / np.r_[1.0, alone.equity[:-1]] - 1
        for bar, gain in zip((rows[own] - start)[: alone.bars], growth, strict=True):
            timestamp = int(bars.time[bar])
            earned[timestamp] = earned.get(timestamp, 0.0) + gain / 2
        trades += alone.trades.trades
        held += np.count_nonzero(alone.position)
        traded += alone.bars
    expected = np.cumprod([1 + earned[timestamp] for timestamp in sorted(earned)])
    np.testing.assert_allclose(found.equity, expected, rtol=1e-12)
    assert (found.bars, found.trades.trades) == (len(earned), trades)
    assert found.exposure == pytest.approx(
        held / len(rows[rows + 2 < dataset.starts[-1]]), rel=0.01
    )


def test_a_leg_without_bars_in_a_place_adds_nothing_there() -> None:
    time = np.arange(6) * HOUR_NS
    opening = np.array([100.0, 100.0, 110.0, 121.0, 121.0, 121.0])
    one = Leg(time, opening, np.array([0, 1]), np.array([1, 1]), np.arange(6))
    other = Leg(time[2:], opening[:4], np.array([0]), np.array([1]), np.arange(2, 6))
    rule = TradingRule(horizon=8, cost_bps=0.0)
    found = backtest_legs([one, other], time, rule, 1_000.0)
    # 10 % on half of the capital at each of the three times
    np.testing.assert_allclose(found.equity, 1.05 ** np.arange(1, 4))


def test_features_and_windows_of_any_rows_are_those_of_all(dataset) -> None:
    view = prepared_of(dataset).view
    rows = np.random.default_rng(0).permutation(dataset.usable)
    np.testing.assert_array_equal(view.features_of(rows), view.features[rows])
    count = len(view.feature_names)
    windows = Windows(np.array([0, 0, 0, 1, count - 1]), np.array([0, 1, 5, 2, 0]))
    found = replace(view, windows=windows).inputs(rows)
    np.testing.assert_array_equal(found, windows.gather(view.features, rows))


WIDE = """
indicators:
  - {name: rsi, type: rsi, params: {period: 5}, window: WINDOW}
  - {name: sma, type: sma, params: {period: 8}, window: WINDOW}
  - {name: hour, type: hour, window: WINDOW}
  - {name: returns, type: returns, window: 3}
fuzzy_sets:
  rsi: {low: {type: gaussian, parameters: [30, 9]}, high: {type: gaussian, parameters: [70, 9]}}
  sma: auto
  hour: cyclic
  returns: crisp
"""


@pytest.mark.parametrize("window", [1, 3, 4])
def test_features_that_each_batch_computes_train_to_the_same_bits(
    pair, tmp_path, monkeypatch, window
) -> None:
    strategy = parse_strategy(WIDE.replace("WINDOW", str(window)), "wide")
    dataset = Dataset(strategy, tuple(series_of(bars, 0, strategy, LABELS) for bars in pair))
    config = effective(TrainingConfig(epochs=2, batch_size=100, dropout_rate=0.1), strategy)
    spec = TrainingSpec("one", (), strategy, config)
    learners = make_learners(prepared_of(dataset), spec)
    found = {}
    for most in (10**9, 0):
        monkeypatch.setattr("ktrdr_mcp.training.estimate.MOST_STORED_BYTES", most)
        rows = stack(learners, config)
        assert isinstance(rows.features, np.ndarray) == (most > 0)
        trained = fit(learners, Checkpointer(tmp_path / str(most), spec, NullContext()))
        weights = [{name: w.numpy().tobytes() for name, w in t.weights.items()} for t in trained]
        found[most] = identity_of(spec, rows), [t.history for t in trained], weights
    assert found[0] == found[10**9]
