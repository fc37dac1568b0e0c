"""What other models foresee of a network's folds: the same rows, inputs, labels and test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.evaluation.baselines import logistic_probabilities
from ktrdr_mcp.evaluation.direction import PredictedFold, directional_test, scored_rows
from ktrdr_mcp.evaluation.metrics import CLASSES
from ktrdr_mcp.evaluation.walk_forward import Split
from ktrdr_mcp.training.search import Searched

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TREES: Final = 300
PATIENCE: Final = 20  # trees without a lower loss on the validation rows

# Class probabilities of some rows, by a model that is fitted on a split's training rows.
Rival = Callable[[Floats, Integers, Split, Integers], Floats]


def logistic(features: Floats, label: Integers, split: Split, rows: Integers) -> Floats:
    """A multinomial logistic regression."""
    return logistic_probabilities(features[split.train], label[split.train], features[rows])


def boosted(features: Floats, label: Integers, split: Split, rows: Integers) -> Floats:
    """Boosted trees of LightGBM, as many as the validation rows like best."""
    import lightgbm

    model = lightgbm.LGBMClassifier(
        n_estimators=TREES,
        learning_rate=0.05,
        num_leaves=15,
        min_child_samples=50,
        n_jobs=1,
        random_state=0,
        verbose=-1,
    )
    model.fit(
        features[split.train],
        label[split.train],
        eval_X=features[split.validation],
        eval_y=label[split.validation],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    found = np.zeros((len(rows), len(CLASSES)))
    found[:, model.classes_] = model.predict_proba(features[rows])
    return found


RIVALS: Final[dict[str, Rival]] = {"logistic": logistic, "lightgbm": boosted}


def p_of_rival(searched: Searched, rival: Rival) -> float:
    """The p of the directional test on what a rival says of each fold's test rows."""
    folds, timestamps = [], None
    for learner, _ in searched.select_judged():
        if learner.role != "fold":
            continue
        dataset, split = learner.dataset, learner.split
        features = np.asarray(learner.view.features, dtype=np.float64)
        said = rival(features, dataset.label, split, np.concatenate([split.validation, split.test]))
        known = len(split.validation)
        timestamps = dataset.timestamps
        folds.append(
            scored_rows(
                PredictedFold(
                    at=dataset.at(split.test),
                    probabilities=said[known:],
                    labels=dataset.label[split.test],
                    validation_at=dataset.at(split.validation),
                    validation_probabilities=said[:known],
                    train_at=dataset.at(split.train),
                    train_labels=dataset.label[split.train],
                ),
                searched.horizon,
            )
        )
    if timestamps is None:
        return 1.0
    return directional_test(folds, timestamps, searched.horizon).p
