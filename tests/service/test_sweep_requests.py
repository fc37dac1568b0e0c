"""What is wrong with a search is said at once and all together; a good one is trained and read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.errors import InvalidRequest, KtrdrError
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.requests import StartTraining
from ktrdr_mcp.service.sweeps import named_candidates, repeat, search_warnings
from ktrdr_mcp.service.training import specify
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.candidates import candidates_of, longest_horizon
from ktrdr_mcp.training.learners import CandidateData, learners_of, splits_of_task
from ktrdr_mcp.training.prepare import prepare
from ktrdr_mcp.training.spec import TrainingSpec

VARY = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def refusal(sweep: dict[str, Any]) -> KtrdrError:
    with pytest.raises(KtrdrError) as found:
        parse(StartTraining, {"symbol": "AAPL", "timeframe": "1h", "config": {"sweep": sweep}})
    return found.value


def test_everything_that_is_wrong_with_a_space_is_said_at_once() -> None:
    vary = {
        "learning_rate": {"low": 0.1, "high": 0.01},
        "weight_decay": {"low": 0, "high": 0.1, "log": True},
        "batch_size": [],
        "lerning_rate": [0.1],
        "walk_forward": [None],
        "strategy": ["default", "Default"],
        "epochs": [10, 0],
    }
    message = refusal({"trials": 10**6, "vary": vary}).message
    for part in (
        "trials",
        "learning_rate is inverted",
        "weight_decay cannot be logarithmic",
        "batch_size is empty",
        "lerning_rate",
        "'learning_rate'",
        "walk_forward cannot vary",
        "strategy names",
        "epochs",
    ):
        assert part in message


@pytest.mark.parametrize(
    "sweep",
    [
        {"vary": {}},
        {"vary": VARY, "trials": 1},
        {"vary": VARY, "sampler": "grid"},
        {"vary": VARY, "include": [{}]},
        {"vary": VARY, "include": [{"seeds": 3}]},
        {"vary": {"early_stopping": [None], "early_stopping.patience": [5, 10]}},
        {"vary": {"learning_rate": "fast"}},
        {"vary": {"learning_rate": {"low": 0.1}}},
        {"vary": {"optimizer": {"low": 1, "high": 2}}},
    ],
)
def test_a_search_that_cannot_be_is_refused(sweep) -> None:
    assert refusal(sweep).field.startswith("config.sweep")


def test_a_space_is_kept_in_one_form_whatever_way_it_was_written() -> None:
    config = parse(
        StartTraining,
        {
            "symbol": "AAPL",
            "timeframe": "1h",
            "config": {
                "sweep": {
                    "vary": {"batch_size": "[16, 32.0]", "labels.horizon": [4, 8]},
                    "include": [{"labels": {"horizon": 16}, "learning_rate": 0.01}],
                }
            },
        },
    ).config
    assert config.sweep is not None
    assert config.sweep.vary == {"batch_size": [16, 32], "labels.horizon": [4, 8]}
    assert config.sweep.include == [{"labels.horizon": 16, "learning_rate": 0.01}]
    again = type(config).model_validate(config.model_dump())
    assert again == config


def test_a_training_without_a_search_is_written_as_it_was() -> None:
    assert (
        "sweep"
        not in parse(StartTraining, {"symbol": "AAPL", "timeframe": "1h"}).config.model_dump()
    )


def specified(folder: Path, config: dict[str, Any], start: str = "2018-01-01") -> TrainingSpec:
    """A search on the daily AAPL bars, as a start makes it."""
    raw = {"symbol": "AAPL", "timeframe": "1d", "start_date": start, "config": config}
    return specify(parse(StartTraining, raw), StrategyCatalog(Workspace(folder)))


METHODS = {"labels.method": ["triple_barrier", "forward_return"]}
FORWARD = {"labels.method": "forward_return"}
FORWARD_3 = {**FORWARD, "labels.horizon": 3}


@pytest.mark.parametrize(
    ("horizon", "sweep", "tried", "longest"),
    [
        (4, {"vary": METHODS}, FORWARD, 8),
        (16, {"vary": METHODS}, FORWARD, 16),
        (2, {"vary": {**METHODS, "labels.horizon": [3, 5]}}, {**FORWARD, "labels.horizon": 5}, 5),
        (2, {"vary": VARY, "include": [FORWARD]}, FORWARD, 8),
        (2, {"vary": VARY, "include": [FORWARD_3]}, FORWARD_3, 3),
        (2, {"vary": {**VARY, "strategy": ["mean_reversion"], **METHODS}}, FORWARD, 8),
    ],
)
def test_no_candidates_labels_reach_beyond_its_rows_whatever_varies(
    tmp_path: Path, horizon: int, sweep: dict[str, Any], tried: dict[str, Any], longest: int
) -> None:
    spec = specified(tmp_path, {"labels": {"horizon": horizon}, "sweep": {"trials": 4, **sweep}})
    assert longest_horizon(spec) == longest
    prepared = prepare(spec, BarCatalog(Workspace(tmp_path)))
    splits = splits_of_task(prepared, spec)
    candidates = candidates_of(spec, [{}, tried])
    learners = learners_of(candidates, splits, CandidateData(prepared, spec))
    assert len(learners) == len(candidates) * len(splits.all)
    for learner in learners:
        time, split = learner.dataset.timeline, learner.split
        assert time.until[split.train].max() < time.at[split.validation[0]]
        assert time.until[split.validation].max() < time.at[split.test[0]]


def test_a_search_of_the_version_before_keeps_its_rows(tmp_path: Path) -> None:
    config = {"labels": {"horizon": 4}, "sweep": {"trials": 4, "vary": METHODS}}
    stored = specified(tmp_path, config).to_dict()
    del stored["horizon"]
    spec = TrainingSpec.from_dict(stored)
    assert longest_horizon(spec) == 4
    assert spec.to_dict() == stored


@pytest.mark.parametrize(
    ("start", "config", "told"),
    [
        ("2025-06-01", {"seeds": 3}, "All 3 folds and the kept network take"),
        ("2022-01-01", {"seeds": 3}, "The first 2 of 4 folds take"),
        ("2022-01-01", {"seeds": 3, "walk_forward": None}, "The kept network takes"),
        ("2014-01-01", {"sweep": {"trials": 4, "vary": VARY}}, "The first of 4 folds takes"),
        ("2005-01-01", {"seeds": 3, "walk_forward": None}, ""),
    ],
)
def test_a_start_says_which_choices_have_too_few_blocks_of_validation(
    tmp_path: Path, start: str, config: dict[str, Any], told: str
) -> None:
    spec = specified(tmp_path, config, start)
    prepared = prepare(spec, BarCatalog(Workspace(tmp_path)))
    (said,) = search_warnings(spec, splits_of_task(prepared, spec)) or [""]
    assert said.startswith(f"{told} the first candidate" if told else told)
    assert bool(said) is bool(told)


BEFORE = {
    "trials": 4,
    "vary": {"learning_rate": [0.001, 0.01], "dropout_rate": [0.1, 0.2, 0.3]},
    "include": [{"learning_rate": 0.01, "dropout_rate": 0.3}],
}
THIRD = {"learning_rate": 0.001, "dropout_rate": 0.1}
FOURTH = {"learning_rate": 0.01, "dropout_rate": 0.1}
TRIED = [{}, *BEFORE["include"], THIRD, FOURTH]
OTHER = {"trials": 4, "vary": {"batch_size": [16, 64, 128, 256, 512]}}
FEW = {"trials": 4, "vary": {"learning_rate": [0.001, 0.01], "dropout_rate": [0.1]}}


@pytest.mark.parametrize(
    ("before", "config", "picked"),
    [
        ({"sweep": BEFORE}, FOURTH, {4}),
        ({"sweep": BEFORE}, {**FOURTH, "seeds": 2}, {4}),
        ({"sweep": BEFORE}, {**FOURTH, "epochs": 7, "early_stopping": None}, {4}),
        ({"sweep": BEFORE}, {**FOURTH, "batch_size": 16}, set()),
        ({"sweep": BEFORE}, {"sweep": BEFORE}, set()),
        ({"sweep": BEFORE}, {"sweep": {**BEFORE, "seed": 5}}, set()),
        ({"sweep": BEFORE}, {"sweep": OTHER}, set()),
        ({"sweep": BEFORE}, {"sweep": {**OTHER, "include": [THIRD]}}, {1, 3}),
        ({"sweep": BEFORE}, {"sweep": {**OTHER, "include": BEFORE["include"]}}, set()),
        ({"sweep": BEFORE}, {**FOURTH, "sweep": OTHER}, {4}),
        ({"sweep": BEFORE}, {"sweep": FEW}, {1, 3, 4}),
        ({"sweep": BEFORE, "seeds": 2}, {"seeds": 2, "sweep": OTHER}, set()),
        ({"seed": 1, "seeds": 3}, {"seed": 2}, {2}),
        ({"seed": 1, "seeds": 3}, {"seed": 2, "test_split": 0.2}, {2}),
        ({"seed": 1, "seeds": 3}, {"seed": 2, "seeds": 2}, {2, 3}),
        ({"seed": 1, "seeds": 3}, {"seed": 0, "seeds": 2}, {1}),
        ({"seed": 1, "seeds": 3}, {"seed": 1, "seeds": 5}, set()),
        ({"seed": 1, "seeds": 3}, {"seed": 1, "sweep": OTHER}, set()),
        ({"seed": 1, "seeds": 3}, {"seed": 2, "sweep": OTHER}, {2}),
    ],
)
def test_who_starts_some_candidates_again_has_picked_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before, config, picked
) -> None:
    earlier, own = specified(tmp_path, before), specified(tmp_path, config)
    tried = TRIED if "sweep" in before else [{}]
    results = [SimpleNamespace(settings=each) for each in tried]
    monkeypatch.setattr(bundle, "read_manifest", lambda folder: SimpleNamespace(candidates=results))
    figures = SimpleNamespace(sweep=SimpleNamespace(trials=4) if "sweep" in before else None)
    row = SimpleNamespace(spec=earlier.to_dict(), task_id="before", result=figures)
    found = repeat(Workspace(tmp_path), row, own, named_candidates(own))
    assert set(found.numbers if found else ()) == picked
    assert found is None or found.of == len(tried) * earlier.config.seeds


def test_labels_that_tell_the_past_are_refused_among_included_settings_too(tmp_path: Path) -> None:
    sweep = {"vary": VARY, "include": [{"labels.method": "zigzag_segments"}]}
    with pytest.raises(InvalidRequest, match="zigzag_segments"):
        specified(tmp_path, {"sweep": sweep})
