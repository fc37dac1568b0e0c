"""What the screens say of models, backtests, comparisons and strategies."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from ktrdr_mcp.cli import screens
from ktrdr_mcp.paths import find_workspace
from ktrdr_mcp.schemas import responses
from tests.support.command_line import QUICK


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_with_data_is_a_workspace(tmp_path) -> None:
    assert find_workspace(None, {}, tmp_path).root != tmp_path
    (tmp_path / "data").mkdir()
    assert find_workspace(None, {}, tmp_path).root == tmp_path


@pytest.mark.parametrize(
    "line", [("train", "NONE", "1h"), ("predict", "none"), ("performance", "none")], ids=" ".join
)
def test_what_is_not_found_is_said_with_the_workspace_that_was_searched(
    run, tmp_path, line
) -> None:
    assert str(tmp_path / "workspace") in run(*line).stderr
    assert str(tmp_path) not in run(*line, "--json").stdout


def test_the_screen_has_a_colour_for_each_verdict_that_a_reply_can_have() -> None:
    fields = responses.Verdict.model_fields
    assert set(screens.TRADING_STYLES) == set(get_args(fields["trading"].annotation))
    assert set(screens.PREDICTION_STYLES) == set(get_args(fields["prediction"].annotation))


def test_an_index_has_its_usual_name(run, tmp_path, bars_file) -> None:
    bars_file("^GSPC_1h.csv", folder="workspace/data")
    (series,) = json.loads(run("data", "--symbol", "^gspc", "--json").stdout)["series"]
    assert (series["symbol"], series["bars"], series["defects"]) == ("^GSPC", 3, None)


def test_the_trades_and_the_equity_of_a_backtest_add_up_to_its_figures(
    shop, model, tmp_path
) -> None:
    trades, equity = tmp_path / "trades.csv", tmp_path / "equity.csv"
    files = ("--trades", str(trades), "--equity", str(equity))
    reply = shop.reply("backtest", model, *files)
    for part in ("in_sample", "choosing"):
        of_part = [row for row in rows(trades) if row["part"] == part]
        returns = np.array([float(row["net_return"]) for row in of_part])
        gains, losses = returns[returns > 0].sum(), -returns[returns < 0].sum()
        figures = reply[part]
        assert len(of_part) == figures["trades"] > 0
        assert np.isclose((returns > 0).mean(), figures["win_rate"], atol=1e-6)
        if losses > 0:
            assert np.isclose(gains / losses, figures["profit_factor"], atol=1e-5)
        curve = [float(row["equity"]) for row in rows(equity) if row["part"] == part]
        assert np.isclose(curve[-1] - 1, figures["net_total_return"], atol=1e-6)
        assert sum(int(row["bars"]) for row in of_part) <= len(curve) <= figures["bars"]


def test_a_trade_earns_what_its_prices_and_its_cost_say(shop, model, tmp_path) -> None:
    path = tmp_path / "trades.csv"
    shop.reply("backtest", model, "--trades", str(path), "--cost-bps", "7", "--long-only")
    assert {row["side"] for row in rows(path)} == {"long"}
    for row in rows(path):  # held without a change, a long position earns the ratio of its prices
        gross = float(row["exit_price"]) / float(row["entry_price"]) - 1
        assert np.isclose(float(row["net_return"]), gross - 2 * 7e-4, atol=1e-9)
        assert row["entry_time"] < row["exit_time"]


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_none(shop, model, tmp_path) -> None:
    (tmp_path / "taken").write_text("kept", encoding="utf-8")
    path = tmp_path / "taken" / "trades.csv"
    result = shop.run("backtest", model, "--trades", str(path), "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["error"]["code"] == "storage_error"
    assert [each.read_text(encoding="utf-8") for each in tmp_path.iterdir()] == ["kept"]


def test_a_backtests_screen_has_dates_timeframe_sides_and_cost(shop, model) -> None:
    text = shop.run("backtest", model, "--long-only", "--cost-bps", "7").stdout
    for part in ("AAPL 1h, 2024-08-06 13:30 to 2026-08-05 19:30", "long only", "7 basis points"):
        assert part in text


def test_the_beginning_of_a_task_id_will_do_where_only_one_begins_so(shop, task_id) -> None:
    whole = shop.reply("status", task_id)
    assert shop.reply("status", task_id[:-3]) == whole
    assert shop.reply("performance", task_id[:-3])["task_id"] == task_id
    other = shop.train(seed=7)
    compared = shop.reply("compare", task_id[:-3], other[:-3])
    assert {one["task_id"] for one in compared["tasks"]} == {task_id, other}
    ambiguous = shop.run("cancel", "training_", "--json")
    assert ambiguous.exit_code == 4
    assert json.loads(ambiguous.stdout)["error"]["field"] == "task_id"
    short = shop.run("status", task_id[:3], "--json")
    assert json.loads(short.stdout)["error"]["code"] == "task_not_found"


def test_the_list_of_tasks_keeps_when_and_says_how_they_differ(shop, task_id) -> None:
    shop.train(seed=3, labels={"horizon": 12})
    by_seed = {one["differs"]: one for one in shop.reply("tasks")["tasks"]}
    (differs,) = [text for text in by_seed if "seed=3" in text]
    assert {"epochs=2", "seed=3", "labels.horizon=12"} <= set(differs.split(", "))
    narrow = shop.run("tasks", COLUMNS="60").stdout
    assert by_seed[differs]["created_at"][:16].replace("T", " ") in narrow


def test_a_comparison_names_its_columns_by_rank(shop, task_id) -> None:
    other = shop.train(epochs=3)
    lines = shop.run("compare", task_id, other).stdout.splitlines()
    (header,) = [line.split() for line in lines if line.startswith("setting")]
    assert header == ["setting", "1", "2"]
    (epochs,) = [line.split() for line in lines if line.startswith("epochs")]
    assert sorted(epochs[1:]) == ["2", "3"]


def test_seeds_and_the_noise_control_are_shown(shop) -> None:
    settings = ("--set", "seeds=2", "--set", "seed=5", "--set", "control=true")
    options = ("--epochs", "1", "--set", "hidden_layers=[4]", *settings)
    text = shop.run("train", "AAPL", "1h", *options).stdout
    assert "seeds 5 to 6" in text
    assert "sign-flip control" in text
    assert "sign-flip surrogates were" in text
    assert "4 walk-forward folds" in text


STRATEGY = """name: checked
indicators:
  - {name: rsi, type: rsi, params: {period: 14}}
  - {name: sma, type: sma, params: {period: 30}}
fuzzy_sets: {rsi: {never: [200, 300, 400], low: [0, 20, 60]}, sma: auto}
decisions: {long_only: true}
"""


def test_a_checked_strategy_shows_its_sets_decisions_and_warm_up(run, tmp_path) -> None:
    path = tmp_path / "checked.yaml"
    path.write_text(STRATEGY, encoding="utf-8")
    reply = json.loads(run("strategies", "check", str(path), "--json").stdout)
    assert reply["fuzzy_sets"] == {
        "rsi": {"never": [200.0, 300.0, 400.0], "low": [0.0, 20.0, 60.0]},
        "sma": "auto",
    }
    assert reply["decisions"] == {"long_only": True}
    assert reply["warm_up_bars"] == 29
    assert reply["constant"] is None
    text = run("strategies", "check", str(path), "--data", "AAPL", "1h").stdout
    assert "never [200, 300, 400], low [0, 20, 60]" in text
    assert "rsi_never is the same on every bar" in text
    assert "rsi_low is" not in text


def test_a_strategy_is_checked_by_its_name_and_an_unknown_one_names_those_there_are(run) -> None:
    assert json.loads(run("strategies", "check", "default", "--json").stdout)["name"] == "default"
    refused = run("strategies", "check", "defualt", "--json")
    assert refused.exit_code == 4
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "strategy_not_found"
    assert "default" in error["message"]
    assert "mean_reversion" in error["hint"]


def test_a_run_that_was_not_interrupted_resumes_from_nothing(shop) -> None:
    task_id = shop.reply("train", "AAPL", "1h", *QUICK)["task_id"]
    assert shop.reply("status", task_id)["resumed_from"] is None
