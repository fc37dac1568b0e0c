"""Texts from other people's strategy files reach a caller without what hides or misleads."""

from __future__ import annotations

import pytest

from ktrdr_mcp.schemas import requests
from tests.support.service_calls import Bench

pytestmark = pytest.mark.asyncio

FILE = """\
description: "calm\\u202E\\u200B"  # \u202eelbisivni
indicators: [{name: r, type: rsi, params: {period: 7}}]
fuzzy_sets: {r: auto}
"""


async def test_a_strategy_is_listed_and_shown_without_direction_marks(bench: Bench) -> None:
    folder = bench.workspace.strategies
    folder.mkdir(exist_ok=True)
    (folder / "theirs.yaml").write_text(FILE, encoding="utf-8")
    (folder / "my\u202efile.yaml").write_text(FILE, encoding="utf-8")
    listed = await bench.service.get_available_strategies(requests.ListStrategies())
    texts = [text for one in listed.strategies for text in (one.name, one.description)]
    assert any("calm" in text for text in texts)
    shown = await bench.service.strategy_text(requests.ReadStrategy(name="theirs"))
    assert shown.text.count("\n") == FILE.count("\n")
    asked = requests.ListStrategies(name="theirs")
    assert (await bench.service.get_available_strategies(asked)).text == shown.text
    for text in (*texts, *shown.text.splitlines()):
        assert text.isprintable()
