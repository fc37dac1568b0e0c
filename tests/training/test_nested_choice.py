"""Each fold takes the candidate that validation rows before its test prefer, and knows no more."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.training import search as searching
from ktrdr_mcp.training.judgement import judge
from ktrdr_mcp.training.search import Searched, search
from ktrdr_mcp.training.search_result import seed_spread
from ktrdr_mcp.training.spec import Alternative
from tests.training.conftest import changed_from

SMALL = {"epochs": 3, "hidden_layers": [8], "batch_size": 64}
SPACE = {"learning_rate": {"low": 1e-4, "high": 0.05, "log": True}, "dropout_rate": [0.0, 0.3]}


@pytest.fixture(scope="module")
def bars(make_bars, planted_close) -> Bars:
    return make_bars(planted_close(2_400, 0.3, seed=7))


def searched(trial, bars: Bars, folder: str = "task", **config) -> Searched:
    spec, settings = trial.spec({**SMALL, **config}), {**SMALL, **config}
    return search(
        replace(spec, choice="nested"),
        trial.prepare(bars, settings),
        trial.root / folder / "bundle",
        NullContext(),
    )


def sweep(trials: int, sampler: str = "qmc", **more) -> dict:
    return {"trials": trials, "vary": SPACE, "sampler": sampler, **more}


def validation_t(searched: Searched, number: int, fold: int) -> tuple[float, int]:
    """T on a fold's validation rows and its blocks, row by row from the weights alone."""
    learner, network = searched.pairs[number, fold]
    rows, label = learner.split.validation, learner.dataset.label
    layers = len(network.weights) // 2
    values = learner.view.features[rows].astype(np.float32).astype(np.float64)
    for layer in range(layers):
        weight = network.weights[f"layers.{layer}.weight"].numpy().astype(np.float64)
        values = values @ weight.T + network.weights[f"layers.{layer}.bias"].numpy()
        values = values if layer == layers - 1 else np.maximum(values, 0)
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    score = shares[:, 0] - shares[:, 2]
    came = 1.0 - label[rows]
    sums: dict[int, list[float]] = {}
    for row, s, d in zip(rows.tolist(), score - score.mean(), came - came.mean(), strict=True):
        sums.setdefault(row // 24, []).append(float(s * d))
    blocks = [sums[key] for key in sorted(sums)]
    if len(blocks) > 1 and 2 * len(blocks[0]) < 24:
        blocks[:2] = [blocks[0] + blocks[1]]
    if len(blocks) > 1 and 2 * len(blocks[-1]) < 24:
        blocks[-2:] = [blocks[-2] + blocks[-1]]
    totals = [math.fsum(block) for block in blocks]
    return math.fsum(totals) / math.sqrt(math.fsum(b * b for b in totals)), len(totals)


def test_the_choice_is_that_of_the_mean_validation_t_until_the_fold(trial, bars) -> None:
    found = searched(trial, bars, sweep=sweep(6))
    numbers = [each.number for each in found.candidates]
    scores = {(n, k): validation_t(found, n, k) for n in numbers for k in range(4)}
    for fold in range(4):
        blocks = sum(scores[1, k][1] for k in range(fold + 1))
        means = {n: math.fsum(scores[n, k][0] for k in range(fold + 1)) for n in numbers}
        expected = max(means, key=lambda n: means[n]) if blocks >= 15 else 1
        choice = found.choices[fold]
        assert choice.candidate + 1 == expected
        assert choice.by_default is (blocks < 15)
    judged = [learner.candidate.number for learner, _ in found.select_judged()[1:]]
    assert judged == [choice.candidate + 1 for choice in found.choices[:-1]]
    assert len(set(numbers)) == 6


def test_under_fifteen_blocks_of_validation_the_own_settings_are_taken(trial, noise) -> None:
    found = searched(trial, noise, sweep=sweep(3))
    assert [(c.candidate, c.by_default) for c in found.choices[:2]] == [(0, True), (0, True)]


@pytest.mark.parametrize(("folds", "fewest"), [({}, 2), ({"walk_forward": None}, 1)])
def test_seeds_say_how_often_validation_preferred_none(trial, noise, folds, fewest) -> None:
    found = searched(trial, noise, seeds=2, epochs=1, **folds)
    undecided = [choice.by_default for choice in found.choices]
    assert seed_spread(found)["by_default"] == sum(undecided) >= fewest


@pytest.mark.parametrize("sampler", ["qmc", "random", "tpe"])
def test_what_comes_after_a_folds_validation_changes_neither_proposals_nor_its_choice(
    trial, bars, sampler
) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")
    config = {"sweep": sweep(18, sampler), "epochs": 1}
    one = searched(trial, bars, "one", **config)
    tested = int(one.splits.folds[1].test[0])
    other = searched(trial, changed_from(bars, tested), "other", **config)
    assert one.choices[:2] == other.choices[:2]
    first = int(one.splits.folds[0].test[0])
    early = searched(trial, changed_from(bars, first), "early", **config)
    assert early.choices[0] == one.choices[0]
    for changed in (other, early):
        assert [c.settings for c in changed.candidates] == [c.settings for c in one.candidates]


def test_tpe_is_told_the_first_folds_validation_and_nothing_else(trial, bars, monkeypatch) -> None:
    pytest.importorskip("optuna", reason="the extra [search] is not installed")
    told: list[float | None] = []
    real = searching.Proposals.tell

    def tell(self, tried, scores) -> None:
        told.extend(scores)
        real(self, tried, scores)

    monkeypatch.setattr(searching.Proposals, "tell", tell)
    found = searched(trial, bars, sweep=sweep(20, "tpe"), epochs=2)
    assert told == pytest.approx([validation_t(found, n, 0)[0] for n in range(1, 21)], abs=1e-4)


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_search_whose_candidates_all_collapse_is_judged_with_any_sampler(
    trial, noise, sampler, monkeypatch
) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")
    real = searching.validation_score
    monkeypatch.setattr(
        searching, "validation_score", lambda *each: replace(real(*each), collapsed=True)
    )
    found = searched(trial, noise, sweep=sweep(3, sampler), epochs=1)
    assert [learner.fold for learner, _ in found.select_judged()] == [-1, 0, 1, 2, 3]


def test_seeds_are_candidates_and_the_first_has_the_weights_of_one_alone(trial, bars) -> None:
    many, alone = searched(trial, bars, "many", seeds=3), searched(trial, bars, "alone")
    assert [each.seed for each in many.candidates] == [0, 1, 2]
    for split in (-1, 0, 3):
        weights = [found.pairs[1, split][1].weights for found in (many, alone)]
        assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert len(many.pairs) == 3 * 5


LEVELS = """
name: levels
indicators: [{name: level, type: talib.SMA, params: {timeperiod: 5}, raw: true}]
fuzzy_sets: {level: auto}
"""


def test_inputs_that_wander_are_those_of_any_strategy_that_a_fold_chose(trial, noise) -> None:
    folder = trial.root / "strategies"
    folder.mkdir()
    (folder / "levels.yaml").write_text(LEVELS, encoding="utf-8")
    config = {**SMALL, "epochs": 1, "sweep": {"trials": 2, "vary": {"strategy": ["levels"]}}}
    spec, other = trial.spec(config), trial.spec(config, strategy="levels")
    found = search(
        replace(
            spec,
            choice="nested",
            alternatives={"levels": Alternative(other.strategy, other.config)},
        ),
        trial.prepare(noise, config),
        trial.root / "task" / "bundle",
        NullContext(),
    )
    kept, folds = found.pairs[1, -1], range(len(found.splits.folds))
    for chosen, wandering in ((1, False), (2, True)):
        pairs = [kept, *(found.pairs[chosen, fold] for fold in folds)]
        names = judge(pairs, found.splits, found.horizon).wandering
        assert bool(names) is wandering
        assert all(name.startswith("level") for name in names)
