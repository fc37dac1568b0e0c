"""`--json` is the contract's reply and nothing else."""

from __future__ import annotations

import json

import pytest

from ktrdr_mcp.schemas import requests, responses
from tests.support.service_calls import card_of, names_of, strategy_of


def test_train_prints_the_performance_and_the_warnings_of_the_start(shop) -> None:
    result = shop.run(
        "train", "AAPL", "1h", "--epochs", "1", "--set", "walk_forward=null", "--json"
    )
    reply = responses.ModelPerformance.model_validate_json(result.stdout)
    assert reply.training_metrics.epochs_completed == 1
    printed = json.loads(result.stdout)
    assert printed.keys() - responses.ModelPerformance.model_fields.keys() == {"warnings"}
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("line", "method", "request_model", "raw"),
    [
        (["tasks"], "list_training_tasks", requests.ListTasks, {"limit": 20}),
        (
            ["tasks", "--status", "failed", "--symbol", "msft", "--limit", "3", "--offset", "1"],
            "list_training_tasks",
            requests.ListTasks,
            {"status": "failed", "symbol": "MSFT", "limit": 3, "offset": 1},
        ),
        (["models"], "list_trained_models", requests.ListModels, {"limit": 20}),
        (["models", "list"], "list_trained_models", requests.ListModels, {"limit": 20}),
        (
            ["models", "--symbol", "AAPL"],
            "list_trained_models",
            requests.ListModels,
            {"symbol": "AAPL", "limit": 20},
        ),
        (["models", "load", "first"], "load_trained_model", requests.LoadModel, {}),
        (["data"], "get_market_data_summary", requests.SummarizeData, {"limit": 100}),
        (
            ["data", "list", "--limit", "1"],
            "get_market_data_summary",
            requests.SummarizeData,
            {"limit": 1},
        ),
        (
            ["predict", "first", "--date", "2025-06-09"],
            "test_model_prediction",
            requests.Predict,
            {"symbol": "AAPL", "timeframe": "1h", "test_date": "2025-06-09"},
        ),
    ],
)
def test_a_reply_is_the_services(shop, model, line, method, request_model, raw) -> None:
    named = {"model_name": model} if "model_name" in request_model.model_fields else {}
    assert shop.reply(*line) == shop.ask(method, request_model, **named, **raw)


@pytest.mark.parametrize(
    ("command", "method", "request_model"),
    [
        ("status", "get_training_status", requests.GetTrainingStatus),
        ("cancel", "cancel_training", requests.TaskOnly),
    ],
)
def test_a_reply_about_a_task_is_the_services(
    shop, task_id, command, method, request_model
) -> None:
    assert shop.reply(command, task_id) == shop.ask(method, request_model, task_id=task_id)


def test_a_performance_is_the_services_but_for_the_count_of_readings(shop, task_id) -> None:
    told = shop.reply("performance", task_id)
    asked = shop.ask("get_model_performance", requests.TaskOnly, task_id=task_id)
    assert asked.pop("test_readings") == told.pop("test_readings") + 1
    assert told == asked


def test_saving_again_gives_the_version_that_exists(shop, task_id, model) -> None:
    reply = responses.ModelSaved.model_validate(shop.reply("models", "save", task_id, model))
    assert not reply.created


def test_a_prediction_counts_no_reading_of_the_test_results(shop, task_id, model) -> None:
    before = shop.reply("performance", task_id)["test_readings"]
    told = shop.reply("predict", model)
    assert (told["symbol"], told["timeframe"]) == ("AAPL", "1h")
    assert shop.reply("performance", task_id)["test_readings"] == before + 1


def test_a_model_card_is_the_services(shop, model) -> None:
    assert shop.reply("models", "show", model) == shop.portal.call(card_of, shop.service, model)


def test_a_checked_file_is_summarized_as_data(run, bars_file) -> None:
    result = run("data", "check", str(bars_file()), "--json")
    series = responses.DataSummary.model_validate_json(result.stdout).series[0]
    assert (series.symbol, series.timeframe, series.bars) == ("TEST", "1h", 3)
    assert series.last_bar == "2024-01-01T02:00:00Z"


def test_strategies_are_listed_shown_and_checked(shop, tmp_path) -> None:
    listed = shop.reply("strategies")
    names = [one["name"] for one in listed["strategies"]]
    assert names == shop.portal.call(names_of, shop.service, "strategy", "")
    text = shop.reply("strategies", "show", "default")["text"]
    assert text == shop.portal.call(strategy_of, shop.service, "default")
    copy = tmp_path / "default.yaml"
    copy.write_text(text, encoding="utf-8")
    assert shop.reply("strategies", "check", str(copy))["indicators"] == [
        "rsi_14",
        "sma_20",
        "ema_20",
    ]
    text = "version: 1\nindicators: [{name: macd, raw: true}]\nfuzzy_sets: {macd: auto}\n"
    copy.write_text(text, encoding="utf-8")
    checked = shop.reply("strategies", "check", str(copy))
    assert checked["ignored"] == ["version", "indicators.macd.raw"]
    unread, default, units = checked["warnings"]
    assert "version" in unread
    assert "include_price_context" in default
    assert "price units" in units


def test_an_error_is_the_one_shape_on_standard_output(shop) -> None:
    result = shop.run("status", "no-such-task", "--json")
    assert result.exit_code == 4
    assert result.stderr == ""
    shape = json.loads(result.stdout)
    assert set(shape) == {"success", "detail", "error"}
    assert shape["success"] is False
    assert set(shape["error"]) == {"code", "message", "hint", "field"}
    assert shape["error"]["code"] == "task_not_found"
