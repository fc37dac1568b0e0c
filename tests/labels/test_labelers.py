"""Each labeler against a plain loop over the bars, and against the promise of its ends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.labels.labelers import first_at_or_above
from ktrdr_mcp.labels.registry import LABELERS, UNDEFINED, Labels, make_labels
from ktrdr_mcp.paths import Workspace
from tests.support.labeler_checks import check_labeler

BUY, HOLD, SELL = 0, 1, 2
Row = tuple[int, int]
NOT_DEFINED = (-1, -1)


def random_bars(count: int, seed: int, volatility: float = 0.01, grid: int = 0) -> Bars:
    """A random walk; with a grid, prices are rounded so that ties occur."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, volatility, count)))
    close = np.maximum(np.round(close, 0), 1.0) if grid else close
    opened = np.r_[close[:1], close[:-1]] * (1 if grid else np.exp(random.normal(0, 0.002, count)))
    reach = np.zeros(count) if grid else np.abs(random.normal(0, volatility / 2, count))
    high, low = np.maximum(opened, close) * (1 + reach), np.minimum(opened, close) * (1 - reach)
    time = np.arange(count, dtype=np.int64) * 3_600 * 10**9
    return Bars("TEST", "1h", time, opened, high, low, close, np.zeros(count))


def rows(labels: Labels) -> list[Row]:
    return list(zip(labels.label.tolist(), labels.end.tolist(), strict=True))


def sigma_at(close: list[float], t: int) -> float:
    decay = 1 - 2 / (50 + 1)
    total = weights = 0.0
    for past in range(1, t + 1):
        weight = decay ** (t - past)
        total += weight * math.log(close[past] / close[past - 1]) ** 2
        weights += weight
    return math.sqrt(total / weights)


def triple_barrier(bars: Bars, horizon: int, width: float) -> list[Row]:
    result = [NOT_DEFINED] * len(bars)
    close = bars.close.tolist()
    for t in range(1, len(bars) - horizon):
        distance = math.exp(width * sigma_at(close, t) * math.sqrt(horizon))
        upper, lower = bars.open[t + 1] * distance, bars.open[t + 1] / distance
        result[t] = (HOLD, t + horizon)
        for later in range(t + 1, t + horizon + 1):
            up, down = bars.high[later] >= upper, bars.low[later] <= lower
            if up or down:
                result[t] = (HOLD if up and down else BUY if up else SELL, later)
                break
    return result


def forward_return(bars: Bars, horizon: int, threshold: float) -> list[Row]:
    result = [NOT_DEFINED] * len(bars)
    for t in range(len(bars) - horizon):
        earned = math.log(bars.close[t + horizon]) - math.log(bars.open[t + 1])
        label = BUY if earned > threshold else SELL if earned < -threshold else HOLD
        result[t] = (label, t + horizon)
    return result


def zigzag(bars: Bars, threshold: float, horizon: int) -> list[Row]:
    result = [NOT_DEFINED] * len(bars)
    for t in range(len(bars) - horizon):
        result[t] = (HOLD, t + horizon)
        for later in range(t + 1, t + horizon + 1):
            if bars.close[later] >= bars.close[t] * (1 + threshold):
                result[t] = (BUY, later)
                break
            if bars.close[later] <= bars.close[t] * (1 - threshold):
                result[t] = (SELL, later)
                break
    return result


def zigzag_segments(bars: Bars, threshold: float) -> list[Row]:
    """Grows the data bar by bar: what is an extreme is asked afresh after each new bar."""
    result = [NOT_DEFINED] * len(bars)
    result[0] = (HOLD, 0)
    close = bars.close
    last, going = 0, 0
    for t in range(1, len(bars)):
        if going == 0:
            # by products, as the turns are: a quotient rounds otherwise at the threshold itself
            risen = close[t] >= close[0] * (1 + threshold)
            going = 1 if risen else -1 if close[t] <= close[0] * (1 - threshold) else 0
            continue
        leg = close[last + 1 : t + 1] * going
        peak = last + 1 + int(np.argmax(leg))
        if close[t] * going <= close[peak] * (going - threshold) and t > peak:
            for row in range(last + 1, peak):
                result[row] = (BUY if close[peak] > close[last] else SELL, t)
            result[peak] = (HOLD, t)
            last, going = peak, -going
    return result


REFERENCES = {
    "triple_barrier": triple_barrier,
    "forward_return": forward_return,
    "zigzag": zigzag,
    "zigzag_segments": zigzag_segments,
}


# what the parameters are drawn from, by name
PARAMETERS: dict[str, st.SearchStrategy[int] | st.SearchStrategy[float]] = {
    "horizon": st.integers(1, 40),
    "width": st.floats(0.05, 3),
    "threshold": st.floats(0.001, 0.2),
}


@pytest.mark.parametrize("method", LABELERS)
def test_labels_equal_those_of_a_plain_loop(method: str) -> None:
    reference = REFERENCES[method]
    drawn = {one.name: PARAMETERS[one.name] for one in LABELERS[method].parameters}
    usual = {one.name: one.default for one in LABELERS[method].parameters}
    if "threshold" in usual:  # one at which a quotient rounds otherwise than a product
        usual["threshold"] = 0.19999999999999998

    @example(34, 702354437, 0.03, True, usual)
    @settings(max_examples=100, deadline=None)
    @given(
        st.integers(1, 150),
        st.integers(0, 2**32 - 1),
        st.sampled_from([0.0, 0.001, 0.01, 0.03]),
        st.booleans(),
        st.fixed_dictionaries(drawn),
    )
    def compare(
        count: int, seed: int, volatility: float, grid: bool, parameters: dict[str, Any]
    ) -> None:
        bars = random_bars(count, seed, volatility, int(grid))
        config = {"method": method, **parameters}
        assert rows(make_labels(bars, config)) == reference(bars, **parameters)

    compare()


@pytest.mark.parametrize("method", sorted(LABELERS))
@pytest.mark.parametrize("seed", range(5))
def test_no_label_depends_on_a_bar_after_its_end(method: str, seed: int) -> None:
    check_labeler(random_bars(300, seed, 0.02), {"method": method}, seed)
    check_labeler(random_bars(300, seed, 0.02, grid=1), {"method": method}, seed)


@pytest.mark.parametrize("method", sorted(LABELERS))
def test_no_label_of_the_samples_depends_on_a_bar_after_its_end(
    method: str, tmp_path: Path
) -> None:
    sources = BarCatalog(Workspace(tmp_path))
    for timeframe in ("1h", "1d"):
        check_labeler(sources.load("AAPL", timeframe).bars, {"method": method})


def test_the_check_finds_a_labeler_that_looks_too_far(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LABELERS["forward_return"]

    def boasting(bars: Bars, **parameters: Any) -> Labels:
        labels = honest.make(bars, **parameters)
        end = np.where(labels.label == UNDEFINED, -1, labels.end - 1)
        return Labels(labels.label, end)

    monkeypatch.setitem(
        LABELERS, "forward_return", type(honest)("forward_return", honest.parameters, boasting)
    )
    with pytest.raises(AssertionError, match="looks beyond its end"):
        check_labeler(random_bars(300, 0), {"method": "forward_return", "horizon": 2})


@pytest.mark.parametrize("method", sorted(LABELERS))
@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 21])
def test_few_bars_give_few_labels_and_no_error(method: str, count: int) -> None:
    labels = make_labels(random_bars(count, 0), {"method": method})
    assert labels.label.shape == labels.end.shape == (count,)


@pytest.mark.parametrize("method", sorted(LABELERS))
def test_constant_prices_are_hold(method: str) -> None:
    flat = np.full(60, 5.0)
    bars = Bars("FLAT", "1h", np.arange(60), flat, flat, flat, flat, np.zeros(60))
    labels = make_labels(bars, {"method": method})
    assert set(labels.label.tolist()) == {HOLD, UNDEFINED}


@pytest.mark.parametrize("method", sorted(LABELERS))
def test_extreme_prices_and_parameters_make_no_warning(method: str) -> None:
    prices = np.where(np.arange(80) % 2 == 0, 1e-300, 1e300)
    bars = Bars("WILD", "1h", np.arange(80), prices, prices, prices, prices, np.zeros(80))
    for parameter in LABELERS[method].parameters:
        for value in (parameter.minimum, parameter.maximum):
            config = {"method": method, parameter.name: type(parameter.default)(value)}
            if parameter.contains(value):
                make_labels(bars, config)


def test_the_last_rows_stay_undefined_even_if_a_barrier_was_touched() -> None:
    labels = make_labels(random_bars(200, 1), {"method": "triple_barrier", "width": 0.01})
    assert labels.label[-8:].tolist() == [UNDEFINED] * 8
    assert UNDEFINED not in labels.label[1:-8]


def test_the_default_classes_are_balanced_on_real_bars(tmp_path: Path) -> None:
    bars = BarCatalog(Workspace(tmp_path)).load("AAPL", "1h").bars
    labels = make_labels(bars, {"method": "triple_barrier"})
    shares = np.bincount(labels.label[labels.label != UNDEFINED]) / len(bars)
    assert shares.min() > 0.25


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.integers(1, 70))
def test_first_touch_finds_the_first(values: list[int], horizon: int) -> None:
    series = np.array(values, dtype=np.float64)
    count = max(len(series) - horizon, 0)
    level = np.roll(series, 3)[:count]
    expected = [
        next((d for d in range(1, horizon + 1) if series[t + d] >= level[t]), horizon + 1)
        for t in range(count)
    ]
    assert first_at_or_above(series, level, horizon).tolist() == expected
