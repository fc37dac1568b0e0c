"""KTRDR's later client beside this server: its calls, with and without the prefix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from tests.support.background_servers import wait_until
from tests.support.http_process import ServeProcess

STRATEGY = """
name: quick
indicators: [{name: rsi_7, type: rsi, params: {period: 7}}]
fuzzy_sets: {rsi_7: auto}
model: {type: mlp, architecture: {hidden_layers: [4]}, training: {epochs: 3}}
"""
SERIES = {"symbols": ["AAPL"], "timeframes": ["1h"]}
RANGE = {"start_date": "2024-08-06", "end_date": "2024-12-31"}
START = {**SERIES, **RANGE, "strategy_name": "quick", "task_id": "first"}
BLOCKING = {"symbol": "AAPL", "timeframe": "1d", "config": {"epochs": 100_000}, "task_id": "long"}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServeProcess]:
    """A server with a quick strategy."""
    folder = tmp_path_factory.mktemp("ktrdr")
    (folder / "strategies").mkdir()
    (folder / "strategies" / "quick.yaml").write_text(STRATEGY, encoding="utf-8")
    with ServeProcess(folder, "--executor", "threads") as process:
        yield process


@pytest.fixture(scope="module", params=["", "/api/v1"])
def client(server, request) -> Iterator[httpx2.Client]:
    """A client with that client's settings."""
    where, head = server.url + request.param, {"Content-Type": "application/json"}
    with httpx2.Client(base_url=where, headers=head, timeout=90, trust_env=False) as http:
        yield http


@pytest.fixture(scope="module")
def started(client: httpx2.Client) -> dict[str, Any]:
    """The reply to its start of a training, which has ended since."""
    body = client.post("/trainings/start", json={**START, "detailed_analytics": True}).json()
    ended = client.get("/trainings/first", params={"wait_s": 50}).json()
    assert ended["status"] == "completed", ended
    return dict(body)


def refusal(answer: httpx2.Response) -> tuple[int, str, str]:
    document = answer.json()
    assert isinstance(document["detail"], str)
    return answer.status_code, document["error"]["code"], document["error"]["field"]


def test_a_start_answers_with_lists_and_the_id_that_was_sent(started) -> None:
    for told in (started, started["data"]):
        assert told["task_id"] == told["operation_id"] == "first"
        assert (told["symbols"], told["timeframes"]) == (["AAPL"], ["1h"])
        assert told["strategy_name"] == "quick"
        assert type(told["estimated_duration_minutes"]) is int
    assert started["success"] is True


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbols": ["AAPL", "MSFT"]}, "symbols"),
        ({"timeframes": ["1h", "1d"]}, "timeframes"),
        ({"symbols": []}, "symbols"),
        ({"strategy_name": None}, "strategy_name"),
        ({"epochs": 3}, "epochs"),
    ],
)
def test_what_one_training_cannot_have_is_refused(client, change, field) -> None:
    answer = client.post("/trainings/start", json={**START, "task_id": "other", **change})
    assert refusal(answer) == (422, "invalid_request", field)
    assert client.get("/trainings/other").status_code == 404


def test_a_list_that_names_the_same_twice_names_one(client, started) -> None:
    again = client.post("/trainings/start", json={**START, "symbols": ["AAPL", "aapl"]})
    assert again.json()["task_id"] == "first"


def test_status_and_performance_are_the_contracts_with_that_clients_fields(client, started) -> None:
    status = client.get("/trainings/first").json()
    ours = client.get("/training/first").json()
    assert status == {**ours, "symbols": ["AAPL"], "timeframes": ["1h"]}
    performance = client.get("/trainings/first/performance").json()
    info = performance["model_info"]
    assert info["model_size_bytes"] == 4 * info["parameters_count"]
    assert performance["verdict"] == client.get("/training/first/performance").json()["verdict"]


def test_the_list_of_operations_is_the_list_of_tasks(client, started) -> None:
    listed = client.get("/operations", params={"limit": 10, "offset": 0}).json()
    ours = client.get("/training").json()["tasks"]
    assert listed["total_count"] == len(listed["data"]) == len(ours)
    assert [row["operation_id"] for row in listed["data"]] == [each["task_id"] for each in ours]
    (row,) = client.get("/operations", params={"status": "completed"}).json()["data"]
    assert row["operation_id"] == "first"
    assert (row["operation_type"], row["status"]) == ("training", "completed")
    assert row["progress_percentage"] == 100.0
    assert datetime.fromisoformat(row["created_at"]).tzinfo
    shown = client.get("/operations/first").json()["data"]
    began, ended = (datetime.fromisoformat(shown[name]) for name in ("started_at", "completed_at"))
    assert row["duration_seconds"] == (ended - began).total_seconds()
    assert row["current_step"] is None
    for query, count in (
        ({"status": "completed"}, 1),
        ({"status": "failed"}, 0),
        ({"active_only": "true"}, 0),
        ({"operation_type": "training"}, len(ours)),
        ({"operation_type": "backtesting"}, 0),
        ({"offset": len(ours)}, 0),
    ):
        found = client.get("/operations", params=query).json()
        assert (len(found["data"]), found["active_count"]) == (count, 0), query
    assert client.get("/operations", params={"status": "nonsense"}).status_code == 422


def test_an_operation_has_progress_metadata_and_results(client, started) -> None:
    data = client.get("/operations/first").json()["data"]
    assert (data["status"], data["progress"]["percentage"]) == ("completed", 100.0)
    assert data["progress"]["steps_completed"] == data["progress"]["steps_total"] == 3
    assert (data["metadata"]["symbol"], data["metadata"]["timeframe"]) == ("AAPL", "1h")
    assert data["metadata"]["parameters"]["strategy_name"] == "quick"
    times = [data[name] for name in ("created_at", "started_at", "completed_at")]
    assert times == sorted(times)
    results = client.get("/operations/first/results").json()
    assert results["operation_id"] == "first"
    metrics = results["results"]["test_metrics"]
    summary = data["result_summary"]["test_metrics"]
    assert summary == pytest.approx({name: metrics[name] for name in summary}, abs=1e-4)
    assert metrics == client.get("/training/first/performance").json()["test_metrics"]


def test_the_metrics_of_an_operation_are_its_epochs_and_no_reading(client, started) -> None:
    readings = client.get("/training/first/performance").json()["test_readings"]
    data = client.get("/operations/first/metrics").json()["data"]
    metrics = data["metrics"]
    assert [each["epoch"] for each in metrics["epochs"]] == [1, 2, 3]
    lowest = min(metrics["epochs"], key=lambda each: each["val_loss"])
    assert metrics["best_epoch"] == lowest["epoch"]
    assert metrics["epochs_since_improvement"] == 3 - lowest["epoch"]
    assert metrics["total_epochs_planned"] == metrics["total_epochs_completed"] == 3
    later = client.get("/training/first/performance").json()["test_readings"]
    assert later == readings + 1


@pytest.mark.parametrize("body", [b"null", b'{"reason": "enough"}', b""])
def test_an_operation_is_cancelled_by_delete(client, body) -> None:
    task_id = f"long{len(body)}{'v1' if client.base_url.path.startswith('/api') else ''}"
    client.post("/training/start", json={**BLOCKING, "task_id": task_id})
    listed = client.get("/operations", params={"active_only": "true"}).json()
    assert listed["active_count"] == len(listed["data"]) == 1
    assert listed["data"][0]["status"] in {"pending", "running"}
    wait_until(lambda: client.get(f"/training/{task_id}").json()["current_epoch"] > 0)
    (running,) = client.get("/operations", params={"status": "running"}).json()["data"]
    assert re.fullmatch(r"epoch [1-9][0-9]* of 100000", running["current_step"])
    created = datetime.fromisoformat(running["created_at"])
    assert 0 <= running["duration_seconds"] <= (datetime.now(UTC) - created).total_seconds()
    early = client.get(f"/operations/{task_id}/results")
    assert refusal(early) == (400, "task_not_completed", "operation_id")
    answer = client.request("DELETE", f"/operations/{task_id}", content=body)
    assert answer.status_code == 200
    assert answer.json()["data"]["cancellation_reason"] == ("enough" if b"enough" in body else None)
    assert client.get(f"/training/{task_id}?wait_s=50").json()["status"] == "cancelled"
    assert client.get(f"/operations/{task_id}").json()["data"]["status"] == "cancelled"
    told = client.get(f"/operations/{task_id}/results").json()
    assert told["results"] == {"error": None, "error_code": None}


@pytest.mark.parametrize("path", ["", "/results", "/metrics"])
def test_an_operation_that_there_is_not_is_not_found(client, path) -> None:
    assert client.get(f"/operations/nothing{path}").json()["error"]["code"] == "task_not_found"


def test_symbols_have_their_timeframes(client) -> None:
    (aapl,) = client.get("/symbols").json()["data"]
    assert aapl["symbol"] == "AAPL"
    assert {"1h", "1d"} <= set(aapl["available_timeframes"])


def test_indicators_have_both_forms_where_the_slash_is_sent(client) -> None:
    both = client.get("/indicators/").json()
    ours = client.get("/indicators").json()
    assert {name: value for name, value in both.items() if name != "data"} == ours
    found = {each["id"]: each for each in both["data"]}
    assert set(found) == {each["type"] for each in ours["indicators"]}
    (period,) = [each for each in found["rsi"]["parameters"] if each["name"] == "period"]
    assert (period["type"], period["default"]) == ("int", 14)
    assert period["min_value"] < 14 < period["max_value"]
    for each in found.values():
        for parameter in each["parameters"]:
            if parameter["options"] is not None:
                assert parameter["default"] in parameter["options"], each["id"]


def test_bars_come_as_dates_and_rows(client) -> None:
    whole = client.get("/data/AAPL/1d").json()["data"]
    assert len(whole["dates"]) == len(whole["ohlcv"]) == whole["metadata"]["points"] > 10_000
    for opening, high, low, close, volume in whole["ohlcv"]:
        ulp = 1e-12 * high  # adjusted prices are rounded each by itself
        assert low - ulp <= min(opening, close) <= max(opening, close) <= high + ulp
        assert volume >= 0
    assert whole["dates"] == sorted(set(whole["dates"]))
    query = {"start_date": "2024-01-02", "end_date": "2024-01-31"}
    part = client.get("/data/aapl/1d", params=query).json()["data"]
    place = whole["dates"].index(part["dates"][0])
    assert part["ohlcv"] == whole["ohlcv"][place : place + len(part["dates"])]
    assert part["metadata"]["start"][:7] == part["metadata"]["end"][:7] == "2024-01"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/data/MSFT/1d", "data_not_found"),
        ("/data/AAPL/2h", "invalid_name"),
        ("/data/AAPL/1d?start_date=2040-01-01", "not_enough_data"),
        ("/data/AAPL/1d?trading_hours_only=true", "invalid_request"),
    ],
)
def test_bars_that_there_are_not_are_refused_with_a_reason(client, path, code) -> None:
    assert client.get(path).json()["error"]["code"] == code
