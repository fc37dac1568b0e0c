"""A wrong request is answered by one sentence that an agent can act on."""

from __future__ import annotations

import json

import pytest

from ktrdr_mcp.errors import InvalidRequest, LimitExceeded
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.requests import (
    CompareTrainings,
    GetTrainingStatus,
    SaveModel,
    StartTraining,
)

SERIES = {"symbol": "AAPL", "timeframe": "1h"}


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({"hidden_layer": [8]}, "config.hidden_layer", "'hidden_layers'"),
        ({"early_stopping": {"patiense": 3}}, "config.early_stopping.patiense", "'patience'"),
        ({"epochs": "7.5"}, "config.epochs", "a whole number"),
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


@pytest.mark.parametrize("name", ["strategy_name", "the_strategy", "strategie"])
def test_an_unknown_field_with_a_known_name_in_it_is_taken_for_that_one(name) -> None:
    with pytest.raises(InvalidRequest, match="Did you mean 'strategy'"):
        parse(StartTraining, {**SERIES, name: "default"})


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


def settings(**config: object) -> dict[str, object]:
    """The settings that a request says, without those that it leaves out."""
    request = parse(StartTraining, {**SERIES, "config": config})
    return request.config.model_dump(exclude_unset=True)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ({"epochs": "2"}, {"epochs": 2}),
        ({"epochs": 2.0}, {"epochs": 2}),
        ({"learning_rate": "1e-3"}, {"learning_rate": 0.001}),
        ({"hidden_layers": "[8, 4]"}, {"hidden_layers": [8, 4]}),
        ({"hidden_layers": ["8", 4.0]}, {"hidden_layers": [8, 4]}),
        ({"control": "true"}, {"control": True}),
        ({"early_stopping": '{"patience": "5"}'}, {"early_stopping": {"patience": 5}}),
        ({"walk_forward": "null"}, {"walk_forward": None}),
        (
            {"walk_forward": None, "gradient_clip": None},
            {"walk_forward": None, "gradient_clip": None},
        ),
        ({"epochs": None, "optimizer": None, "labels": None}, {}),
        ({"early_stopping": {"patience": None}}, {"early_stopping": {}}),
        (
            {"lr_scheduler": {"type": "step", "gamma": None}},
            {"lr_scheduler": {"type": "step"}},
        ),
        (
            {"labels": '{"method": "triple_barrier", "horizon": "4", "width": null}'},
            {"labels": {"method": "triple_barrier", "horizon": 4}},
        ),
        ({"labels": {"horizon": 4.0}}, {"labels": {"horizon": 4}}),
    ],
)
def test_settings_are_read_as_clients_mean_them(sent, meant) -> None:
    found = settings(**sent)
    assert found == meant
    assert json.dumps(found, sort_keys=True) == json.dumps(meant, sort_keys=True)  # 2 is not 2.0


def test_the_same_words_mean_the_same_request() -> None:
    plain = parse(StartTraining, {**SERIES, "config": {"epochs": 2}})
    for raw in (
        {**SERIES, "config": '{"epochs": 2}'},
        {**SERIES, "timeframe": "1H", "config": {"epochs": "2"}, "strategy": None, "task_id": None},
    ):
        request = parse(StartTraining, raw)
        assert request == plain
        assert request.model_dump(exclude_unset=True) == plain.model_dump(exclude_unset=True)


def test_text_stays_text_where_text_belongs() -> None:
    request = parse(SaveModel, {"task_id": "7", "model_name": "1e3", "description": '{"a": 1}'})
    assert (request.task_id, request.model_name) == ("7", "1e3")
    assert request.description == '{"a": 1}'
    with pytest.raises(InvalidRequest) as refused:
        settings(optimizer='"adam"')
    assert refused.value.field == "config.optimizer"


@pytest.mark.parametrize("text", ["{", "nan", "Infinity", "[" * 5_000, "9" * 5_000, "{'a': 1}"])
def test_what_is_not_json_is_refused_where_it_stands(text) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(StartTraining, {**SERIES, "config": {"learning_rate": text}})
    assert refused.value.field == "config.learning_rate"


def test_all_that_is_wrong_is_said_at_once() -> None:
    raw = {"symbol": "A_B", "timeframe": "2h", "config": {"epochs": 0, "optimzer": "adam"}}
    with pytest.raises(InvalidRequest) as refused:
        parse(StartTraining, raw)
    assert refused.value.field == "config.optimzer"
    for word in ("optimzer", "A_B", "2h", "config.epochs"):
        assert word in refused.value.message


def test_a_setting_outside_config_is_told_where_it_belongs() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(StartTraining, {**SERIES, "epochs": 3})
    assert (refused.value.field, "config" in refused.value.hint) == ("epochs", True)


@pytest.mark.parametrize("value", [False, True, 0, "off"])
def test_what_can_be_off_says_how(value) -> None:
    with pytest.raises(InvalidRequest) as refused:
        settings(early_stopping=value)
    assert "null" in refused.value.hint
    assert '{"patience": 10' in refused.value.hint


@pytest.mark.parametrize("value", [None, True, [None, False], {"a": None}])
def test_values_are_shown_in_the_words_of_json(value) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(CompareTrainings, {"task_ids": [value, value]})
    assert json.dumps(value) in refused.value.message


@pytest.mark.parametrize("where", ["config", None])
def test_eighty_thousand_unknown_keys_cost_little_and_are_not_all_named(where) -> None:
    many = {f"key{number}": number for number in range(80_000)}
    with pytest.raises(InvalidRequest) as refused:
        parse(StartTraining, {**SERIES, **({where: many} if where else many)})
    assert len(refused.value.message) + len(refused.value.hint) < 1_500


def test_what_was_set_is_told_from_what_was_left_out() -> None:
    request = parse(StartTraining, {**SERIES, "config": {"early_stopping": {"patience": 5}}})
    assert request.config.model_dump(exclude_unset=True) == {"early_stopping": {"patience": 5}}


def test_the_defaults_are_those_of_the_specification(specification) -> None:
    example = specification["start"].request["config"]
    defaults = TrainingConfig().model_dump()
    assert {name: defaults[name] for name in example} == example
