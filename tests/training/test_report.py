"""The figures of a performance are those of the test rows."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

SHORT = {"epochs": 3, "hidden_layers": [8], "walk_forward": None}


def test_simple_rules_are_measured_on_the_test_rows_of_the_final_split(trial, noise) -> None:
    told = trial.run(noise, SHORT).metrics.baselines
    prepared = trial.prepare(noise, SHORT)
    (series,) = prepared.dataset.series
    label, end = series.label, series.end
    train, test = prepared.split.train, prepared.split.test
    assert len(set(label[prepared.split.validation])) == 3
    features = prepared.view.features
    linear = LogisticRegression(max_iter=1_000).fit(features[train], label[train])
    known = [max(u for u in range(t) if label[u] >= 0 and end[u] <= t) for t in test.tolist()]
    answers = {
        "majority": np.full(len(test), np.bincount(label[train]).argmax()),
        "persistence": label[known],
        "logistic": linear.predict(features[test]),
    }
    options = {"average": "macro", "labels": [0, 1, 2], "zero_division": 0}
    for name, answer in answers.items():
        assert getattr(told, name).accuracy == accuracy_score(label[test], answer)
        assert abs(getattr(told, name).macro_f1 - f1_score(label[test], answer, **options)) < 1e-12
