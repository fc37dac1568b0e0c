"""Networks that say nothing are counted, named, and cost the verdict its `skill`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.honesty.series import garch_series, planted_series
from ktrdr_mcp.errors import DataInvalid
from ktrdr_mcp.evaluation.multiple_testing import EarlierTrials
from ktrdr_mcp.evaluation.verdict import caveats_of, verdict
from ktrdr_mcp.schemas.responses import Verdict
from ktrdr_mcp.schemas.results import FailedFolds, RunResult
from ktrdr_mcp.training import learners, search
from ktrdr_mcp.training.judgement import judge
from tests.support.sample_results import merged
from tests.support.trained_candidates import trained_candidates

WILD = {
    "epochs": 2,
    "optimizer": "sgd",
    "momentum": 0.9,
    "learning_rate": 200.0,
    "hidden_layers": [32, 16],
    "dropout_rate": 0.0,
}
SOUND = {"epochs": 4, "hidden_layers": [8], "learning_rate": 0.01}


def judged(result: RunResult) -> Verdict:
    """The verdict on a training that is alone in its family."""
    return verdict(result.scores, EarlierTrials(), result.metrics, {"method": "triple_barrier"})


def test_folds_that_diverge_are_counted_named_and_said(trial) -> None:
    bars = garch_series(1_500, 0)
    trained = trained_candidates(trial, bars, WILD)
    fates = [network.diverged for _, network in trained.of_role("fold")]
    lost = sum(fate is not None for fate in fates)
    assert 0 < lost < 4, "the learning rate no longer makes only some of the folds diverge"
    result = trial.run(bars, WILD)
    walked = result.metrics.walk_forward
    assert (walked.planned, walked.used) == (4, 4 - lost)
    assert [fold.lost for fold in walked.folds] == [
        None if fate is None else "diverged" for fate in fates
    ]
    assert [fold.test[0] for fold in walked.folds] == [
        bars.timestamp(int(member.split.test[0])) for member, _ in trained.of_role("fold")
    ]
    found = judged(result)
    assert f"{lost} of 4 folds diverged" in found.reason
    assert found.prediction != "skill"


@pytest.fixture
def planted():
    return planted_series(4_000, 1, 0.6, 24.0)


def diverged_after(monkeypatch, numbers: set[int]) -> None:
    """Makes some networks of the next training come back as diverged."""
    real = search.fit

    def fit(*arguments):
        networks = real(*arguments)
        return [
            replace(network, diverged="The loss stopped being finite.") if n in numbers else network
            for n, network in enumerate(networks)
        ]

    monkeypatch.setattr(search, "fit", fit)


def test_without_a_loss_the_planted_signal_is_skill(trial, planted) -> None:
    found = judged(trial.run(planted, SOUND))
    assert found.prediction == "skill"
    assert "folds" not in found.reason


@pytest.mark.parametrize("numbers", [{2}, {1, 2, 3, 4}])
def test_a_lost_fold_forbids_skill_however_clear_the_rest_is(
    trial, planted, monkeypatch, numbers
) -> None:
    diverged_after(monkeypatch, numbers)
    result = trial.run(planted, SOUND)
    found = judged(result)
    assert result.scores.direction.p <= 0.02
    assert found.prediction == "inconclusive"
    assert f"{len(numbers)} of 4 folds diverged" in found.reason
    assert "learning_rate" in found.needs
    walked = result.metrics.walk_forward
    assert (walked.planned, walked.used) == (4, 4 - len(numbers))


def test_a_fold_without_usable_data_is_lost_too(trial, planted, monkeypatch) -> None:
    real, seen = learners.view_of, []

    def view_of(dataset, train_rows):
        seen.append(train_rows)
        if len(seen) == 1:
            raise DataInvalid("An indicator does not vary.", hint="", field="strategy")
        return real(dataset, train_rows)

    monkeypatch.setattr(learners, "view_of", view_of)
    result = trial.run(planted, SOUND)
    walked = result.metrics.walk_forward
    assert [fold.lost for fold in walked.folds] == ["no usable data", None, None, None]
    assert "1 of 4 folds had no usable data" in judged(result).reason


def test_twins_that_diverge_are_said_where_no_leak_can_be_shown(
    trial, planted, monkeypatch
) -> None:
    config = {**SOUND, "epochs": 2, "walk_forward": None, "control": True}
    diverged_after(monkeypatch, {1, 2})
    result = trial.run(planted, config)
    assert len(result.scores.twins) == 2
    assert result.scores.lost.twins == FailedFolds(planned=4, diverged=2, unusable=0)
    told = caveats_of(result.scores, result.metrics, {"method": "triple_barrier"})
    assert "2 of 4 twins diverged" in told.conditions()


def test_folds_that_the_rows_are_too_few_for_are_not_lost_but_never_planned(trial, noise) -> None:
    config = {**SOUND, "epochs": 1, "walk_forward": {"folds": 20, "span": 0.89}}
    judgement = trained_candidates(trial, noise, config).judgement
    folds = judgement.walk_forward.folds
    assert judgement.failed.folds == FailedFolds(planned=len(folds))
    assert len(folds) < 20


def test_a_kept_model_that_is_constant_beside_living_folds_is_not_skill(trial, planted) -> None:
    result = trial.run(planted, SOUND)
    assert result.scores.model_constant is False
    changes = {"metrics": {"collapsed": True}, "scores": {"model_constant": True}}
    found = judged(RunResult.from_json(merged(result.to_json(), changes)))
    assert found.prediction == "inconclusive"
    assert "the kept model says the same of every row" in found.reason


def test_a_constant_kept_model_is_recognised_by_its_scores(trial, noise) -> None:
    trained = trained_candidates(trial, noise, {**SOUND, "epochs": 1})
    assert not trained.judgement.model_constant
    dead = {name: tensor * 0 for name, tensor in trained.networks[0].weights.items()}
    networks = [replace(trained.networks[0], weights=dead), *trained.networks[1:]]
    pairs = list(zip(trained.members, networks, strict=True))
    found = judge(pairs, trained.searched.splits, trained.searched.horizon)
    assert found.model_constant
    assert not found.direction.constant
    assert found.direction.statistic == trained.judgement.direction.statistic


def test_a_result_from_before_losses_were_stored_is_judged_by_the_rest(trial, planted) -> None:
    result = trial.run(planted, SOUND)
    old = result.to_json()
    for name in ("lost", "model_constant"):
        del old["scores"][name]
    assert judged(RunResult.from_json(old)) == judged(result)
