"""The suggestion for the next training looks at training and validation only."""

from __future__ import annotations

from typing import Any

import pytest

from ktrdr_mcp.evaluation.verdict import next_step


def figures(
    train: float = 0.5, validation: float = 0.48, best_epoch: int = 5, **more: Any
) -> dict[str, Any]:
    return {
        "training_metrics": {
            "final_train_accuracy": train,
            "final_val_accuracy": validation,
            "best_epoch": best_epoch,
        },
        "test_metrics": {"test_accuracy": 0.5, "test_loss": 1.0},
        "validation_collapsed": False,
        "validation_majority": 0.40,
        "collapsed": False,
        "walk_forward": {"folds": [{"test_rows": 100}]},
        **more,
    }


CONFIG = {"epochs": 20, "seeds": 1}
LOST = {"folds": [{"test_rows": 100}, {"lost": "diverged"}]}
CASES = [
    (figures(walk_forward=LOST, validation_collapsed=True), CONFIG, "Lower learning_rate"),
    (figures(validation_collapsed=True), CONFIG, "class_weights"),
    (figures(train=0.8), CONFIG, "Raise dropout_rate"),
    (figures(validation=0.39), CONFIG, "another idea"),
    (figures(best_epoch=20), CONFIG, "Raise epochs"),
    (figures(), CONFIG, "seeds to 5"),
    (figures(), {**CONFIG, "seeds": 5}, "compare_trainings"),
]


@pytest.mark.parametrize(("metrics", "config", "expected"), CASES)
def test_each_finding_on_the_validation_rows_has_its_suggestion(metrics, config, expected) -> None:
    assert expected in next_step(metrics, config)


@pytest.mark.parametrize(("metrics", "config", "expected"), CASES)
@pytest.mark.parametrize("test_accuracy", [0.0, 0.2, 0.39, 0.41, 0.6, 1.0])
def test_nothing_about_the_test_rows_changes_the_suggestion(
    metrics, config, expected, test_accuracy
) -> None:
    other = {
        **metrics,
        "test_metrics": {"test_accuracy": test_accuracy, "test_loss": 5 * (1 - test_accuracy)},
        "collapsed": test_accuracy < 0.3,
        "baselines": {"majority": {"accuracy": 1 - test_accuracy}},
        "beats_linear": test_accuracy > 0.5,
        "trading": {"net_total_return": test_accuracy - 0.5},
    }
    assert next_step(other, config) == next_step(metrics, config)
