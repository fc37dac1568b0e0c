"""What a caller may choose for labels, and how a wrong choice is answered."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from ktrdr_mcp.errors import InvalidRequest, LimitExceeded
from ktrdr_mcp.labels.registry import LABELERS, complete, horizon_bars, tells_past
from ktrdr_mcp.schemas.config import LabelSettings, TrainingConfig


def test_clients_are_shown_every_method_and_parameter() -> None:
    names = {one.name for labeler in LABELERS.values() for one in labeler.parameters}
    assert set(get_args(LabelSettings.model_fields["method"].annotation)) == set(LABELERS)
    assert set(LabelSettings.model_fields) == {"method", *names}


def test_the_contract_default_is_known() -> None:
    assert complete(TrainingConfig().labels) == {
        "method": "triple_barrier",
        "horizon": 8,
        "width": 0.85,
    }


@pytest.mark.parametrize("method", sorted(LABELERS))
def test_completing_is_idempotent_and_json_able(method: str) -> None:
    once = complete({"method": method})
    assert complete(json.loads(json.dumps(once))) == once
    assert list(once) == ["method", *(one.name for one in LABELERS[method].parameters)]


def test_a_configuration_without_a_method_is_triple_barrier() -> None:
    assert complete({"horizon": 12}) == {"method": "triple_barrier", "horizon": 12, "width": 0.85}


def test_a_whole_number_serves_as_a_float() -> None:
    width = complete({"width": 1})["width"]
    assert (width, type(width)) == (1.0, float)


def refusal(config: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        complete(config)
    assert caught.value.hint
    assert len(caught.value.message) < 250
    return caught.value


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({"method": "triple_barier"}, "config.labels.method", "Did you mean 'triple_barrier'?"),
        ({"method": None}, "config.labels.method", "not known"),
        ({"method": ["zigzag"]}, "config.labels.method", "not known"),
        ({"method": "x" * 100_000}, "config.labels.method", "not known"),
        ({"horizn": 8}, "config.labels.horizn", "Did you mean 'horizon'?"),
        ({"method": "zigzag_segments", "horizon": 8}, "config.labels.horizon", "not a parameter"),
        ({7: 8}, "config.labels.7", "not a parameter"),
        ({"horizon": "8"}, "config.labels.horizon", "a whole number"),
        ({"horizon": 8.0}, "config.labels.horizon", "a whole number"),
        ({"horizon": True}, "config.labels.horizon", "a whole number"),
        ({"horizon": None}, "config.labels.horizon", "a whole number"),
        ({"width": "1"}, "config.labels.width", "a number"),
        ({"width": False}, "config.labels.width", "a number"),
        ({"width": float("nan")}, "config.labels.width", "a number"),
        ({"width": []}, "config.labels.width", "a number"),
        ("triple_barrier", "config.labels", "an object"),
        (None, "config.labels", "an object"),
    ],
)
def test_a_wrong_word_or_type_is_refused_with_its_field(
    config: Any, field: str, words: str
) -> None:
    error = refusal(config)
    assert error.field == field
    assert words in error.message
    assert not isinstance(error, LimitExceeded)


@pytest.mark.parametrize(
    ("config", "accepted"),
    [
        ({"horizon": 1}, True),
        ({"horizon": 10_000}, True),
        ({"horizon": 0}, False),
        ({"horizon": 10_001}, False),
        ({"horizon": 2**63}, False),
        ({"horizon": -1}, False),
        ({"width": 1e-300}, True),
        ({"width": 100.0}, True),
        ({"width": 0}, False),
        ({"width": -0.0}, False),
        ({"width": 100.1}, False),
        ({"width": float("inf")}, False),
        ({"width": 10**400}, False),
        ({"method": "zigzag", "threshold": 0.999}, True),
        ({"method": "zigzag", "threshold": 1.0}, False),
        ({"method": "zigzag_segments", "threshold": 0.0}, False),
        ({"method": "forward_return", "threshold": 1}, False),
    ],
)
def test_each_bound_is_kept(config: dict[str, Any], accepted: bool) -> None:
    if accepted:
        assert complete(config).items() >= config.items()
    else:
        error = refusal(config)
        assert isinstance(error, LimitExceeded)
        assert error.field is not None
        assert error.field.startswith("config.labels.")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 8),
        ({"method": "forward_return", "horizon": 3}, 3),
        ({"method": "zigzag"}, 20),
        ({"method": "zigzag_segments"}, 1),
    ],
)
def test_the_nominal_horizon(config: dict[str, Any], expected: int) -> None:
    assert horizon_bars(config) == expected


def test_only_segments_tell_the_past() -> None:
    assert [method for method in LABELERS if tells_past({"method": method})] == ["zigzag_segments"]
    assert not tells_past({})
