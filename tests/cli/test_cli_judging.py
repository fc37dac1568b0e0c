"""compare, reproduce and backtest on the command line."""

from __future__ import annotations

from ktrdr_mcp.schemas import requests


def test_comparing_two_trainings_prints_the_services_reply(shop) -> None:
    ids = [shop.train(seed=seed) for seed in (11, 12)]
    asked = shop.ask("compare_trainings", requests.CompareTrainings, task_ids=ids)
    assert shop.reply("compare", *ids) == asked
    shown = shop.run("compare", *ids).output
    assert asked["summary"].split()[0] in shown
    assert "seed" in shown


def test_one_task_is_nothing_to_compare(shop) -> None:
    assert shop.run("compare", "only-one").exit_code == 4


def test_a_reproduction_says_match(shop) -> None:
    task_id = shop.train(seed=13)
    assert shop.reply("reproduce", task_id)["result"] == "match"
    assert "match" in shop.run("reproduce", task_id).output


def test_a_backtest_prints_its_parts(shop) -> None:
    task_id = shop.train(seed=14)
    assert shop.run("models", "save", task_id, "judged").exit_code == 0
    reply = shop.reply("backtest", "judged", "--cost-bps", "10", "--long-only")
    assert (reply["cost_bps"], reply["long_only"]) == (10.0, True)
    shown = shop.run("backtest", "judged").output
    assert "seen in choosing" in shown
    assert "seen in training" in shown
