"""`--set` spells nested settings."""

from __future__ import annotations

import click
import pytest

from ktrdr_mcp.cli.training import nest_settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[32, 16]", [32, 16]),
        ('"5"', "5"),
        ('{"patience": 3}', {"patience": 3}),
        ("zigzag", "zigzag"),
        ("a=b", "a=b"),
        ("", ""),
        ("[1,", "[1,"),
    ],
)
def test_a_value_is_json_or_else_text(text, value) -> None:
    assert nest_settings([f"key={text}"]) == {"key": value}


def test_dots_lead_inside() -> None:
    settings = nest_settings(["a.b.c=1", "a.b.d=2", "a.e=3", "f=4"])
    assert settings == {"a": {"b": {"c": 1, "d": 2}, "e": 3}, "f": 4}


@pytest.mark.parametrize(
    "texts",
    [["a"], ["=1"], [""], ["a.=1"], [".a=1"], ["a=1", "a=1"], ["a=1", "a.b=2"], ["a.b=1", "a=2"]],
)
def test_what_is_no_setting_or_contradicts_another_is_refused(texts) -> None:
    with pytest.raises(click.BadParameter):
        nest_settings(texts)
