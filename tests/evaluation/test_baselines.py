"""Baselines against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from ktrdr_mcp.evaluation.baselines import (
    LOGISTIC_ROWS,
    baselines,
    logistic_probabilities,
    majority_class,
    newest_known,
    of_predictions,
    persistence,
    rows_to_fit,
)
from ktrdr_mcp.schemas.responses import BaselineFigures

COUNT = 900


def some_rows(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(COUNT, 5))
    pull = features @ generator.normal(size=(5, 3)) + generator.gumbel(size=(COUNT, 3))
    labels = (pull + np.array([0.0, 0.5, -0.3])).argmax(axis=1).astype(np.int64)
    labels[-8:] = -1
    end = np.arange(COUNT) + generator.integers(1, 9, COUNT)
    end[-8:] = -1
    return features, labels, end, np.arange(30, 500), np.arange(510, COUNT - 8)


def test_beyond_a_hundred_thousand_rows_a_regression_fits_evenly_spaced_ones() -> None:
    few = np.arange(7, 7 + LOGISTIC_ROWS, dtype=np.int64)
    assert rows_to_fit(few) is few
    many = np.arange(7, 7 + 3 * LOGISTIC_ROWS + 5, dtype=np.int64)
    fitting = rows_to_fit(many)
    assert (len(fitting), fitting[0], fitting[-1]) == (LOGISTIC_ROWS, many[0], many[-1])
    assert set(np.diff(fitting).tolist()) <= {3, 4}


def macro(actual: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    score = f1_score(actual, predicted, average="macro", labels=[0, 1, 2], zero_division=0)
    return accuracy_score(actual, predicted), score


def figures(baseline: BaselineFigures) -> tuple[float, float]:
    return baseline.accuracy, baseline.macro_f1


@pytest.mark.parametrize("seed", range(3))
def test_every_baseline_equals_scikit_learn_on_the_same_rows(seed: int) -> None:
    features, labels, end, train, test = some_rows(seed)
    found = baselines(features.__getitem__, labels, newest_known(labels, end), train, test)
    constant = DummyClassifier(strategy="most_frequent").fit(features[train], labels[train])
    linear = LogisticRegression(max_iter=1_000).fit(features[train], labels[train])
    for baseline, classifier in ((found.majority, constant), (found.logistic, linear)):
        expected = macro(labels[test], classifier.predict(features[test]))
        assert figures(baseline) == pytest.approx(expected, abs=1e-8)
    repeated = []
    for t in test.tolist():
        known = [u for u in range(COUNT) if labels[u] >= 0 and end[u] <= t]
        repeated.append(labels[max(known)])
    expected = macro(labels[test], np.array(repeated))
    assert figures(found.persistence) == pytest.approx(expected, abs=1e-8)


def test_the_prior_is_what_drawing_at_random_comes_to() -> None:
    features, labels, end, train, test = some_rows(4)
    found = baselines(features.__getitem__, labels, newest_known(labels, end), train, test).prior
    drawn = []
    for seed in range(100):
        dummy = DummyClassifier(strategy="stratified", random_state=seed)
        dummy.fit(features[train], labels[train])
        drawn.append(macro(labels[test], dummy.predict(features[test])))
    assert figures(found) == pytest.approx(tuple(np.mean(drawn, axis=0)), abs=0.008)


def test_persistence_never_uses_a_label_that_is_not_resolved() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    end = np.array([4, 2, 3, 9, 5, 6])
    assert persistence(newest_known(labels, end), otherwise=7).tolist() == [7, 7, 1, 2, 2, 1]


def test_a_class_that_was_never_trained_on_has_no_probability() -> None:
    features = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.where(features[:, 0] > 0, 0, 2)
    found = logistic_probabilities(features, labels, features)
    assert (found[:, 1] == 0).all()
    assert found.sum(axis=1) == pytest.approx(1)
    assert majority_class(np.array([2, 2, 0])) == 2


def test_figures_of_no_rows_are_zero() -> None:
    none = np.empty(0, dtype=np.int64)
    assert figures(of_predictions(none, none)) == (0.0, 0.0)
