"""Calibration bins, confusion counts and monthly returns against loops and other libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from ktrdr_mcp.evaluation.backtest import monthly_returns
from ktrdr_mcp.evaluation.metrics import LEAST_ROWS, calibrate, evaluate

DAY_NS = 86_400 * 10**9


def drawn(rows: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are true: labels are drawn from them."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([1.0, 1.0, 1.0], rows)
    labels = np.array([generator.choice(3, p=row) for row in probabilities])
    return probabilities, labels


def test_probabilities_that_are_true_come_true_within_their_errors() -> None:
    probabilities, labels = drawn(4_000)
    at = np.arange(4_000)
    bins = calibrate(probabilities, labels, at, at * DAY_NS, 5)
    assert len(bins) == 8
    assert sum(each.rows for each in bins) == 4_000
    assert all(abs(each.observed - each.predicted) < 4 * each.error for each in bins)


def test_a_bin_is_what_a_loop_over_its_rows_counts() -> None:
    probabilities, labels = drawn(400)
    at = np.arange(400)
    bins = calibrate(probabilities, labels, at, at * DAY_NS, 1)
    sure = probabilities.max(axis=1)
    order, start = np.argsort(sure), 0
    for each in bins:
        rows = order[start : start + each.rows]
        start += each.rows
        hits = [float(probabilities[row].argmax() == labels[row]) for row in rows]
        share = sum(hits) / len(hits)
        squares = sum((hit - share) ** 2 for hit in hits)
        assert each.predicted == pytest.approx(sure[rows].mean())
        assert each.observed == pytest.approx(share)
        assert each.error == pytest.approx(squares**0.5 / len(hits))


def test_too_few_rows_make_no_bin() -> None:
    probabilities, labels = drawn(LEAST_ROWS - 1)
    at = np.arange(len(labels))
    assert calibrate(probabilities, labels, at, at * DAY_NS, 1) == []


def test_the_confusion_counts_are_those_of_scikit_learn() -> None:
    probabilities, labels = drawn(300)
    expected = confusion_matrix(labels, probabilities.argmax(axis=1), labels=[0, 1, 2])
    assert evaluate(probabilities, labels).confusion == tuple(map(tuple, expected.tolist()))


def test_monthly_returns_are_those_of_pandas() -> None:
    time = pd.date_range("2024-01-15", periods=400, freq="18h", tz="UTC")
    net = np.random.default_rng(1).normal(0, 0.01, 400)
    equity = np.cumprod(1 + net)
    found = monthly_returns(time.as_unit("ns").asi8, equity)
    expected = pd.Series(1 + net, time).groupby(time.strftime("%Y-%m")).prod() - 1
    assert [each.month for each in found] == list(expected.index)
    assert [each.net_return for each in found] == pytest.approx(list(expected))


def test_no_bars_have_no_months() -> None:
    assert monthly_returns(np.empty(0, dtype=np.int64), np.empty(0)) == []
