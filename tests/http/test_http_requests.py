"""What a request may say, and what every refusal looks like."""

from __future__ import annotations

import json

import pytest

from ktrdr_mcp.errors import KtrdrError
from tests.support.asgi_requests import JSON, LOCAL, ask
from tests.support.fake_service import every_error_class

pytestmark = pytest.mark.asyncio

BODIES = {
    "nothing": (b"", "symbol is missing"),
    "half an object": (b'{"symbol": ', "not JSON"),
    "two objects": (b"{} {}", "not JSON"),
    "a list": (b"[1]", "a list, not an object"),
    "text": (b'"AAPL"', "text, not an object"),
    "null": (b"null", "null, not an object"),
    "a key twice": (b'{"symbol": "AAPL", "symbol": "MSFT"}', "'symbol' is there twice"),
    "a nested key twice": (b'{"config": {"epochs": 1, "epochs": 2}}', "'epochs' is there twice"),
    "NaN": (b'{"config": {"learning_rate": NaN}}', "NaN is not JSON"),
    "Infinity": (b'{"config": {"learning_rate": -Infinity}}', "-Infinity is not JSON"),
    "a number beyond floats": (
        b'{"symbol": "AAPL", "timeframe": "1h", "config": {"learning_rate": 1e999}}',
        "learning_rate",
    ),
    "ten thousand digits": (b'{"config": {"epochs": ' + b"9" * 10_000 + b"}}", "digits"),
    "not UTF-8": (b'{"symbol": "\xff"}', "not UTF-8"),
    "UTF-16": ('{"symbol": "AAPL"}'.encode("utf-16"), "not UTF-8"),
    "a lone surrogate": (rb'{"symbol": "\ud800", "timeframe": "1h"}', "valid symbol"),
    "deep lists": (b'{"config": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "levels deep"),
    "deep objects": (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "levels deep"),
    "a text without an end": (b'"' + rb"\"" * 500_000, "not JSON"),
    "an unknown key": (b'{"symbol": "AAPL", "timeframe": "1h", "epochs": 3}', "'epochs'"),
    "half a number as text": (
        b'{"symbol": "AAPL", "timeframe": "1h", "config": {"epochs": "7.5"}}',
        "whole number",
    ),
}


@pytest.mark.parametrize(("body", "words"), BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_no_request_is_refused(api, service, body, words) -> None:
    answer = await ask(api.guard, "POST", "/training/start", [LOCAL, JSON], body)
    assert answer.status == 422
    assert words in answer.error["message"]
    assert len(answer.body) < 1_500
    assert service.calls == []


async def test_brackets_inside_a_text_are_not_depth(api, service) -> None:
    body = json.dumps({"task_id": "t", "model_name": "m", "description": '["{' * 60}).encode()
    answer = await ask(api.guard, "POST", "/models/save", [LOCAL, JSON], body)
    assert answer.status == 200
    assert service.calls[0][1].description == '["{' * 60


QUERIES = {
    "/training?limit=ten": "whole number",
    "/training?limit=3.5": "whole number",
    "/training?limit=0": "at least 1",
    "/training?limit=1001": "at most 1,000",
    "/training?limit=1&limit=2": "twice",
    "/training?status=done": "not known",
    "/training?state=failed": "Did you mean 'status'?",
    "/training?symbol=": "symbol",
    "/training/x?wait_s=51": "at most 50",
    "/training/x?wait_s=NaN": "a number",
    "/training/x?wait_s=1e999": "wait_s",
    "/training/x?task_id=y": "the path says 'x'",
    "/training/%2e%2e": "task id",
    "/training/a%00b": "task id",
    "/models/A": "model name",
    "/strategies/..%5Cx": "strategy name",
    "/complete": "kind is missing",
    "/complete?kind=password&prefix=": "not known",
    "/health?token=x": "'token'",
}


@pytest.mark.parametrize(("path", "words"), QUERIES.items(), ids=QUERIES.keys())
async def test_a_path_or_query_that_is_no_request_is_refused(api, service, path, words) -> None:
    target, _, query = path.partition("?")
    decoded = target.replace("%2e", ".").replace("%00", "\0").replace("%5C", "\\")
    answer = await ask(api.guard, "GET", f"{decoded}?{query}")
    assert answer.status == 422
    assert words in answer.error["message"]
    assert service.calls == []


async def test_a_query_has_no_place_beside_a_body(api, service) -> None:
    answer = await ask(api.guard, "POST", "/training/x/cancel?force=1")
    assert (answer.status, service.calls) == (422, [])
    assert "'force'" in answer.error["message"]


async def test_path_and_body_must_not_contradict_each_other(api) -> None:
    answer = await ask(
        api.guard, "POST", "/models/alpha/load", [LOCAL, JSON], b'{"model_name": "beta"}'
    )
    assert (answer.status, answer.error["field"]) == (422, "model_name")


async def test_numbers_of_a_query_reach_the_server_as_numbers(api, service) -> None:
    await ask(api.guard, "GET", "/training/x?wait_s=2.5")
    await ask(api.guard, "GET", "/training?limit=3&offset=2&status=failed&symbol=aapl")
    (_, status), (_, page) = service.calls
    assert status.wait_s == 2.5
    assert (page.limit, page.offset, page.status, page.symbol) == (3, 2, "failed", "AAPL")


async def test_a_list_gives_a_thousand_rows_unless_told_otherwise(api, service) -> None:
    for path in ("/models", "/training", "/data"):
        await ask(api.guard, "GET", path)
    assert [request.limit for _, request in service.calls] == [1_000] * 3


@pytest.mark.parametrize("error_class", every_error_class(), ids=lambda kind: kind.__name__)
async def test_every_error_has_its_status_and_the_one_shape(api, service, error_class) -> None:
    service.failure = error_class("Something is wrong.", hint="Do that.", field="config.epochs")
    answer = await ask(api.guard, "GET", "/models")
    assert answer.status == error_class.http_status
    assert answer.error == service.failure.to_dict()["error"]


STATUS_TABLE = {
    "invalid_request": 422,
    "invalid_name": 422,
    "limit_exceeded": 422,
    "invalid_strategy": 422,
    "data_invalid": 422,
    "not_enough_data": 422,
    "task_not_found": 404,
    "model_not_found": 404,
    "data_not_found": 404,
    "strategy_not_found": 404,
    "task_not_completed": 409,
    "task_conflict": 409,
    "model_name_taken": 409,
    "result_removed": 410,
    "unauthorized": 401,
    "origin_refused": 403,
    "host_refused": 421,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "not_json": 415,
    "queue_full": 429,
    "draining": 503,
    "lab_unavailable": 503,
    "storage_full": 507,
}


async def test_the_status_table_is_the_one_that_was_promised() -> None:
    statuses = {kind.code: kind.http_status for kind in every_error_class()}
    assert {code: statuses.get(code) for code in STATUS_TABLE} == STATUS_TABLE


async def test_an_internal_error_shows_nothing_of_its_inside(api, service, caplog) -> None:
    service.failure = RuntimeError("secret path /home/somebody")
    answer = await ask(api.guard, "GET", "/models")
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body
    assert "secret path" in caplog.text


async def test_an_unknown_path_names_the_nearest_route(api) -> None:
    answer = await ask(api.guard, "GET", "/trainings")
    assert answer.status == 404
    assert "Did you mean '/training'?" in answer.error["message"]


@pytest.mark.parametrize("path", ["//training", "/api/v1", "/api/v2/training", "/training//", "/;"])
async def test_only_one_prefix_and_one_slash_are_forgiven(api, path) -> None:
    answer = await ask(api.guard, "GET", path)
    assert answer.status in {404, 422}
    assert answer.error


async def test_a_wrong_method_is_told_the_right_ones(api) -> None:
    for path, allowed in (("/training/start", "POST"), ("/training/x", "GET"), ("/docs", "GET")):
        answer = await ask(api.guard, "DELETE", path)
        assert answer.status == 405
        assert answer.headers["allow"].removesuffix(", HEAD") == allowed
        assert allowed in answer.error["hint"]


async def test_an_error_that_nobody_named_is_still_an_error_of_ours() -> None:
    assert KtrdrError("a", hint="b").http_status == 500
