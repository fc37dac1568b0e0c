"""What is wrong with a search is said at once and all together; a good one is trained and read."""

from __future__ import annotations

from typing import Any

import pytest

from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.requests import StartTraining

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
