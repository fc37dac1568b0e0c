"""Hostile and broken YAML ends in one sentence, quickly."""

from __future__ import annotations

import pytest

from ktrdr_mcp.errors import InvalidStrategy
from ktrdr_mcp.limits import MAX_STRATEGY_BYTES
from ktrdr_mcp.strategy.parsing import parse_strategy

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
BROKEN = {
    "python object": ("!!python/object/apply:os.system ['true']", "tag"),
    "python name": ("x: !!python/name:os.system", "tag"),
    "local tag": ("x: !secret 1", "tag"),
    "core tag": ("x: !!int '7'", "tag"),
    "binary": ("x: !!binary aGk=", "tag"),
    "alias bomb": (BOMB, "anchor or alias"),
    "endless alias": ("a: &a [*a]", "anchor or alias"),
    "merge key": ("x: {<<: {a: 1}}", "unknown key"),
    "repeated key": ("name: a\nname: b", "Line 2 repeats the key 'name'"),
    "repeated nested key": ("fuzzy_sets:\n  rsi: auto\n  rsi: crisp", "Line 3 repeats"),
    "key that is a number": ("1: a", "not text"),
    "key that is null": ("~: a", "not text"),
    "key that is a list": ("[a]: b", "not text"),
    "tab": ("indicators:\n\t- name: rsi", "line 2, column 1"),
    "open bracket": ("indicators: [", "not YAML"),
    "two documents": ("a: 1\n---\nb: 2", "not YAML"),
    "control character": ("a: \x07", "not YAML"),
    "deep nesting": ("[" * 100_000, "nested too deep"),
    "deep blocks": ("".join(f"{' ' * i}a:\n" for i in range(200)), "nested too deep"),
    "too many values": (f"a: [{'1,' * 40_000}]", "too many values"),
    "directive": ("%YAML 9.9\n---\na: 1", "not YAML"),
    "five megabytes": ("x" * 5_000_000, "bytes"),
    "wide characters": ("\u20ac" * (MAX_STRATEGY_BYTES // 3 + 1), "bytes"),
    "lone surrogate": ("a: \ud800", "not YAML"),
    "date with month 13": ("a: 2025-13-45", "unknown key"),
    "integer of 5000 digits": (f"description: {'7' * 5000}", "is Infinity, not text"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_yaml_is_refused(text, message):
    with pytest.raises(InvalidStrategy) as caught:
        parse_strategy(text, "s")
    assert message in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.hint


def test_plain_words_have_the_types_of_yaml_1_2():
    text = "indicators: [{name: rsi, period: %s}]\nfuzzy_sets: {rsi: auto}"
    read = {
        word: parse_strategy(text % word, "s").indicators[0].params["period"]
        for word in ("14", "-3", "1e-3", "2.", ".5", "0x10", "010", "12:30", "yes", "1_000")
    }
    assert read == {
        "14": 14,
        "-3": -3,
        "1e-3": 0.001,
        "2.": 2.0,
        ".5": 0.5,
        "0x10": "0x10",
        "010": 10.0,
        "12:30": "12:30",
        "yes": "yes",
        "1_000": "1_000",
    }
