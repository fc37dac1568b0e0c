"""Schemas made flat without losing what they say."""

from __future__ import annotations

from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from ktrdr_mcp.api.schema import input_schema, output_schema
from ktrdr_mcp.schemas import requests


class Inner(BaseModel):
    """A description for programmers."""

    title: int = Field(3, ge=1)
    default: Literal["a", "b"] | None = None


class Deep(BaseModel):
    """Holds settings that null switches off, whose own settings it does not."""

    inner: Inner | None = Inner()


class Outer(BaseModel):
    """Uses names that are keywords of JSON schema too."""

    success: Literal[True] = True
    properties: Inner
    optional: Inner | None = Field(None, description="may be left out")
    description: str = ""
    limit: int | None = Field(None, le=9)
    fewer: int | None = None
    rows: list[Inner] = []
    error: str | None = None
    deep: Deep = Deep()


def test_references_titles_and_what_means_the_same_as_leaving_out_are_gone() -> None:
    inner = {
        "type": "object",
        "properties": {
            "title": {"default": 3, "minimum": 1, "type": "integer"},
            "default": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}], "default": None},
        },
    }
    schema = input_schema(Outer)
    assert schema["properties"]["properties"] == inner
    assert schema["properties"]["optional"]["description"] == "may be left out"
    assert schema["properties"]["optional"]["properties"] == inner["properties"]
    deep = schema["properties"]["deep"]["properties"]["inner"]["anyOf"]
    assert deep[0]["properties"]["default"] == {"enum": ["a", "b"]}
    assert deep[1] == {"type": "null"}
    assert schema["properties"]["description"] == {"default": "", "type": "string"}
    assert schema["properties"]["limit"] == {"maximum": 9, "type": "integer"}
    assert schema["required"] == ["properties"]
    assert "description" not in schema


def test_an_output_schema_has_types_and_what_errors_and_replies_both_have_is_required() -> None:
    schema = output_schema(Outer)
    assert schema["required"] == ["success"]
    properties = schema["properties"]
    assert "success" not in properties  # true, or false in an error
    assert "fewer" not in properties
    assert properties["description"] == {"type": "string"}
    assert properties["rows"] == {"type": "array"}
    assert "optional" not in properties  # what may be null is left out
    assert properties["error"]["anyOf"] == [
        {"type": "string"},
        {"type": "null"},
        {"type": "object"},
    ]
    assert properties["properties"] == {"type": "object"}


@pytest.mark.parametrize(
    ("config", "valid"),
    [
        ({}, True),
        ({"hidden_layers": [64, 32], "dropout_rate": 0}, True),
        ({"labels": {"method": "triple_barrier", "horizon": 8, "width": 0.85}}, True),
        ({"lr_scheduler": {"type": "step", "gamma": 0.5}}, True),
        ({"early_stopping": None, "walk_forward": None, "gradient_clip": None}, True),
        ({"epochs": None}, False),
        ({"epochs": 0}, False),
        ({"dropout_rate": 1}, False),
        ({"hidden_layers": []}, False),
        ({"optimizer": "lion"}, False),
        ({"early_stopping": {"patiense": 3}}, False),
        ({"lr_scheduler": {"gamma": 0}}, False),
    ],
)
def test_the_flat_schema_judges_as_the_model_does(config: dict[str, Any], valid: bool) -> None:
    request = {"symbol": "AAPL", "timeframe": "1h", "config": config}
    checker = jsonschema.Draft202012Validator(input_schema(requests.StartTraining))
    assert checker.is_valid(request) is valid
    try:
        requests.StartTraining.model_validate(request)
    except ValueError:
        assert not valid
    else:
        assert valid
