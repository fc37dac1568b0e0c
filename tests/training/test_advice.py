"""The suggestion for the next training looks at training and validation only."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from ktrdr_mcp.evaluation.verdict import next_step
from ktrdr_mcp.schemas.responses import Verdict
from ktrdr_mcp.schemas.results import TaskResult
from tests.support.sample_results import fold, merged, task_result


def measured(
    train: float = 0.5, validation: float = 0.48, best_epoch: int = 5, **more: Any
) -> TaskResult:
    training = {
        "final_train_accuracy": train,
        "final_val_accuracy": validation,
        "best_epoch": best_epoch,
    }
    return task_result(training_metrics=training, **more)


LUCK = Verdict(
    prediction="inconclusive", trading="inconclusive", reason="", needs=None, as_of_trial=1, luck=""
)
LOST = {"folds": [fold(), fold("diverged")]}
CASES = [
    (measured(walk_forward=LOST, validation_collapsed=True), 1, "Lower learning_rate"),
    (measured(validation_collapsed=True), 1, "class_weights"),
    (measured(train=0.8), 1, "Raise dropout_rate"),
    (measured(validation=0.39), 1, "another idea"),
    (measured(best_epoch=20), 1, "Raise epochs"),
    (measured(), 1, "seeds to 5"),
    (measured(), 5, "Set sweep"),
]


def config(seeds: int = 1, horizon: int | None = 8, vary: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "epochs": 20,
        "seeds": seeds,
        "labels": {} if horizon is None else {"horizon": horizon},
        "sweep": {"trials": 8, "vary": {name: [1] for name in vary}} if vary else None,
    }


@pytest.mark.parametrize(("result", "seeds", "expected"), CASES)
def test_each_finding_on_the_validation_rows_has_its_suggestion(result, seeds, expected) -> None:
    assert expected in next_step(result, config(seeds), LUCK)


@pytest.mark.parametrize(("result", "seeds", "expected"), CASES)
@pytest.mark.parametrize("test_accuracy", [0.0, 0.2, 0.39, 0.41, 0.6, 1.0])
def test_nothing_about_the_test_rows_changes_the_suggestion(
    result, seeds, expected, test_accuracy
) -> None:
    changes = {
        "test_metrics": {"test_accuracy": test_accuracy, "test_loss": 5 * (1 - test_accuracy)},
        "collapsed": test_accuracy < 0.3,
        "baselines": {"majority": {"accuracy": 1 - test_accuracy}},
        "beats_linear": test_accuracy > 0.5,
        "trading": {"net_total_return": test_accuracy - 0.5},
    }
    other = TaskResult.from_json(merged(result.to_json(), changes))
    assert next_step(other, config(seeds), LUCK) == next_step(result, config(seeds), LUCK)


def advised(settings: dict[str, Any] | None = None, **changes: Any) -> str:
    return next_step(measured(), settings or config(), LUCK.model_copy(update=changes))


def test_later_trials_get_other_suggestions_and_in_the_end_to_stop() -> None:
    found = [advised(as_of_trial=k) for k in range(1, 6)]
    assert len(set(found[:4])) == 4
    assert "Stop" in found[-1]


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("suspect", [[], ["sharpe"]])
@pytest.mark.parametrize("trading", ["survives_costs", "no_timing"])
@pytest.mark.parametrize("prediction", ["skill", "inconclusive", "no_skill"])
def test_no_suggestion_comes_twice_in_a_row(prediction, trading, suspect, holds) -> None:
    changes = {"prediction": prediction, "trading": trading, "suspect": suspect}
    found = [advised(as_of_trial=k, holds_across=holds, **changes) for k in range(1, 40)]
    assert all(one != other for one, other in pairwise(found))


def test_the_last_suggestions_name_the_level_of_the_next_trial() -> None:
    assert "trial 13 on these must reach p 0.0056" in advised(as_of_trial=12)


def test_a_skill_that_costs_eat_or_other_bars_outweigh_is_not_to_be_saved() -> None:
    for k in range(1, 8):
        costly = advised(prediction="skill", trading="loses", as_of_trial=k)
        crowded = advised(prediction="skill", holds_across=False, as_of_trial=k)
        assert "save" not in f"{costly} {crowded}"
    assert "costs" in advised(prediction="skill", trading="no_timing")


@pytest.mark.parametrize(("horizon", "other"), [(4, "in 4 bars may be in 12"), (48, "in 16")])
def test_another_horizon_is_suggested_beside_the_one_that_was_tried(horizon, other) -> None:
    assert other in advised(config(5, horizon), as_of_trial=2)


@pytest.mark.parametrize("settings", [config(5, 8, ("labels.horizon",)), config(5, None, ("x",))])
def test_no_horizon_is_suggested_where_it_was_searched_or_the_labels_have_none(settings) -> None:
    assert all("horizon" not in advised(settings, as_of_trial=k) for k in range(1, 6))


def test_after_skill_come_another_seed_then_other_bars_and_suspect_bars_first() -> None:
    assert "another seed" in advised(prediction="skill")
    assert "other bars" in advised(prediction="skill", as_of_trial=2)
    assert "suspect" in advised(prediction="skill", suspect=["half_spread"])
