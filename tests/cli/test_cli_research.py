"""`research` and `explain`: the service's replies, on a terminal and as JSON."""

from __future__ import annotations

import re

import pytest

from ktrdr_mcp.schemas import requests

QUICK = ("--epochs", "2", "--set", "hidden_layers=[8]")


@pytest.fixture(scope="module")
def explained(shop) -> str:
    """A training with folds, saved as the model `second`."""
    task_id = shop.reply("train", "AAPL", "1h", "--strategy", "mean_reversion", *QUICK)["task_id"]
    shop.reply("models", "save", task_id, "second")
    return str(task_id)


def test_the_log_is_the_services_with_its_notes(shop, explained) -> None:
    note = {"note": "[bold]nothing[/] here", "symbol": "AAPL", "timeframe": "1h"}
    shop.ask("add_research_note", requests.AddNote, **note)
    series = {"symbol": "AAPL", "timeframe": "1h"}
    asked = shop.ask("research_log", requests.ReadResearch, **series, limit=20)
    assert shop.reply("research", "AAPL", "1h") == asked
    assert explained in [each["task_id"] for each in asked["trials"]]
    text = shop.run("research").stdout
    assert explained in text
    assert "[bold]nothing[/] here" in text
    assert shop.reply("research", "MSFT")["trials"] == []
    assert "Nothing was tried yet" in shop.run("research", "MSFT").stdout


def test_an_explanation_is_that_of_a_model_or_of_the_beginning_of_a_task(shop, explained) -> None:
    by_name = shop.reply("explain", "second")
    by_id = shop.reply("explain", explained[:-2])
    assert by_id.pop("test_readings") == by_name.pop("test_readings") + 1
    assert by_id == by_name
    assert by_name["task_id"] == explained
    text = shop.run("explain", "second").stdout
    assert by_name["summary"] in text
    for each in by_name["groups"]:
        assert re.search(rf"^{each['group']} ", text, re.MULTILINE)
    for rule in by_name["rules"]:
        cells = f"{rule['when']}  {rule['leans']} .* {rule['fidelity']:.0%} "
        assert re.search(cells.replace(" ", " +"), text)


def test_what_has_no_explanation_is_refused(shop) -> None:
    result = shop.run("explain", "nobody", "--json")
    assert result.exit_code == 4
    assert '"task_not_found"' in result.stdout
