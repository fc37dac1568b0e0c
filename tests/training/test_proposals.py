"""A search tries as many different sets of settings as it says, whoever proposes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.requests import StartTraining
from ktrdr_mcp.service.sweeps import space_warnings
from ktrdr_mcp.service.training import specify
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training import proposals
from ktrdr_mcp.training.candidates import Settings, candidates_count
from ktrdr_mcp.training.proposals import Proposals, TpeSampler, configuration_of, key_of
from ktrdr_mcp.training.search import own_values
from ktrdr_mcp.training.spec import TrainingSpec

OWN = {"learning_rate": 0.003, "batch_size": 64}
RATES, SIZES = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006], [16, 32, 64, 128, 256, 512]
COUNTED = {"learning_rate": RATES, "batch_size": SIZES}
SAMPLERS = ["qmc", "random", "tpe"]


def skip_without(sampler: str) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")


@pytest.fixture
def accepted(tmp_path) -> Callable[..., TrainingSpec]:
    """The specification of a search that was asked for, as it is stored and read again."""

    def accept(**sweep: Any) -> TrainingSpec:
        config = {**OWN, "sweep": sweep}
        request = parse(StartTraining, {"symbol": "TEST", "timeframe": "1h", "config": config})
        spec = specify(request, StrategyCatalog(Workspace(tmp_path)))
        return TrainingSpec.from_dict(spec.to_dict())

    return accept


def hill(settings: Settings) -> float:
    """The greatest at one point, so that TPE comes back to it."""
    values = {**OWN, **settings}
    return -abs(values["learning_rate"] * 1000 - 4) - abs(values["batch_size"] / 64 - 2)


def try_all(
    spec: TrainingSpec, score: Callable[[Settings], float] = hill
) -> tuple[list[Settings], Proposals]:
    """All that a search tries, each batch told before the next is asked."""
    asked, tried = Proposals(spec, own_values(spec)), []
    batch = asked.first()
    while batch:
        tried += [each.settings for each in batch]
        asked.tell(batch, [score(each.settings) for each in batch])
        batch = asked.following()
    return tried, asked


def count_different(spec: TrainingSpec, tried: list[Settings]) -> int:
    return len({key_of(configuration_of(spec, each)) for each in tried})


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("vary", "trials"),
    [
        (COUNTED, 20),
        (COUNTED, 35),
        (COUNTED, 36),
        ({"batch_size": {"low": 16, "high": 80, "log": True}}, 60),
        ({"batch_size": {"low": 1, "high": 5000}, "learning_rate": RATES}, 40),
        ({"learning_rate": {"low": 0.001, "high": 0.01}, "batch_size": SIZES}, 40),
    ],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_as_many_different_settings_are_tried_as_were_asked(
    accepted, sampler, vary, trials, seed
) -> None:
    skip_without(sampler)
    spec = accepted(vary=vary, trials=trials, sampler=sampler, seed=seed)
    tried, asked = try_all(spec)
    assert len(tried) == count_different(spec, tried) == trials == candidates_count(spec)
    assert try_all(spec)[0] == tried
    assert [*space_warnings(spec)] == []
    if sampler == "tpe":
        states = Counter(each.state.name for each in asked._sampler._study.trials)
        assert "RUNNING" not in states


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("include", [[], [{"batch_size": 1000}], [OWN, {"dropout_rate": 0.4}]])
def test_a_small_space_is_tried_whole_and_the_start_says_how_many_that_are(
    accepted, sampler, include
) -> None:
    skip_without(sampler)
    spec = accepted(vary={"learning_rate": RATES[:3]}, trials=9, sampler=sampler, include=include)
    tried, _ = try_all(spec)
    beside = sum(settings != OWN for settings in include)
    assert len(tried) == count_different(spec, tried) == candidates_count(spec) == 3 + beside
    (warning,) = space_warnings(spec)
    assert warning == (
        f"Only {3 + beside} different sets of settings, with your own and include, can be tried,"
        " not 9."
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_settings_outside_of_a_small_space_do_not_raise_the_number_of_trials(
    accepted, sampler
) -> None:
    skip_without(sampler)
    spec = accepted(
        vary={"learning_rate": RATES[3:]},
        trials=4,
        sampler=sampler,
        include=[{"learning_rate": 0.05}, {"learning_rate": 0.06}],
    )
    tried, _ = try_all(spec)
    assert tried[:3] == [{}, {"learning_rate": 0.05}, {"learning_rate": 0.06}]
    assert len(tried) == count_different(spec, tried) == candidates_count(spec) == 4
    (warning,) = space_warnings(spec)
    assert "Of 6 different sets" in warning


def test_what_another_strategy_leaves_open_is_its_own(accepted) -> None:
    vary = {"strategy": ["default", "mean_reversion"], "dropout_rate": [0.1, 0.2, 0.3]}
    other = {"strategy": "mean_reversion"}
    spec = accepted(vary=vary, trials=12, include=[other])
    tried, asked = try_all(spec, lambda _: 0.0)
    assert len(tried) == count_different(spec, tried) == candidates_count(spec) == 6
    assert asked._complete(other) == {**other, "dropout_rate": 0.3}
    assert [each["dropout_rate"] for each in tried[2:] if each["strategy"] != "default"] == [
        0.1,
        0.2,
    ]


def test_a_point_that_tpe_asks_twice_is_told_once_and_no_trial_stays_open() -> None:
    pytest.importorskip("optuna", reason="the extra [search] is not installed")
    sampler = TpeSampler([proposals.Dimension("batch_size", (16, 32))], 0)
    first, *others = sampler.ask(4)
    for again in [each for each in others if each == first]:
        sampler.tell([again], [None])
    for point in [first, *(each for each in others if each != first)]:
        sampler.tell([point], [1.0])
    states = Counter(each.state.name for each in sampler._study.trials)
    assert states == {"COMPLETE": 4 - others.count(first), "FAIL": others.count(first)}
    assert others.count(first) > 0


EARLIER = {  # places in RATES and SIZES, after the own settings, of trials 34 with seed 3
    "qmc": "50 05 43 12 31 24 45 10 41 54 01 52 03 35 20 30 25 51 04 34 21 14 33 42 13 55 00 40 15"
    " 53 02",
    "random": "10 34 20 02 04 32 54 31 14 50 11 35 42 40 53 41 44 05 25 15 23 13 51 52 45 24 43 30",
    "tpe": "55 32 05 30 34 21 50 54 15 10 51 25 41 40 20 00 33 42 31 02 35 52 12 13 43 04 14 01 23",
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_of_a_version_before_proposes_what_it_did(accepted, sampler) -> None:
    skip_without(sampler)
    if sampler == "tpe":
        optuna = pytest.importorskip("optuna")
        if optuna.__version__ != "5.0.0":
            pytest.skip("what TPE proposes was written down with Optuna 5.0.0")
    stored = accepted(vary=COUNTED, trials=34, sampler=sampler, seed=3).to_dict()
    assert stored.pop("trials") == 34
    spec = TrainingSpec.from_dict(stored)
    assert spec.to_dict() == stored
    tried, _ = try_all(spec)
    places = [
        f"{RATES.index(each['learning_rate'])}{SIZES.index(each['batch_size'])}"
        for each in tried[1:]
    ]
    assert " ".join(places) == EARLIER[sampler]


def test_a_small_search_of_a_version_before_tries_all_that_it_did(accepted) -> None:
    include = [{"learning_rate": 0.05}, {"learning_rate": 0.06}]
    spec = accepted(vary={"learning_rate": RATES[:3]}, trials=3, include=include)
    assert try_all(spec)[0] == [{}, *include]
    earlier, _ = try_all(replace(spec, trials=None))
    assert earlier == [{}, *include, {"learning_rate": 0.001}, {"learning_rate": 0.002}]


@pytest.mark.parametrize("size", [64, 10**30])
def test_the_order_of_a_space_is_its_seeds_and_repeats_no_point_of_a_small_one(size) -> None:
    dimensions = [proposals.Dimension("batch_size", low=1, high=size)]

    def order(seed: int) -> list[Any]:
        return [each["batch_size"] for each in proposals.in_random_order(dimensions, size, seed)]

    assert order(1) == order(1) != order(2)
    assert len(set(order(1))) == min(size, proposals.SMALL)
    assert np.mean(order(1)) == pytest.approx(size / 2, rel=0.05)
