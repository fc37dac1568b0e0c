"""Rules that need no network, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.evaluation.blocks import Floats, Integers
from ktrdr_mcp.evaluation.metrics import CLASSES, class_shares, confusion_matrix, ratio
from ktrdr_mcp.schemas.responses import BaselineFigures, Baselines

LOGISTIC_ROWS: Final = 100_000


def load() -> None:
    """Imports scikit-learn, which takes more than a second; before the first job is accepted."""
    import sklearn.linear_model  # noqa: F401


def baselines(
    features: Callable[[Integers], Floats],
    labels: Integers,
    newest: Integers,
    train: Integers,
    test: Integers,
) -> Baselines:
    """All of them on one set of rows.

    Args:
        features: rows to float64[n, f], scaled, finite.
        labels: int64[rows], class numbers; negative where undefined.
        newest: int64[rows], as `newest_known` gives it.
        train: int64[n], the training rows.
        test: int64[m], the rows to be judged on.
    """
    actual = labels[test]
    majority = majority_class(labels[train])
    fitting = rows_to_fit(train)
    linear = logistic_probabilities(features(fitting), labels[fitting], features(test))
    return Baselines(
        majority=of_predictions(actual, np.full(len(test), majority)),
        prior=of_confusion(prior_confusion(actual, labels[train])),
        persistence=of_predictions(actual, persistence(newest[test], majority)),
        logistic=of_predictions(actual, linear.argmax(axis=1)),
    )


def majority_class(labels: Integers) -> int:
    """The most frequent class; of equally frequent ones the first."""
    return int(class_shares(labels).argmax())


def newest_known(labels: Integers, end: Integers) -> Integers:
    """The newest label of a series that is known at each of its bars.

    Args:
        labels: int64[bars], negative where undefined.
        end: int64[bars], the last bar that each bar's label depends on.
    Returns:
        int64[bars], for each bar t the label of the latest bar u with end[u] <= t; -1 where there
        is none.
    """
    newest = np.full(len(labels), -1, dtype=np.int64)
    defined = np.flatnonzero((labels >= 0) & (end < len(labels)))
    np.maximum.at(newest, end[defined], defined)
    known = np.maximum.accumulate(newest)
    result: Integers = np.where(known >= 0, labels[known], -1)
    return result


def persistence(newest: Integers, otherwise: int) -> Integers:
    """int64[m], the newest label known at each row, or a class where there is none."""
    result: Integers = np.where(newest >= 0, newest, otherwise)
    return result


def prior_confusion(actual: Integers, train_labels: Integers) -> Floats:
    """float64[3, 3]: expected counts if classes are drawn with the training rows' shares."""
    counts = np.bincount(actual, minlength=len(CLASSES)).astype(np.float64)
    return np.outer(counts, class_shares(train_labels))


def rows_to_fit(train: Integers) -> Integers:
    """The training rows that a logistic regression learns from: all, or as many evenly spaced ones.

    Beyond LOGISTIC_ROWS its coefficients hardly move, while time and memory grow with the rows.
    """
    if len(train) <= LOGISTIC_ROWS:
        return train
    return train[np.linspace(0, len(train) - 1, LOGISTIC_ROWS).astype(np.int64)]


def logistic_probabilities(
    train_features: Floats, train_labels: Integers, features: Floats
) -> Floats:
    """Class probabilities of a multinomial logistic regression (L2, C = 1).

    Args:
        train_features: float64[n, f], scaled.
        train_labels: int64[n], class numbers, at least two different ones.
        features: float64[m, f], scaled alike.
    Returns:
        float64[m, 3]; 0 for a class that the training rows lack.
    Source:
        scikit-learn, LogisticRegression with the solver lbfgs.
    """
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression  # takes more than a second to import

    result = np.zeros((len(features), len(CLASSES)))
    with config_context(assume_finite=True, skip_parameter_validation=True):  # both are known
        fitted = LogisticRegression(max_iter=1_000).fit(train_features, train_labels)
        if len(features):
            result[:, fitted.classes_] = fitted.predict_proba(features)
    return result


def of_predictions(actual: Integers, predicted: Integers) -> BaselineFigures:
    """Accuracy and macro F1 of predicted classes.

    Args:
        actual: int64[m], class numbers.
        predicted: int64[m], class numbers.
    """
    return of_confusion(confusion_matrix(actual, predicted))


def of_confusion(confusion: NDArray[np.integer] | Floats) -> BaselineFigures:
    """Accuracy and macro F1 from counts [3, 3], whose rows are what happened."""
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diag(counts)
    f1 = ratio(2 * hits, counts.sum(axis=0) + counts.sum(axis=1))
    return BaselineFigures(
        accuracy=float(hits.sum() / max(counts.sum(), 1)), macro_f1=float(f1.mean())
    )
