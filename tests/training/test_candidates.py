"""What each candidate is given: nothing from its future, and noise for a sign-flip surrogate."""

from __future__ import annotations

import numpy as np
import pytest

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.training.learners import Learner, make_learners
from tests.training.conftest import changed_from


def members(trial, bars: Bars, role: str, **config) -> list[Learner]:
    spec = trial.spec(config)
    return [one for one in make_learners(trial.prepare(bars, config), spec) if one.role == role]


@pytest.mark.parametrize("number", range(4))
def test_what_comes_after_a_folds_training_rows_does_not_change_them(trial, noise, number) -> None:
    fold = members(trial, noise, "fold")[number]
    first_later = int(fold.split.validation[0])
    other = members(trial, changed_from(noise, first_later), "fold")[number]
    rows = fold.split.train
    assert other.split.train.tolist() == rows.tolist()
    assert other.dataset.label[rows].tolist() == fold.dataset.label[rows].tolist()
    assert np.array_equal(other.view.features[rows], fold.view.features[rows])
    assert not np.allclose(
        other.view.features[fold.split.test], fold.view.features[fold.split.test]
    )


def test_a_folds_features_are_scaled_by_its_own_training_rows(trial, noise) -> None:
    for fold in members(trial, noise, "fold"):
        fitted = fold.view.features[fold.split.train]
        assert fitted.mean(axis=0) == pytest.approx(0.0, abs=1e-9)
        assert fitted.std(axis=0) == pytest.approx(1.0, abs=1e-9)


def test_twins_have_the_sizes_of_all_moves_and_none_of_their_directions(trial, noise) -> None:
    twins = members(trial, noise, "twin", control=True)
    moves = np.diff(np.log(noise.close))
    assert len(twins) == 4
    signs = []
    for twin in twins:
        mirrored = np.diff(np.log(twin.dataset.series[0].bars.close))
        assert np.abs(mirrored) == pytest.approx(np.abs(moves), abs=1e-12)
        signs.append(np.sign(mirrored * moves)[moves != 0])
    for one, sign in enumerate(signs):
        assert abs(sign.mean()) < 0.15
        assert all(abs((sign * other).mean()) < 0.15 for other in signs[:one])


def test_a_twins_features_and_labels_are_those_of_its_own_bars(trial, noise) -> None:
    (twin, *_) = members(trial, noise, "twin", control=True)
    prepared = trial.prepare(twin.dataset.series[0].bars, {"walk_forward": None})
    assert twin.dataset.label.tolist() == prepared.dataset.label.tolist()
    assert (twin.dataset.label != trial.prepare(noise).dataset.label).mean() > 0.2
