"""A wrong request is answered by one sentence that an agent can act on."""

from __future__ import annotations

import pytest

from ktrdr_mcp.errors import InvalidRequest, LimitExceeded
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.requests import GetTrainingStatus, StartTraining

SERIES = {"symbol": "AAPL", "timeframe": "1h"}


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({"hidden_layer": [8]}, "config.hidden_layer", "'hidden_layers'"),
        ({"early_stopping": {"patiense": 3}}, "config.early_stopping.patiense", "'patience'"),
        ({"epochs": "7"}, "config.epochs", "a whole number"),
        ({"epochs": True}, "config.epochs", "a whole number"),
        ({"epochs": 0}, "config.epochs", "at least 1"),
        ({"epochs": 10**9}, "config.epochs", "at most 100,000"),
        ({"learning_rate": float("nan")}, "config.learning_rate", "a finite number"),
        ({"learning_rate": 0}, "config.learning_rate", "above 0"),
        ({"learning_rate": 1e7}, "config.learning_rate", "at most 1,000,000"),
        ({"dropout_rate": 1.0}, "config.dropout_rate", "below 1"),
        ({"batch_size": 0}, "config.batch_size", "at least 1"),
        ({"batch_size": 65_537}, "config.batch_size", "at most 65,536"),
        ({"hidden_layers": []}, "config.hidden_layers", "at least 1 items"),
        ({"hidden_layers": [8] * 17}, "config.hidden_layers", "at most 16 items"),
        (
            {"labels": dict.fromkeys("abcdefghi", 1)},
            "config.labels",
            "an object of at most 8 fields",
        ),
        ({"hidden_layers": [0]}, "config.hidden_layers.0", "at least 1"),
        ({"optimizer": "adma"}, "config.optimizer", "Did you mean 'adam'?"),
        ({"early_stopping": 3}, "config.early_stopping", "an object"),
        ({"validation_split": 0.9}, "config.validation_split", "below 0.9"),
        ({"seed": -1}, "config.seed", "at least 0"),
    ],
)
def test_a_bad_configuration_names_its_field_and_what_it_must_be(config, field, words) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(StartTraining, {**SERIES, "config": config})
    assert refused.value.field == field
    assert words in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("raw", [None, 3, "AAPL", [], True])
def test_a_request_that_is_no_object_is_refused(raw) -> None:
    with pytest.raises(InvalidRequest, match="not an object"):
        parse(StartTraining, raw)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="timeframe is missing"):
        parse(StartTraining, {"symbol": "AAPL"})


def test_unknown_keys_are_named_before_other_mistakes() -> None:
    with pytest.raises(InvalidRequest, match="symbl"):
        parse(StartTraining, {"symbl": "AAPL", "timeframe": 7})


def test_a_hostile_key_is_shown_short_and_printable() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(StartTraining, {**SERIES, "\x1b[31m" + "x" * 10_000: 1})
    assert refused.value.message.isprintable()
    assert len(refused.value.message) + len(refused.value.field or "") < 600


def test_the_longest_wait_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        parse(GetTrainingStatus, {"task_id": "a", "wait_s": 51.0})


def test_what_was_set_is_told_from_what_was_left_out() -> None:
    request = parse(StartTraining, {**SERIES, "config": {"early_stopping": {"patience": 5}}})
    assert request.config.model_dump(exclude_unset=True) == {"early_stopping": {"patience": 5}}


def test_the_defaults_are_those_of_the_specification(specification) -> None:
    example = specification["start"].request["config"]
    defaults = TrainingConfig().model_dump()
    assert {name: defaults[name] for name in example} == example
